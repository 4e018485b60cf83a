"""What the console looks at: people, histories, items, and the state of the service."""

from urllib.parse import quote

from tests.serving.service.api.inside import Inside, event, problem
from tests.serving.service.databases import BOTH

pytestmark = BOTH


def test_the_state(service: Inside) -> None:
    service.recommender.waiting_items = 3
    service.call("PUT", "/v1/items/1", {"language": "ja"})
    expected = {"model_version": 7, "degraded": False, "waiting_items": 3, "items": 1}
    assert service.call("GET", "/v1/status", key="read-only").json() == expected
    service.recommender.ready = False
    assert service.call("GET", "/v1/status").json()["degraded"] is True
    problem(service.call("GET", "/v1/status", key="app"), 403)


def test_people(service: Inside) -> None:
    service.call("PUT", "/v1/users/%EB%AF%BC%EC%88%98", {"languages": ["ko"]})
    events = [event(1, user_id="ana", timestamp=1796000000), event(2, user_id="anton", timestamp=1796000100)]
    service.call("POST", "/v1/events", [*events, event(3)])
    found = service.call("GET", "/v1/users").json()
    assert [each["user_id"] for each in found] == ["anton", "ana", "민수"]
    assert found[2] == {"user_id": "민수", "languages": ["ko"], "last_event": None}
    found = service.call("GET", "/v1/users", params={"text": "an", "limit": 1}).json()
    assert found == [{"user_id": "ana", "languages": [], "last_event": 1796000000}]
    assert service.call("GET", "/v1/users", params={"text": "%"}).json() == []
    problem(service.call("GET", "/v1/users", params={"limit": 0}), 422)
    for key in ("app", "read-only", service.token("ana")):
        problem(service.call("GET", "/v1/users", key=key), 403)


def test_a_history(service: Inside) -> None:
    service.call("PUT", "/v1/items/%E6%80%A5%E9%A0%88", {"language": "ja", "title": "急須"})
    events = [event(1, user_id="a/b", item_id="急須"), event(2, user_id="a/b", item_id="gone", timestamp=1796000001)]
    service.call("POST", "/v1/events", [*events, event(3, user_id="other", item_id="急須")])
    url = f"/v1/users/{quote('a/b', safe='')}/history"
    assert service.call("GET", url).json() == [
        {"item_id": "gone", "event": "click", "timestamp": 1796000001, "title": "", "language": ""},
        {"item_id": "急須", "event": "click", "timestamp": 1796000000, "title": "急須", "language": "ja"},
    ]
    assert len(service.call("GET", url, params={"limit": 1}).json()) == 1
    assert service.call("GET", "/v1/users/nobody/history").json() == []
    for key in ("app", "read-only", service.token("a/b")):
        problem(service.call("GET", url, key=key), 403)
    assert "a/b" not in service.call("GET", "/v1/audit").text


def test_items(service: Inside) -> None:
    for item_id, title in (("1", "Straße"), ("2", "STRASSE 1"), ("3", "чайник")):
        service.call("PUT", f"/v1/items/{item_id}", {"language": "de", "title": title, "available": item_id != "3"})

    def found(text: str) -> list[str]:
        answer = service.call("GET", "/v1/items", params={"text": text}, key="read-only").json()
        return [each["item_id"] for each in answer]

    assert found("") == ["3", "2", "1"]
    assert found("straSSe") == ["2", "1"]
    assert found("1") == ["1", "2"]  # the id before the titles
    assert found("ЧАЙНИК") == ["3"]
    service.call("DELETE", "/v1/items/2")
    assert found("") == ["3", "1"]
    problem(service.call("GET", "/v1/items", key="app"), 403)
