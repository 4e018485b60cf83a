"""Profiles of the people who came last."""

import asyncio
import time
from collections import OrderedDict
from typing import Final, Protocol

from serving.service.types import User

_MOST: Final = 100_000
# Seconds after which a profile is read again: another replica may have changed it.
_SECONDS: Final = 1.0


class ProfileStore(Protocol):
    """Where profiles are kept."""

    def user(self, user_id: str) -> User | None:
        """A profile; None if there is none."""
        ...


class Profiles:
    """Profiles in memory, a second old at most.

    Args:
        store: Where the others are read.
    """

    def __init__(self, store: ProfileStore) -> None:
        self._store = store
        self._profiles: OrderedDict[str, tuple[float, User]] = OrderedDict()

    async def get(self, user_id: str) -> User:
        """A profile, empty of somebody unknown."""
        if not user_id:
            return User(user_id="")
        found = self._profiles.get(user_id)
        if found is not None and time.monotonic() - found[0] < _SECONDS:
            return found[1]
        user = await asyncio.to_thread(self._store.user, user_id) or User(user_id=user_id)
        self.put(user)
        return user

    def put(self, user: User) -> None:
        """Takes a profile."""
        self._profiles[user.user_id] = time.monotonic(), user
        self._profiles.move_to_end(user.user_id)
        while len(self._profiles) > _MOST:
            self._profiles.popitem(last=False)

    def forget(self, user_id: str) -> None:
        """Drops a profile."""
        self._profiles.pop(user_id, None)
