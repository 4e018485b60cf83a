"""User Behavior Insights 1.3."""

import json

import pytest

from serving.service.types import Event
from tests.serving.service.api.inside import Inside, problem
from tests.serving.service.databases import BOTH

pytestmark = BOTH

# The fields of the published schema.
_EVENT = {
    "application": "primary-search",
    "action_name": "click_through",
    "query_id": "00112233-4455-6677-8899-aabbccddeeff",
    "session_id": "84266fdbd31d4c2c6d0665f7e8380fa3",
    "client_id": "5e3b2a1c",
    "user_id": "ผู้ใช้",
    "timestamp": "2018-11-13T20:20:39+01:00",
    "message_type": "CONVERSION",
    "message": "急須を見た",
    "event_attributes": {
        "object": {"object_id": "ISBN 0-061", "object_id_type": "product", "internal_id": "1"},
        "position": {"ordinal": 3},
        "price": 8.5,
        "nested": {"x": 1},
        "value": 3,
    },
}


def _stored(service: Inside) -> Event:
    (found,) = service.store.events_after("")[0]
    return found


def test_an_event(service: Inside) -> None:
    answer = service.call("POST", "/v1/ubi/events", _EVENT, key="app").json()
    assert answer["accepted"] == 1
    assert _stored(service) == Event(
        event_id=answer["results"][0]["event_id"],
        event="click",
        timestamp=1542136839,
        user_id="ผู้ใช้",
        session_id="84266fdbd31d4c2c6d0665f7e8380fa3",
        item_id="ISBN 0-061",
        recommendation_id="00112233-4455-6677-8899-aabbccddeeff",
        position=2,
        context={
            "application": "primary-search",
            "client_id": "5e3b2a1c",
            "message": "急須を見た",
            "message_type": "CONVERSION",
            "object_id_type": "product",
            "price": 8.5,
            "ubi_value": 3,
        },
    )
    assert service.call("POST", "/v1/ubi/events", _EVENT).json()["duplicate"] == 1


def test_a_query(service: Inside) -> None:
    query = {
        "application": "type-ahead",
        "query_id": "1234-user-5678",
        "client_id": "browser-1",
        "user_query": "가벼운 등산 배낭",
        "query_attributes": {"page": 2, "filters": ["a"]},
        "object_id_field": "sku",
        "timestamp": "2018-11-13T20:20:39",
        "query_response_id": "r-1",
        "query_response_hit_ids": ["1", "2"],
    }
    assert service.call("POST", "/v1/ubi/queries", {"events": [query]}).json()["accepted"] == 1
    stored = _stored(service)
    assert (stored.event, stored.query, stored.timestamp) == ("search", "가벼운 등산 배낭", 1542140439)
    assert (stored.session_id, stored.recommendation_id, stored.item_id) == ("browser-1", "1234-user-5678", "")
    assert stored.context == {"application": "type-ahead", "page": 2, "query_response_id": "r-1", "hits": 2}
    assert service.call("POST", "/v1/ubi/queries", [query]).json()["duplicate"] == 1


def test_times_in_milliseconds(service: Inside) -> None:
    service.call("POST", "/v1/ubi/events", _EVENT | {"timestamp": 1796000000123})
    assert _stored(service).timestamp == 1796000000


def test_unknown_actions_are_kept(service: Inside) -> None:
    service.call("POST", "/v1/ubi/events", _EVENT | {"action_name": "สั่นมือถือ"})
    assert _stored(service).event == "สั่นมือถือ"


def test_words_of_a_search(service: Inside) -> None:
    line = {"action_name": "on_search", "timestamp": "2026-11-30T12:00:00Z", "client_id": "c", "message": "حقيبة"}
    service.call("POST", "/v1/ubi/events", line)
    stored = _stored(service)
    assert (stored.event, stored.query, stored.session_id) == ("search", "حقيبة", "c")


def test_numbers_are_ids_too(service: Inside) -> None:
    service.call("POST", "/v1/ubi/events", _EVENT | {"event_attributes": {"object": {"object_id": 123}}})
    assert (_stored(service).item_id, _stored(service).position) == ("123", None)


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "yesterday"},
        {"timestamp": None},
        {"timestamp": "0001-01-01T00:00:00+14:00"},
        {"action_name": None},
        {"action_name": ""},
        {"session_id": None, "client_id": None, "user_id": None},
        {"event_attributes": []},
        {"event_attributes": {"object": {"object_id": [1]}}},
        {"event_attributes": {"position": {"ordinal": "x"}}},
        {"event_attributes": {"position": {"ordinal": 2**70}}},
        {"message": "x" * 10_000},
        {"user_id": "e\u0301"},
    ],
)
def test_malformed_lines_are_rejected(service: Inside, change: dict[str, object]) -> None:
    lines = "\n".join(json.dumps(each) for each in (_EVENT | change, _EVENT))
    headers = {"Content-Type": "application/x-ndjson"}
    answer = service.call("POST", "/v1/ubi/events", lines, headers=headers).json()
    assert [each["status"] for each in answer["results"]] == ["rejected", "accepted"]
    assert answer["results"][0]["reason"]


def test_a_browser_sends_its_own(service: Inside) -> None:
    token = service.token("alice", "visit")
    line = {"action_name": "view", "timestamp": "2026-11-30T12:00:00Z", "client_id": "browser"}
    assert service.call("POST", "/v1/ubi/events", {"events": [line], "token": token}, key=None).json()["accepted"] == 1
    stored = _stored(service)
    assert (stored.user_id, stored.session_id, stored.context) == ("alice", "visit", {"client_id": "browser"})


def test_bodies_that_are_none(service: Inside) -> None:
    for body in ("5", "null", '"x"', "{", ""):
        response = service.call("POST", "/v1/ubi/queries", body)
        assert response.status_code in (400, 422), body
        problem(response, response.status_code)
