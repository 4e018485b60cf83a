"""Erasing a person while others write about them: each comes wholly before, and is erased, or wholly after."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from serving.service.store import InvalidError, Store, open_store, people
from serving.service.types import ShownItem, ShownRecommendation, login_event
from tests.serving.service.databases import execute
from tests.serving.service.store.samples import NOON, event

Pause = Callable[[str], tuple[threading.Event, threading.Event]]
_PERSON = "عائشة"
_SECONDS = 60.0


@pytest.fixture
def replica(url: str) -> Iterator[Store]:
    """Another process's view of the store."""
    with open_store(url) as opened:
        yield opened


def _shown(recommendation_id: str, user_id: str = _PERSON, session_id: str = "") -> ShownRecommendation:
    items = [ShownItem(item_id="1001", score=0.5)]
    return ShownRecommendation(
        recommendation_id=recommendation_id, timestamp=NOON, user_id=user_id, session_id=session_id, items=items
    )


def _mark(store: Store) -> str:
    """Of the erasures until now."""
    return store.users_deleted_after("")[1]


def _answers(url: str) -> list[object]:
    return [row[0] for row in execute(url, "SELECT recommendation_id FROM recommendations ORDER BY 1")]


def _until_it_waits(url: str, work: "Future[Any]") -> None:
    """Returns when PostgreSQL lets some work wait, or it has ended. SQLite shows neither, and has one writer."""
    deadline = time.monotonic() + _SECONDS
    while url.startswith("postgresql") and not work.done():
        if execute(url, "SELECT 1 FROM pg_locks WHERE NOT granted"):
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_answers_from_before_an_erasure_are_not_stored_after_it(url: str, store: Store, replica: Store) -> None:
    store.link_session("linked", _PERSON)
    store.append_events([event("p", user_id=_PERSON, session_id="seen")])
    store.link_session("ben's", "ben")
    known = _mark(replica)
    assert store.delete_user(_PERSON)
    late = [
        _shown("p1"),
        _shown("p2", session_id="unknown"),
        _shown("p3", "", "linked"),
        _shown("p4", "", "seen"),
        _shown("o1", "ben", "seen"),
        _shown("o2", "", "ben's"),
        _shown("o3", ""),
        _shown("o4", "", _PERSON),
    ]
    replica.log_recommendations(late, known)
    assert _answers(url) == ["o1", "o2", "o3", "o4"]
    # Without a mark nobody's are who was ever erased.
    replica.log_recommendations([_shown("p5"), _shown("o5", "cleo")])
    assert _answers(url) == ["o1", "o2", "o3", "o4", "o5"]
    # Somebody who has come back is like anybody, until the next erasure.
    known = _mark(replica)
    replica.log_recommendations([_shown("r1"), _shown("r2", "", "linked")], known)
    assert _answers(url)[-2:] == ["r1", "r2"]
    assert store.delete_user("ben")
    assert store.delete_user(_PERSON)
    replica.log_recommendations([_shown("r3"), _shown("o6", "cleo")], known)
    assert _answers(url) == ["o3", "o4", "o5", "o6", "r2"]
    with pytest.raises(InvalidError, match="no mark"):
        replica.log_recommendations([_shown("x")], "0123456789ab-0-0")


def test_a_feed_of_erasures_has_people_only(store: Store) -> None:
    store.append_events([event(str(n), user_id=_PERSON, session_id=f"s{n}") for n in range(20)])
    store.delete_user("first")
    store.delete_user(_PERSON)
    found, mark = [], ""
    for expected in (1, 1, 0):
        digests, mark = store.users_deleted_after(mark, 1)
        assert len(digests) == expected
        found += digests
    assert len(set(found)) == 2
    assert all(len(each) == 64 for each in found)


def test_many_sessions_of_a_person(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.service.store.marks.ROWS", 5)
    assert len(people.tombstones(_PERSON, [f"s{n}" for n in range(20)])) == 5
    store.append_events([event("e", user_id=_PERSON, session_id="s")])
    assert store.delete_user(_PERSON)


def test_an_answer_that_is_being_written_is_erased(url: str, store: Store, replica: Store, pause: Pause) -> None:
    reached, go_on = pause("serving.service.store.recommendations.step")
    with ThreadPoolExecutor(2) as pool:
        # It has looked for erasures and found none.
        written = pool.submit(replica.log_recommendations, [_shown("p1")])
        assert reached.wait(_SECONDS)
        erased = pool.submit(store.delete_user, _PERSON)
        _until_it_waits(url, erased)
        go_on.set()
        written.result(_SECONDS)
        assert erased.result(_SECONDS)
    assert _answers(url) == []


def test_an_answer_that_comes_while_a_person_is_erased_is_not_stored(
    url: str, store: Store, replica: Store, pause: Pause
) -> None:
    store.log_recommendations([_shown("p0"), _shown("o0", "ben")])
    reached, go_on = pause("serving.service.store.users.step")
    with ThreadPoolExecutor(2) as pool:
        # What there was is erased, but nobody sees that yet.
        erased = pool.submit(store.delete_user, _PERSON)
        assert reached.wait(_SECONDS)
        written = pool.submit(replica.log_recommendations, [_shown("p1"), _shown("o1", "ben")])
        _until_it_waits(url, written)
        go_on.set()
        assert erased.result(_SECONDS)
        written.result(_SECONDS)
    assert _answers(url) == ["o0", "o1"]


def test_events_that_are_being_written_are_erased(url: str, store: Store, replica: Store, pause: Pause) -> None:
    reached, go_on = pause("serving.service.store.events.count_events")
    sent = [
        event("p1", user_id=_PERSON, session_id="s"),
        event("p2", user_id="", session_id="s"),
        event("o", user_id="b"),
    ]
    with ThreadPoolExecutor(2) as pool:
        written = pool.submit(replica.append_events, sent)
        assert reached.wait(_SECONDS)
        erased = pool.submit(store.delete_user, _PERSON)
        _until_it_waits(url, erased)
        go_on.set()
        assert written.result(_SECONDS) == [True] * 3
        assert erased.result(_SECONDS)
    # Also the anonymous one of the session in which the person was seen for the first time.
    assert execute(url, "SELECT event_id FROM events") == [("o",)]


def test_events_that_come_while_a_person_is_erased_are_those_of_somebody_new(
    url: str, store: Store, replica: Store, pause: Pause
) -> None:
    store.append_events([event("p0", user_id=_PERSON)])
    reached, go_on = pause("serving.service.store.users.step")
    with ThreadPoolExecutor(2) as pool:
        erased = pool.submit(store.delete_user, _PERSON)
        assert reached.wait(_SECONDS)
        written = pool.submit(replica.append_events, [event("p1", user_id=_PERSON)])
        _until_it_waits(url, written)
        go_on.set()
        assert erased.result(_SECONDS)
        assert written.result(_SECONDS) == [True]
    # The feeds tell it in this order, so that replicas forget first.
    assert store.users_deleted_after("")[0]
    assert [each.event_id for each in store.events_after("")[0]] == ["p1"]
    numbers = execute(
        url, "SELECT max(d.xid) <= max(e.xid), max(d.number) < max(e.number) FROM deleted_users d, events e"
    )
    assert all(numbers[0])
    assert store.delete_user(_PERSON)
    assert store.events_after("")[0] == []


@pytest.mark.parametrize("first", ["log-in", "erasure"])
def test_a_log_in_is_erased_or_kept_with_its_event(
    url: str, store: Store, replica: Store, pause: Pause, first: str
) -> None:
    """Before the erasure, or after it: never a link without its event, nor an event without its link."""
    store.append_events([event("anonymous", user_id="", session_id="s"), event("p", user_id=_PERSON, session_id="t")])
    reached, go_on = pause(f"serving.service.store.{'events' if first == 'log-in' else 'users'}.step")

    def log_in() -> None:
        replica.link_session("s", _PERSON, login_event("s", _PERSON))

    with ThreadPoolExecutor(2) as pool:
        if first == "log-in":
            earlier: Future[Any] = pool.submit(log_in)
            assert reached.wait(_SECONDS)
            later: Future[Any] = pool.submit(store.delete_user, _PERSON)
        else:
            earlier = pool.submit(store.delete_user, _PERSON)
            assert reached.wait(_SECONDS)
            later = pool.submit(log_in)
        _until_it_waits(url, later)
        go_on.set()
        wait([earlier, later], _SECONDS)
        assert earlier.exception(0) is None
        assert later.exception(0) is None
    links = execute(url, "SELECT session_id, user_id FROM sessions")
    events = execute(url, "SELECT event FROM events ORDER BY event")
    if first == "log-in":
        # What the session had done before is the person's.
        assert (links, events) == ([], [])
    else:
        assert (links, events) == ([("s", _PERSON)], [("click",), ("login",)])


def test_a_session_of_somebody_else_stores_no_event(store: Store) -> None:
    store.link_session("s", "ben", login_event("s", "ben"))
    with pytest.raises(Exception, match="another user"):
        store.link_session("s", _PERSON, login_event("s", _PERSON))
    assert [each.user_id for each in store.events_after("")[0]] == ["ben"]


def test_answers_written_by_many_while_a_person_is_erased(url: str) -> None:
    def write(writer: int) -> None:
        with open_store(url) as own:
            for number in range(20):
                own.log_recommendations([_shown(f"p{writer}-{number}"), _shown(f"o{writer}-{number}", "ben")])

    def erase() -> None:
        with open_store(url) as own:
            for _ in range(10):
                own.delete_user(_PERSON)

    with ThreadPoolExecutor(5) as pool:
        for each in [*(pool.submit(write, writer) for writer in range(4)), pool.submit(erase)]:
            each.result(_SECONDS)
    assert _answers(url) == sorted(f"o{writer}-{number}" for writer in range(4) for number in range(20))
