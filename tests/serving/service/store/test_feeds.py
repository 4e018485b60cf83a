"""What one replica writes, the others read: all of it, once, in order."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.service.store import InvalidError, Store, open_store
from serving.service.types import Item, User
from tests.serving.service.databases import execute
from tests.serving.service.store.samples import IDS, event, item

Pause = Callable[[str], tuple[threading.Event, threading.Event]]


def _new(store: Store, mark: str) -> tuple[list[str], str]:
    events, mark = store.events_after(mark)
    return [each.event_id for each in events], mark


def test_a_feed_goes_on_from_its_mark(store: Store) -> None:
    ids = [f"event {number}" for number in range(25)]
    store.append_events([event(each) for each in ids[:12]])
    store.append_events([event(each) for each in ids[12:]])
    mark, found = "", list[str]()
    for expected in (10, 10, 5, 0, 0):
        events, mark = store.events_after(mark, 10)
        assert len(events) == expected
        found += [each.event_id for each in events]
    assert found == ids


def test_the_latest_mark_begins_now(url: str, store: Store) -> None:
    store.append_events([event("old")])
    store.put_items([item("old")])
    store.put_users([User(user_id="old"), User(user_id="kept")])
    store.delete_user("old")
    with open_store(url) as replica:
        mark = replica.latest_mark()
        assert replica.events_after(mark) == ([], mark)
        assert replica.items_after(mark) == ([], mark)
        assert replica.users_deleted_after(mark) == ([], mark)
        assert replica.users_changed_after(mark) == ([], mark)
        assert replica.users_changed_after("")[0] == ["kept"]
        store.append_events([event("new")])
        store.put_items([item("new")])
        store.put_users([User(user_id="new"), User(user_id="kept", country="KR")])
        store.delete_user("new")
        assert replica.users_changed_after(mark)[0] == ["kept"]
        assert _new(replica, mark)[0] == ["new"]
        assert [each.item_id for each in replica.items_after(mark)[0]] == ["new"]
        assert len(replica.users_deleted_after(mark)[0]) == 1


def test_what_becomes_visible_late_is_not_missed(postgresql: str, pause: Pause) -> None:
    reached, go_on = pause("serving.service.store.events.count_events")
    with open_store(postgresql) as store, open_store(postgresql) as replica, ThreadPoolExecutor(1) as pool:
        store.append_events([])
        start = replica.latest_mark()
        early = pool.submit(store.append_events, [event("early")])
        assert reached.wait(30)
        # Begins later, with larger numbers, and ends first.
        replica.append_events([event("late")])
        visible = execute(postgresql, "SELECT event_id FROM events")
        found, mark = _new(replica, start)
        between = replica.latest_mark()
        go_on.set()
        assert early.result(30) == [True]
        assert visible == [("late",)]
        assert found == []  # else `early` would come before the mark
        assert _new(replica, mark)[0] == ["early", "late"]
        # A mark from between may repeat what was visible then, and misses nothing.
        assert _new(replica, between)[0] == ["early", "late"]


def test_transactions_may_have_drawn_their_numbers_in_another_order(postgresql: str) -> None:
    with open_store(postgresql) as store:
        for event_id in "abc":
            store.append_events([event(event_id)])
        execute(postgresql, "UPDATE events SET number = 1000000000 - number")
        found, mark = list[str](), ""
        for _ in range(4):
            new, mark = store.events_after(mark, 1)
            found += [each.event_id for each in new]
    assert found == ["a", "b", "c"]


def test_rows_are_written_in_the_order_of_ids_and_read_in_that_of_the_call(postgresql: str) -> None:
    # Two transactions that write the same rows in other orders would wait for each other for ever.
    with open_store(postgresql) as store:
        store.append_events([event(each) for each in "cabd"])
        store.put_items([item(each) for each in "cabd"])
        assert _new(store, "")[0] == ["c", "a", "b", "d"]
    for table, column in (("events", "event_id"), ("items", "item_id")):
        assert execute(postgresql, f"SELECT {column} FROM {table} ORDER BY ctid") == [(each,) for each in "abcd"]


def test_an_item_that_changes_late_is_not_missed(postgresql: str, pause: Pause) -> None:
    reached, go_on = pause("serving.service.store.items.insert_many")
    with open_store(postgresql) as store, open_store(postgresql) as replica, ThreadPoolExecutor(1) as pool:
        start = replica.latest_mark()
        early = pool.submit(store.put_items, [item("a", title="early"), item("b")])
        assert reached.wait(30)
        replica.put_items([item("a", title="late")])
        found, mark = replica.items_after(start)
        go_on.set()
        assert early.result(30) == {"a": 2, "b": 1}
        assert found == []
        changes = {each.item_id: each for each in replica.items_after(mark)[0]}
        assert changes.keys() == {"a", "b"}
        assert changes["a"].item == item("a", title="early") == replica.items(["a"])["a"]


def test_readers_that_follow_writers_miss_nothing(url: str) -> None:
    ids = [f"{writer}-{number}" for writer in range(4) for number in range(30)]
    done = threading.Event()

    def write(writer: int) -> None:
        with open_store(url) as store:
            for number in range(30):
                store.append_events([event(f"{writer}-{number}")])

    def follow() -> list[str]:
        with open_store(url) as store:
            found, mark = list[str](), ""
            while True:
                is_last = done.is_set()
                new, mark = _new(store, mark)
                found += new
                if is_last and not new:
                    return found

    with ThreadPoolExecutor(6) as pool:
        followers = [pool.submit(follow) for _ in range(2)]
        for each in [pool.submit(write, writer) for writer in range(4)]:
            each.result(60)
        done.set()
        for follower in followers:
            found = follower.result(60)
            assert sorted(found) == sorted(ids)
            # A writer's own events keep their order.
            assert [each for each in found if each.startswith("2-")] == [f"2-{number}" for number in range(30)]


_names = st.sampled_from(IDS[:6])
_steps = st.one_of(
    st.tuples(st.just("put"), st.lists(st.tuples(_names, st.sampled_from("xyz")), max_size=4)),
    st.tuples(st.just("delete"), st.lists(_names, max_size=3)),
    st.tuples(st.just("read"), st.integers(1, 4)),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_steps, max_size=12))
def test_a_replica_that_follows_has_the_same_items(store: Store, steps: list[tuple[str, list]]) -> None:  # type: ignore[type-arg]
    start = store.latest_mark()
    expected = {name: found for name in IDS if (found := store.items([name]).get(name))}
    replica, revisions, mark = dict[str, Item | None](expected), dict[str, int](), start

    def follow(limit: int) -> int:
        nonlocal mark
        changes, mark = store.items_after(mark, limit)
        for change in changes:
            assert change.revision > revisions.get(change.item_id, 0)
            revisions[change.item_id] = change.revision
            replica[change.item_id] = change.item
        return len(changes)

    for kind, values in steps:
        if kind == "put":
            put = [item(name, title=title) for name, title in values]
            store.put_items(put)
            expected |= {each.item_id: each for each in put}
        elif kind == "delete":
            there = store.delete_items(values)
            assert there == [name in expected for name in values]
            for name in values:
                expected.pop(name, None)
        else:
            follow(values)  # type: ignore[arg-type]
    while follow(3):
        pass
    assert {name: found for name, found in replica.items() if found} == expected
    assert store.items(IDS) == expected
    assert store.count_items() == len(expected)


@pytest.mark.parametrize("mark", ["nonsense", "0-0", "0123456789ab-0-0", "💣", "0123456789ab-0-" + "9" * 40])
def test_a_mark_of_elsewhere_is_refused(store: Store, mark: str) -> None:
    for read in (store.events_after, store.items_after, store.users_changed_after, store.users_deleted_after):
        with pytest.raises(InvalidError, match=r"no mark of this store.*latest_mark"):
            read(mark)
