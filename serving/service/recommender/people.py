"""Profiles of the people who came last."""

import asyncio
import time
from collections import OrderedDict
from typing import Final, Protocol

from serving.service.types import User

_MOST: Final = 10_000
# Seconds after which a profile is read again: another replica may have changed or deleted it.
_SECONDS: Final = 0.5


class ProfileStore(Protocol):
    """Where profiles are kept."""

    def user(self, user_id: str) -> User | None:
        """A profile; None if there is none."""
        ...


class Profiles:
    """Profiles in memory, half a second old at most.

    Args:
        store: Where the others are read.
    """

    def __init__(self, store: ProfileStore) -> None:
        self._store = store
        self._profiles: OrderedDict[str, tuple[float, User]] = OrderedDict()

    def known(self, user_id: str) -> User | None:
        """A profile, empty for somebody unknown; None if it is not in memory."""
        if not user_id:
            return User(user_id="")
        found = self._profiles.get(user_id)
        return found[1] if found is not None and time.monotonic() - found[0] < _SECONDS else None

    async def get(self, user_id: str) -> User:
        """Like `known`, from the store if need be.

        Raises:
            StoreError: the store can't be read.
        """
        known = self.known(user_id)
        if known is not None:
            return known
        found, now = self._profiles.get(user_id), time.monotonic()
        user = await asyncio.to_thread(self._store.user, user_id) or User(user_id=user_id)
        # Unless it was put or dropped meanwhile.
        if self._profiles.get(user_id) is found:
            self._keep(now, user)
        return user

    def put(self, user: User) -> None:
        """Takes a profile."""
        self._keep(time.monotonic(), user)

    def forget(self, user_id: str) -> None:
        """Drops a profile."""
        self._profiles.pop(user_id, None)

    def _keep(self, now: float, user: User) -> None:
        self._profiles[user.user_id] = now, user
        self._profiles.move_to_end(user.user_id)
        while len(self._profiles) > _MOST:
            self._profiles.popitem(last=False)
