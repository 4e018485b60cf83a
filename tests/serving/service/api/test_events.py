"""Events: what becomes of each, and that all are durable before they are acknowledged."""

import json
import threading
from collections.abc import Sequence

import pytest

from serving.service.store import UnavailableError, open_store
from serving.service.types import Event
from tests.serving.service.api.inside import EmptyStore, Inside, event, problem
from tests.serving.service.databases import BOTH

pytestmark = BOTH


def _stored(service: Inside) -> list[Event]:
    with open_store(service.url) as other:
        return other.events_after("", 10_000)[0]


def test_each_line_is_answered(service: Inside) -> None:
    lines = [
        event(1, user_id="大輔", item_id="1003", query="등산 🏔️", context={"device": "โทรศัพท์", "n": 3}),
        event(1),
        event(2, event=""),
        event(3, timestamp="yesterday"),
        event(4, session_id="", user_id=""),
        event(5, item_id="e\u0301"),
        event(6, timestamp=1796000000000),
        event(7, position=-1),
        {"event": "click"},
        5,
        event(8, user_id="عائشة"),
    ]
    answer = service.call("POST", "/v1/events", {"events": lines}, key="app").json()
    statuses = [line["status"] for line in answer["results"]]
    assert statuses == ["accepted", "duplicate", *["rejected"] * 8, "accepted"]
    assert [line["index"] for line in answer["results"]] == list(range(11))
    assert (answer["accepted"], answer["duplicate"], answer["rejected"]) == (2, 1, 8)
    assert all("reason" in line for line in answer["results"][2:10])
    stored = _stored(service)
    assert {each.event_id for each in stored} == {"e-1", "e-8"}
    assert next(each for each in stored if each.event_id == "e-1").context == {"device": "โทรศัพท์", "n": 3}
    assert service.recommender.events == sorted(stored, key=lambda each: each.event_id)


def test_a_repeated_request_changes_nothing(service: Inside) -> None:
    body = {"events": [event(1), event(2)]}
    service.call("POST", "/v1/events", body)
    answer = service.call("POST", "/v1/events", body).json()
    assert [line["status"] for line in answer["results"]] == ["duplicate", "duplicate"]
    assert len(service.recommender.events) == 2


def test_forms_of_the_body(service: Inside) -> None:
    lines = "\n".join(json.dumps(event(number), ensure_ascii=False) for number in ("甲", "乙")) + "\r\n\n"
    answer = service.call("POST", "/v1/events", lines, headers={"Content-Type": "application/x-ndjson"}).json()
    assert answer["accepted"] == 2
    assert service.call("POST", "/v1/events", [event(3)]).json()["accepted"] == 1
    missing = {name: value for name, value in event(4).items() if name != "timestamp"}
    assert service.call("POST", "/v1/events", [missing]).json()["accepted"] == 1


@pytest.mark.parametrize(
    "body", ["", "{", "5", '{"events": 5}', '{"event": []}', "\ud800".encode("utf-8", "surrogatepass"), "[" * 5000]
)
def test_bodies_that_are_no_events(service: Inside, body: bytes | str) -> None:
    response = service.call("POST", "/v1/events", body)
    assert response.status_code in (400, 422)
    problem(response, response.status_code)


def test_at_most_a_thousand(service: Inside) -> None:
    lines = [event(number) for number in range(1001)]
    assert "1,000" in problem(service.call("POST", "/v1/events", lines), 413)
    assert "1,000" in problem(service.call("POST", "/v1/events", [*lines, 5]), 413)
    assert service.call("POST", "/v1/events", lines[:1000]).json()["accepted"] == 1000


def test_requests_share_a_transaction(service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    first = threading.Event()
    append = service.store.append_events

    def slow(events: Sequence[Event]) -> list[bool]:
        sizes.append(len(events))
        if len(sizes) == 1:
            first.wait(5)  # meanwhile the others come
        return append(events)

    monkeypatch.setattr(service.store, "append_events", slow)
    timer = threading.Timer(0.5, first.set)
    timer.start()
    requests: list[tuple[str, str, object]] = [
        ("POST", "/v1/events", [event(f"{number}-{line}") for line in range(3)] + [event("same")])
        for number in range(20)
    ]
    answers = [response.json() for response in service.together(requests)]
    assert sum(sizes) == 80
    assert len(sizes) < 10
    assert sum(answer["accepted"] for answer in answers) == 61
    assert sum(answer["duplicate"] for answer in answers) == 19
    assert len(_stored(service)) == 61 == len(service.recommender.events)


def test_a_full_queue_is_refused(empty_store: EmptyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with Inside(*empty_store, max_queued_events=10) as service:
        release = threading.Event()
        append = service.store.append_events

        def slow(events: Sequence[Event]) -> list[bool]:
            release.wait(5)
            return append(events)

        monkeypatch.setattr(service.store, "append_events", slow)
        timer = threading.Timer(0.5, release.set)
        timer.start()
        requests: list[tuple[str, str, object]] = [
            ("POST", "/v1/events", [event(f"{number}-{line}") for line in range(4)]) for number in range(5)
        ]
        responses = service.together(requests)
        assert sorted(response.status_code for response in responses) == [200, 200, 503, 503, 503]
        refused = next(response for response in responses if response.status_code == 503)
        assert refused.headers["retry-after"]
        assert "none was kept" in problem(refused, 503)
        assert len(_stored(service)) == 8
        # A request that is larger than the queue comes in when it is empty.
        assert service.call("POST", "/v1/events", [event(f"x{n}") for n in range(20)]).json()["accepted"] == 20


def test_what_could_not_be_written_is_not_acknowledged(service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(events: Sequence[Event]) -> list[bool]:
        raise UnavailableError("The disk is full. Remedy: free space.")

    with monkeypatch.context() as patched:
        patched.setattr(service.store, "append_events", fail)
        assert "The store" in problem(service.call("POST", "/v1/events", [event(1)]), 503)
    assert service.recommender.events == []
    assert service.call("POST", "/v1/events", [event(1)]).json()["accepted"] == 1


def test_a_recommender_that_fails_does_not_lose_events(service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(events: Sequence[Event]) -> None:
        raise RuntimeError

    monkeypatch.setattr(service.context.writer, "_heard", fail)
    assert service.call("POST", "/v1/events", [event(1)]).json()["accepted"] == 1
    assert len(_stored(service)) == 1


def test_counters(service: Inside) -> None:
    service.call("POST", "/v1/events", [event(1), event(1), event(2, event="")])
    metrics = service.call("GET", "/metrics").text
    for status in ("accepted", "duplicate", "rejected"):
        assert f'babelrec_service_events_total{{status="{status}"}} 1.0' in metrics
    assert "babelrec_service_queued_events 0.0" in metrics
    assert 'babelrec_service_requests_total{method="POST",route="/v1/events",status="200"} 1.0' in metrics
