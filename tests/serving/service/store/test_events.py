"""Events are stored once, and make histories."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.service.store import ConflictError, InvalidError, Store, open_store
from serving.service.types import Event, Interaction
from tests.serving.service.store.samples import IDS, NOON, event, full_event


def _all(store: Store) -> list[Event]:
    return store.events_after("", 10_000)[0]


def test_an_event_comes_back_as_it_was(store: Store) -> None:
    sent = [event("1"), full_event("2"), event("3", user_id="", session_id="s", item_id="", event="search")]
    assert store.append_events(sent) == [True, True, True]
    assert _all(store) == sent


def test_ids_in_all_scripts_stay_apart(store: Store) -> None:
    sent = [event(each, user_id=each, item_id=each, session_id=each) for each in IDS]
    assert all(store.append_events(sent))
    assert not any(store.append_events(sent[::-1]))
    # The composed form is another id.
    assert store.append_events([event("\u00e9")]) == [True]
    for each in IDS:
        assert store.history(each) == [Interaction(item_id=each, event="click", timestamp=NOON)]
    assert store.history("\u00e9") == []


def test_a_known_event_is_not_stored_again(store: Store) -> None:
    assert store.append_events([event("a"), event("b"), event("a", item_id="2")]) == [True, True, False]
    assert store.append_events([event("b", item_id="3"), event("c")]) == [False, True]
    assert [(each.event_id, each.item_id) for each in _all(store)] == [("a", "1001"), ("b", "1001"), ("c", "1001")]
    assert store.append_events([]) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.lists(st.sampled_from([*IDS, *"abcdefgh"]), max_size=8), max_size=5))
def test_of_any_repetition_each_event_is_new_once(store: Store, calls: list[list[str]]) -> None:
    known = {each.event_id for each in _all(store)}
    for call in calls:
        expected = []
        for event_id in call:
            expected.append(event_id not in known)
            known.add(event_id)
        assert store.append_events([event(each) for each in call]) == expected
    assert sorted(each.event_id for each in _all(store)) == sorted(known)


def test_concurrent_callers_store_each_event_once(url: str, store: Store) -> None:
    ids = [f"event {number}" for number in range(300)]
    # In opposite orders: transactions must not wait for each other in a circle.
    calls = [ids[part : part + 100][:: 1 if turn % 2 else -1] for turn in range(6) for part in range(0, 300, 50)]
    with open_store(url) as other, ThreadPoolExecutor(8) as pool:
        stores = [store, other]

        def append(number: int) -> list[bool]:
            return stores[number % 2].append_events([event(each) for each in calls[number]])

        answers = list(pool.map(append, range(len(calls))))
    assert sum(sum(answer) for answer in answers) == len(ids)
    assert sorted(each.event_id for each in _all(store)) == sorted(ids)
    # Nor are they counted twice.
    rows = store.check().rows
    assert rows["events"] == len(ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": "", "session_id": ""}, "both empty"),
        ({"event": ""}, "`event` is empty"),
        ({"item_id": "é" * 257}, "514 bytes"),
        ({"item_id": "a\0b"}, "null character"),
        ({"query": "\ud83e"}, "surrogate"),
        ({"query": "q" * 2049}, "at most 2,048"),
        ({"timestamp": -1}, "unix seconds"),
        ({"timestamp": 10**15}, "unix seconds"),
        ({"value": float("nan")}, "finite"),
        ({"propensity": float("inf")}, "finite"),
        ({"position": -1}, "place from 0"),
        ({"context": {"user_id": "x"}}, "field of events.*set the field `user_id`"),
        ({"context": {"impression_id": "x"}}, "field of events.*set the field `recommendation_id`"),
        ({"context": {"": 1}}, "is empty"),
        ({"context": {"a": [1]}}, "has a list"),
        ({"context": {"a": 2**70}}, "as a text"),
        ({"context": {"a": "x" * 9000}}, "at most 8,192"),
        ({"context": {str(number): 1 for number in range(65)}}, "at most 64"),
        ({"user_id": "session:1"}, "begins with"),
    ],
)
def test_what_is_malformed_is_refused_whole(store: Store, change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidError, match=f"place 1: .*{message}"):
        store.append_events([event("a"), event("b", **change)])
    assert _all(store) == []


def test_a_call_is_bounded(store: Store) -> None:
    with pytest.raises(InvalidError, match=r"10,001 events.*in parts"):
        store.append_events([event("a")] * 10_001)
    for limit in (0, 10_001):
        with pytest.raises(InvalidError, match="limit"):
            store.events_after("", limit)
        with pytest.raises(InvalidError, match="limit"):
            store.history("ana", limit=limit)


def test_a_history_has_the_newest_events_last(store: Store) -> None:
    times = [5, 3, 9, 9, 1, 7]
    store.append_events([event(str(n), item_id=f"i{n}", timestamp=NOON + time) for n, time in enumerate(times)])
    store.append_events([event("search", item_id="", timestamp=NOON + 99), event("other", user_id="ben")])
    assert [each.item_id for each in store.history("ana")] == ["i4", "i1", "i0", "i5", "i2", "i3"]
    assert [each.item_id for each in store.history("ana", limit=2)] == ["i2", "i3"]
    assert store.history("nobody") == []
    with pytest.raises(InvalidError, match="user_id"):
        store.history()


def test_a_log_in_adds_what_the_session_did(store: Store) -> None:
    def items(**who: Any) -> list[str]:
        return [each.item_id for each in store.history(**who)]

    store.append_events(
        [
            event("1", user_id="", session_id="s", item_id="before", timestamp=NOON + 1),
            event("2", session_id="earlier", item_id="known", timestamp=NOON),
            event("3", user_id="", session_id="t", item_id="another's", timestamp=NOON + 2),
        ]
    )
    assert items(user_id="ana") == ["known"]
    assert items(session_id="s") == ["before"]
    assert items(user_id="ana", session_id="s") == ["known", "before"]
    store.link_session("s", "ana")
    store.link_session("s", "ana")
    assert items(user_id="ana") == ["known", "before"]
    store.append_events([event("4", user_id="", session_id="s", item_id="after", timestamp=NOON + 3)])
    assert items(user_id="ana") == items(user_id="ana", session_id="s") == ["known", "before", "after"]
    with pytest.raises(ConflictError, match="another user"):
        store.link_session("s", "ben")
    assert items(user_id="ben", session_id="") == []


def test_an_acknowledgement_waits_for_the_commit(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch, pause: Callable[[str], tuple[threading.Event, ...]]
) -> None:
    reached, go_on = pause("serving.service.store.events.count_events")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(store.append_events, [event("a")])
        assert reached.wait(30)
        assert not answer.done()
        with open_store(url) as other:
            assert _all(other) == []
            go_on.set()
            assert answer.result(30) == [True]
            assert [each.event_id for each in _all(other)] == ["a"]


def test_a_history_does_not_read_what_others_did(sqlite: str) -> None:
    steps = list[str]()

    def plan(connection: sa.Connection, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT anon"):
            found = connection.connection.driver_connection
            assert isinstance(found, sqlite3.Connection)
            values = tuple(parameters) if isinstance(parameters, tuple) else ()
            steps.extend(row[3] for row in found.execute(f"EXPLAIN QUERY PLAN {statement}", values))

    with open_store(sqlite) as store:
        sa.event.listen(store._database._engine, "before_cursor_execute", plan)
        store.history("ana", "s")
        store.history(session_id="s")
    reads = [step for step in steps if " events" in step]
    assert sum("events_by_user (user_id=?" in step for step in reads) == 1
    assert sum("events_by_session (session_id=?" in step for step in reads) == len(reads) - 1 >= 2
