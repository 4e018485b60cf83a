"""Histories against a list of all events."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from serving.service.recommender.histories import Histories
from serving.service.types import Event, Interaction


@dataclass
class _Store:
    """All events, as the store has them."""

    events: list[Event] = field(default_factory=list)
    reads: int = 0
    gate: threading.Event | None = None
    reached: threading.Event = field(default_factory=threading.Event)

    def history(self, user_id: str = "", session_id: str = "", limit: int = 100) -> list[Interaction]:
        self.reads += 1
        own = [
            e for e in self.events if (e.user_id == user_id if user_id else e.session_id == session_id) and e.item_id
        ]
        own = sorted(own, key=lambda e: e.timestamp)[-limit:]
        if self.gate is not None:
            self.reached.set()
            assert self.gate.wait(20)
        return [Interaction(item_id=e.item_id, event=e.event, timestamp=e.timestamp) for e in own]


def _naive(events: Sequence[Event], user_id: str, length: int) -> list[str]:
    """Items in the order of their last events."""
    own = [e for e in events if e.user_id == user_id and e.event == "click"]
    last = {e.item_id: max(o.timestamp for o in own if o.item_id == e.item_id) for e in own}
    return sorted(last, key=lambda item_id: last[item_id])[-length:]


def _event(number: int, user: str, item: str, timestamp: int, kind: str = "click") -> Event:
    return Event(event_id=str(number), event=kind, timestamp=timestamp, user_id=user, item_id=item)


_clicks = st.tuples(st.sampled_from(["u", "v"]), st.sampled_from("abcdefg"), st.sampled_from(["click", "hide"]))


@given(st.lists(_clicks, max_size=25), st.data())
def test_events_in_any_order_make_the_history_that_all_events_make(
    clicks: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    # Times that differ: the order within a second is the store's affair.
    times = data.draw(st.permutations(range(len(clicks))))
    events = [_event(n, user, item, times[n], kind) for n, (user, item, kind) in enumerate(clicks)]
    read_at = data.draw(st.integers(0, len(events)))

    async def run() -> None:
        store = _Store()
        histories = Histories(store, length=4)
        for number, event in enumerate(events):
            if number == read_at:
                await histories.of("u", "s")
            store.events.append(event)
            histories.hear([event])
            if number % 3 == 0:
                histories.hear([event])  # the feed repeats what this replica has heard
            known = histories.known("u", "")
            assert known is None or known == _naive(store.events, "u", 4)
        assert await histories.of("u", "") == _naive(events, "u", 4)
        assert store.reads == 1

    asyncio.run(run())


def test_an_event_that_arrives_while_a_history_is_read_is_in_it() -> None:
    async def run() -> None:
        store = _Store([_event(1, "u", "a", 1)], gate=threading.Event())
        histories = Histories(store)
        both = [asyncio.create_task(histories.of("u", "")) for _ in range(2)]
        assert await asyncio.to_thread(store.reached.wait, 20)
        store.events.append(_event(2, "u", "b", 2))
        histories.hear(store.events[1:])
        assert store.gate is not None
        store.gate.set()
        assert await asyncio.gather(*both) == [["a", "b"]] * 2
        assert histories.known("u", "") == ["a", "b"]

    asyncio.run(run())


def test_what_is_forgotten_while_it_is_read_does_not_come_back() -> None:
    async def run(forget_all: bool) -> None:
        store = _Store([_event(1, "u", "a", 1)], gate=threading.Event())
        histories = Histories(store)
        reading = asyncio.create_task(histories.of("u", ""))
        assert await asyncio.to_thread(store.reached.wait, 20)
        store.events.clear()
        if forget_all:
            histories.forget_users(lambda user_id: user_id == "u")
        else:
            histories.forget(user_id="u")
        assert store.gate is not None
        store.gate.set()
        assert await reading == []
        assert histories.known("u", "") == []

    asyncio.run(run(True))
    asyncio.run(run(False))


def test_deletion_of_people_drops_theirs_and_all_sessions() -> None:
    async def run() -> None:
        histories = Histories(_Store())
        for user_id, session_id in (("u", ""), ("v", ""), ("", "s")):
            assert await histories.of(user_id, session_id) == []
        histories.forget_users(lambda user_id: user_id == "u")
        assert histories.known("u", "") is None
        assert histories.known("v", "") == []
        assert histories.known("", "s") is None
        assert histories.known("", "") == []

    asyncio.run(run())


def test_the_people_who_came_last_are_kept() -> None:
    async def run() -> None:
        histories = Histories(_Store(), owners=3)
        for user_id in ("a", "b", "c", "a", "d"):
            await histories.of(user_id, "")
        assert len(histories) == 3
        assert histories.known("b", "") is None
        assert histories.known("a", "") == []

    asyncio.run(run())


def test_a_read_that_fails_leaves_nothing_behind() -> None:
    class _Broken(_Store):
        def history(self, user_id: str = "", session_id: str = "", limit: int = 100) -> list[Interaction]:
            if not self.reads:
                self.reads += 1
                raise OSError
            return super().history(user_id, session_id, limit)

    async def run() -> None:
        histories = Histories(_Broken([_event(1, "u", "a", 1)]))
        results = await asyncio.gather(histories.of("u", ""), return_exceptions=True)
        assert isinstance(results[0], OSError)
        assert await histories.of("u", "") == ["a"]

    asyncio.run(run())
