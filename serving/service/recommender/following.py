"""What other replicas have written, read from the store's feeds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.histories import Histories
from serving.service.recommender.people import Profiles
from serving.service.recommender.trouble import Trouble
from serving.service.store import Store
from serving.service.store.errors import StoreError
from serving.service.types import LOGIN, Event, ItemChange, user_digest

_LOG = logging.getLogger(__name__)
_LIMIT: Final = 1_000
_T = TypeVar("_T")


class ItemListener(Protocol):
    """What hears of items; `serving.service.recommender.tiers.Tiers` documents the methods."""

    def changed(self, item_id: str) -> None:
        """An item is new or has changed."""
        ...

    def deleted(self, item_id: str) -> None:
        """An item is gone."""
        ...


class Follower:
    """Brings histories, profiles, catalogue and fresh tier up to date.

    Args:
        store: Its feeds are read.
        histories, profiles, catalogue, tiers: What is brought up to date.
    """

    def __init__(
        self, store: Store, histories: Histories, profiles: Profiles, catalogue: Catalogue, tiers: ItemListener
    ) -> None:
        self._store = store
        self._histories = histories
        self._profiles = profiles
        self._catalogue = catalogue
        self._tiers = tiers
        self._gone: set[str] = set()
        self._trouble = Trouble(_LOG, "The store can be read again.")
        self._event_mark = self._item_mark = self._profile_mark = self._deletion_mark = ""
        # Nothing has been written since.
        self._seen = ""

    async def start(self) -> None:
        """Reads all items and all deletions; events and profiles are followed from now on."""
        self._event_mark = self._profile_mark = await asyncio.to_thread(self._store.latest_mark)
        await self.look()

    @property
    def erasures(self) -> str:
        """The store's mark up to which erasures of people are known."""
        return self._deletion_mark

    def is_gone(self, user_id: str) -> bool:
        """Whether a person has been deleted."""
        return bool(self._gone) and user_digest(user_id) in self._gone

    def forget_user(self, user_id: str) -> None:
        """A person has been deleted."""
        self._gone.add(user_digest(user_id))
        self._drop(lambda other: other == user_id)

    def hear(self, events: Sequence[Event]) -> None:
        """Events count from now on."""
        for event in events:
            if event.event == LOGIN:
                self._histories.forget(user_id=event.user_id)
                self._histories.forget(session_id=event.session_id)
        self._histories.hear(events)

    def take(self, changes: Sequence[ItemChange]) -> None:
        """Items have changed."""
        for change in changes:
            if change.item is None:
                if self._catalogue.delete(change.item_id, change.revision):
                    self._tiers.deleted(change.item_id)
            elif self._catalogue.put(change.item, change.revision):
                self._tiers.changed(change.item_id)

    async def look(self) -> None:
        """Reads the feeds to their end.

        Raises:
            StoreError: the store can't be read.
        """
        mark = await asyncio.to_thread(self._store.latest_mark)
        if mark == self._seen:
            return
        self._deletion_mark = await _to_the_end(self._store.users_deleted_after, self._deletion_mark, self._forget)
        self._profile_mark = await _to_the_end(self._store.users_changed_after, self._profile_mark, self._read_again)
        self._item_mark = await _to_the_end(self._store.items_after, self._item_mark, self.take)
        self._event_mark = await _to_the_end(self._store.events_after, self._event_mark, self.hear)
        self._seen = mark

    async def follow(self, seconds: float, also: Callable[[], Awaitable[None]]) -> None:
        """Looks every so many seconds until cancelled, and does ``also`` each time."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
                await also()
                self._trouble.gone()
            except StoreError as error:
                self._trouble.met("The store can't be read; what others write is not seen meanwhile: %s", error)

    def _read_again(self, user_ids: Sequence[str]) -> None:
        for user_id in user_ids:
            self._profiles.forget(user_id)

    def _forget(self, digests: Sequence[str]) -> None:
        if digests:
            gone = set(digests)
            self._gone |= gone
            self._drop(lambda user_id: user_digest(user_id) in gone)

    def _drop(self, is_gone: Callable[[str], bool]) -> None:
        self._histories.forget_users(is_gone)
        self._profiles.forget_users(is_gone)


async def _to_the_end(
    read: Callable[[str, int], tuple[list[_T], str]], mark: str, take: Callable[[Sequence[_T]], None]
) -> str:
    while True:
        found, mark = await asyncio.to_thread(read, mark, _LIMIT)
        take(found)
        if len(found) < _LIMIT:
            return mark
