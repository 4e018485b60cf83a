"""What people did with answers: the routes, and the gauges."""

import re
import time
from typing import Any

from serving.service.outcomes import METRICS
from serving.service.store import Store, open_store
from serving.service.types import Event, Item, ShownItem, ShownRecommendation
from tests.serving.service.api.inside import EmptyStore, Inside, problem
from tests.serving.service.databases import BOTH
from tests.serving.service.recommender.waiting import until

pytestmark = BOTH
HOUR = 3_600


def fill(store: Store, now: float, people: int = 20) -> None:
    """An answer of two items for each person, of whom half click; half of them read Korean, the others Arabic."""
    store.put_items([Item(item_id=name, language="ko") for name in ("茶壺", "🫖", "c", "d")])
    store.log_recommendations(
        [
            ShownRecommendation(
                recommendation_id=f"r{number}",
                timestamp=now,
                user_id=f"민수{number}",
                language="ko" if number % 4 < 2 else "ar",
                model_version=7,
                items=[ShownItem(item_id=item, score=1.0) for item in ("茶壺", "🫖")],
            )
            for number in range(people)
        ]
    )
    clicks = [
        Event(
            event_id=f"c{number}",
            event="click",
            timestamp=int(now) + 1,
            user_id=f"민수{number}",
            item_id="🫖",
            recommendation_id=f"r{number}",
        )
        for number in range(0, people, 2)
    ]
    store.append_events([*clicks, Event(event_id="x", event="click", timestamp=int(now), user_id="x", item_id="🫖")])


def ask(service: Inside, **parameters: Any) -> Any:
    response = service.call("GET", "/v1/metrics", key="read-only", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def test_figures_of_the_last_week(service: Inside) -> None:
    fill(service.store, time.time() - HOUR)
    asked = time.time()
    found = ask(service, by="language,version")
    assert found["until"] - found["since"] == 7 * 86_400
    assert found["until"] >= asked
    assert found["level"] == 0.95
    everything = found["all"]
    assert (everything["answers"], everything["people"], list(everything["metrics"])) == (20, 20, list(METRICS))
    ctr = everything["metrics"]["ctr"]
    assert ctr["value"] == 0.25
    assert 0.1 < ctr["low"] < 0.25 < ctr["high"] < 0.5
    assert (ctr["people"], ctr["count"], ctr["why"]) == (20, 40, "")
    assert everything["metrics"]["coverage"]["value"] == 0.5
    assert everything["metrics"]["satisfaction"] == {
        "value": None,
        "low": None,
        "high": None,
        "people": 0,
        "count": 0,
        "why": "nothing to measure",
    }
    assert found["uncounted"]["no_answer"] == 1
    assert found["open"]["purchases"] == 1.0
    assert [each["labels"] for each in found["slices"]] == [
        {"language": "ar", "version": "7"},
        {"language": "ko", "version": "7"},
    ]
    assert ask(service, complete=True)["all"]["metrics"]["ctr"]["value"] is None
    assert ask(service, since=0, until=5)["all"]["answers"] == 0


def test_who_may_ask_for_what(service: Inside) -> None:
    for path in ("/v1/metrics", "/v1/metrics/drift"):
        for key in ("app", service.token("민수")):
            problem(service.call("GET", path, key=key), 403)
        problem(service.call("GET", path, key=None), 401)
        for parameters in ({"since": "nan"}, {"until": "1e400"}, {"since": -1}, {"until": "yesterday"}):
            problem(service.call("GET", path, params=parameters), 422)
        assert "Remedy" in problem(service.call("GET", path, params={"since": 9, "until": 9}), 422)
        assert "92" in problem(service.call("GET", path, params={"since": 0}), 422)
    for by in ("langage", "day,day", "day,", "a" * 300, "\0", "day,language,country,version"):
        problem(service.call("GET", "/v1/metrics", params={"by": by}), 422)


def test_drift(service: Inside) -> None:
    now = time.time() - HOUR
    fill(service.store, now)
    response = service.call("GET", "/v1/metrics/drift", key="read-only")
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["reference_until"] == found["since"]
    assert found["since"] - found["reference_since"] == found["until"] - found["since"]
    assert found["new_versions"] == ["7"]
    assert {each["reading"] for each in found["changes"]} == {"too few people"}
    same = {"since": now - 9, "until": now + 9, "reference_since": now - 9, "reference_until": now + 9}
    found = service.call("GET", "/v1/metrics/drift", params=same).json()
    assert [(each["name"], each["psi"], each["reading"]) for each in found["changes"]] == [
        ("language", 0.0, "none"),
        ("country", 0.0, "none"),
        ("placement", 0.0, "none"),
        ("history", 0.0, "none"),
        ("item_language", 0.0, "none"),
        ("scores of version 7", 0.0, "none"),
    ]


def test_the_description_has_all_of_it(service: Inside) -> None:
    schemas = service.call("GET", "/openapi.json", key=None).json()["components"]["schemas"]
    metrics = schemas["Slice"]["properties"]["metrics"]
    assert metrics["additionalProperties"] == {"$ref": "#/components/schemas/Figure"}
    assert schemas["Report"]["properties"]["slices"]["items"] == {"$ref": "#/components/schemas/Slice"}
    assert all(each["description"] for each in schemas["Report"]["properties"].values() if "$ref" not in each)


def test_gauges(empty_store: EmptyStore) -> None:
    with open_store(empty_store.url) as store:
        fill(store, time.time() - HOUR, 80)
    with Inside(*empty_store, outcome_seconds=3600.0, outcome_hours=2.0) as service:

        async def is_there() -> bool:
            page = (await service.request("GET", "/metrics", key=None)).text
            return "babelrec_service_outcome_made_seconds" in page

        service.run(until(is_there))
        page = service.call("GET", "/metrics", key=None).text
        found = dict(
            re.findall(r'^babelrec_service_outcome(\S*?)\{.*language="ko".*metric="ctr".*\} (\S+)$', page, re.MULTILINE)
        )
        assert float(found[""]) == 0.25
        assert 0.1 < float(found["_low"]) < 0.25 < float(found["_high"]) < 0.5
        assert 'babelrec_service_outcome_answers{language="ar",model_version="7"} 40.0' in page
        assert 'babelrec_service_outcome_uncounted_events{reason="no_answer"} 1.0' in page
    with Inside(*empty_store) as service:
        assert "outcome" not in service.call("GET", "/metrics", key=None).text
