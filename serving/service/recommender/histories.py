"""What people did last, in memory: read from the store when needed, and kept up to date with events."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from serving.service.store.types import COUNTED_EVENTS
from serving.service.types import Event, Interaction

_Owner = tuple[str, str]
# Events that are read for each item of a history: not all of them count, and some are about the same item.
_EVENTS: Final = 4
# How often a history is read when events of its owner arrive meanwhile.
_READS: Final = 3


class HistoryStore(Protocol):
    """Where histories are read that are not in memory."""

    def history(self, user_id: str = "", session_id: str = "", limit: int = 100) -> list[Interaction]:
        """The newest events with an item, the newest last."""
        ...


@dataclass(slots=True)
class _Reading:
    """Of a history that is being read: by how many, and how often it changed since the first began."""

    readers: int = 0
    changes: int = 0


class Histories:
    """The newest items of the people who came last; belongs to one event loop.

    Args:
        store: Where they are read.
        length: Items of a history.
        owners: Most people whose histories are kept.
    """

    def __init__(self, store: HistoryStore, length: int = 50, owners: int = 20_000) -> None:
        self._store = store
        self._length = length
        self._owners = owners
        self._histories: OrderedDict[_Owner, dict[str, int]] = OrderedDict()
        self._readings: dict[_Owner, _Reading] = {}

    def __len__(self) -> int:
        return len(self._histories)

    def known(self, user_id: str, session_id: str) -> list[str] | None:
        """Ids of the items that a user did something with, or of a session without a user, newest last, each once.

        None if they are not in memory.
        """
        owner = _owner(user_id, session_id)
        if owner is None:
            return []
        found = self._histories.get(owner)
        if found is None:
            return None
        self._histories.move_to_end(owner)
        return list(found)

    async def of(self, user_id: str, session_id: str) -> list[str]:
        """Like `known`, from the store if need be.

        Raises:
            StoreError: the store can't be read.
        """
        found: dict[str, int] = {}
        for _ in range(_READS):
            known = self.known(user_id, session_id)
            owner = _owner(user_id, session_id)
            if known is not None or owner is None:
                return known or []
            found, is_current = await self._read(owner)
            if is_current:
                self._histories[owner] = found
                while len(self._histories) > self._owners:
                    self._histories.popitem(last=False)
                break
        return list(found)

    def hear(self, events: Iterable[Event]) -> None:
        """Adds events that the store has to the histories that are in memory."""
        for event in events:
            owner = _owner(event.user_id, event.session_id)
            if not event.item_id or event.event not in COUNTED_EVENTS or owner is None:
                continue
            self._note_change(owner)
            known = self._histories.get(owner)
            if known is None or known.get(event.item_id, -1) >= event.timestamp:
                continue
            is_late = bool(known) and event.timestamp < next(reversed(known.values()))
            _add(known, event.item_id, event.timestamp)
            if is_late:
                known = dict(sorted(known.items(), key=lambda pair: pair[1]))
            self._histories[owner] = self._cut(known)

    def forget(self, user_id: str = "", session_id: str = "") -> None:
        """Drops what is in memory about somebody: it is read again when needed."""
        owner = _owner(user_id, session_id)
        if owner is not None:
            self._note_change(owner)
            self._histories.pop(owner, None)

    def forget_users(self, is_gone: Callable[[str], bool]) -> None:
        """Drops the histories of users for whom ``is_gone`` holds, and of all sessions: they may be linked."""
        for owner in [*self._histories, *self._readings]:
            if owner[0] == "session" or is_gone(owner[1]):
                self._note_change(owner)
                self._histories.pop(owner, None)

    async def _read(self, owner: _Owner) -> tuple[dict[str, int], bool]:
        """A history from the store, and whether nothing was heard of its owner meanwhile."""
        reading = self._readings.setdefault(owner, _Reading())
        reading.readers += 1
        changes = reading.changes
        user_id, session_id = (owner[1], "") if owner[0] == "user" else ("", owner[1])
        try:
            read = await asyncio.to_thread(self._store.history, user_id, session_id, _EVENTS * self._length)
        finally:
            reading.readers -= 1
            if not reading.readers:
                del self._readings[owner]
        return self._cut(_items(read)), reading.changes == changes

    def _note_change(self, owner: _Owner) -> None:
        reading = self._readings.get(owner)
        if reading is not None:
            reading.changes += 1

    def _cut(self, history: dict[str, int]) -> dict[str, int]:
        surplus = len(history) - self._length
        return history if surplus <= 0 else dict(list(history.items())[surplus:])


def _owner(user_id: str, session_id: str) -> _Owner | None:
    if user_id:
        return "user", user_id
    return ("session", session_id) if session_id else None


def _items(read: Sequence[Interaction]) -> dict[str, int]:
    """Items with the times of their last events, by time."""
    found: dict[str, int] = {}
    for each in read:
        if each.event in COUNTED_EVENTS:
            _add(found, each.item_id, each.timestamp)
    return found


def _add(history: dict[str, int], item_id: str, timestamp: int) -> None:
    """At the end, also if it was there."""
    history.pop(item_id, None)
    history[item_id] = timestamp
