"""What people did last, in memory: the store's events, and those that are on their way to it."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from serving.service.store.types import COUNTED_EVENTS
from serving.service.types import Event, Interaction

_Owner = tuple[str, str]


class HistoryStore(Protocol):
    """Where histories are read that are not in memory."""

    def history(self, user_id: str = "", session_id: str = "", limit: int = 100) -> list[Interaction]:
        """The newest events with an item, the newest last."""
        ...


class Histories:
    """The newest items of the people who came last; one loop's, and no other thread's.

    Args:
        length: Items of a history.
        owners: Most people whose histories are kept; others are read again.
    """

    def __init__(self, length: int = 50, owners: int = 100_000) -> None:
        self.length = length
        self._owners = owners
        self._histories: OrderedDict[_Owner, dict[str, int]] = OrderedDict()

    def get(self, user_id: str, session_id: str) -> list[str] | None:
        """Ids of the items, newest last, each once; None: they have to be read."""
        owner = _owner(user_id, session_id)
        if owner is None:
            return []
        found = self._histories.get(owner)
        if found is None:
            return None
        self._histories.move_to_end(owner)
        return list(found)

    def put(self, user_id: str, session_id: str, read: Sequence[Interaction]) -> list[str]:
        """Takes a history that was read, the newest last."""
        owner = _owner(user_id, session_id)
        if owner is None:
            return []
        # What was heard while it was read is newer.
        heard = self._histories.pop(owner, {})
        kept: dict[str, int] = {}
        for each in read:
            if each.event in COUNTED_EVENTS and each.item_id not in heard:
                _add(kept, each.item_id, each.timestamp)
        self._histories[owner] = self._cut(kept | heard)
        while len(self._histories) > self._owners:
            self._histories.popitem(last=False)
        return list(self._histories[owner])

    def hear(self, events: Iterable[Event]) -> None:
        """Adds events to the histories that are in memory."""
        for event in events:
            owner = _owner(event.user_id, event.session_id)
            if not event.item_id or event.event not in COUNTED_EVENTS or owner is None:
                continue
            known = self._histories.get(owner)
            if known is None:
                continue
            if known.get(event.item_id, -1) >= event.timestamp:
                continue
            late = bool(known) and event.timestamp < next(reversed(known.values()))
            _add(known, event.item_id, event.timestamp)
            if late:
                known = dict(sorted(known.items(), key=lambda pair: pair[1]))
            self._histories[owner] = self._cut(known)

    def forget(self, user_id: str = "", session_id: str = "") -> None:
        """Drops what is in memory of somebody: it is read again when needed."""
        owner = _owner(user_id, session_id)
        if owner is not None:
            self._histories.pop(owner, None)

    def forget_users(self, is_gone: "Predicate") -> None:
        """Drops the histories of users for whom ``is_gone`` holds, and of all sessions: they may be linked."""
        for owner in [owner for owner in self._histories if owner[0] == "session" or is_gone(owner[1])]:
            del self._histories[owner]

    def _cut(self, history: dict[str, int]) -> dict[str, int]:
        surplus = len(history) - self.length
        return history if surplus <= 0 else dict(list(history.items())[surplus:])


class Predicate(Protocol):
    """Of a user's id."""

    def __call__(self, user_id: str) -> bool:
        """Whether it holds."""
        ...


def _owner(user_id: str, session_id: str) -> _Owner | None:
    if user_id:
        return "user", user_id
    return ("session", session_id) if session_id else None


def _add(history: dict[str, int], item_id: str, timestamp: int) -> None:
    """At the end, also if it was there."""
    history.pop(item_id, None)
    history[item_id] = timestamp
