"""Profiles of the people who came last."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from serving.service.types import User

_MOST: Final = 10_000


class ProfileStore(Protocol):
    """Where profiles are kept."""

    def user(self, user_id: str) -> User | None:
        """A profile; None if there is none."""
        ...


class Profiles:
    """Profiles in memory; whoever follows the store's changes tells which ones are no longer those of the store.

    Args:
        store: Where the others are read.
    """

    def __init__(self, store: ProfileStore) -> None:
        self._store = store
        self._profiles: OrderedDict[str, User] = OrderedDict()
        # The last reading of each profile that is being read.
        self._readings: dict[str, object] = {}

    def known(self, user_id: str) -> User | None:
        """A profile, empty for somebody unknown; None if it is not in memory."""
        if not user_id:
            return User(user_id="")
        found = self._profiles.get(user_id)
        if found is not None:
            self._profiles.move_to_end(user_id)
        return found

    async def get(self, user_id: str) -> User:
        """Like `known`, from the store if need be.

        Raises:
            StoreError: the store can't be read.
        """
        known = self.known(user_id)
        if known is not None:
            return known
        reading = self._readings[user_id] = object()
        try:
            user = await asyncio.to_thread(self._store.user, user_id) or User(user_id=user_id)
            # Unless it was put or dropped meanwhile.
            if self._readings.get(user_id) is reading:
                self._keep(user)
        finally:
            if self._readings.get(user_id) is reading:
                del self._readings[user_id]
        return user

    def put(self, user: User) -> None:
        """Takes a profile."""
        self._readings.pop(user.user_id, None)
        self._keep(user)

    def forget(self, user_id: str) -> None:
        """Drops a profile: it is read again when needed."""
        self._readings.pop(user_id, None)
        self._profiles.pop(user_id, None)

    def forget_users(self, is_gone: Callable[[str], bool]) -> None:
        """Drops the profiles of users for whom ``is_gone`` holds."""
        for user_id in [*self._profiles, *self._readings]:
            if is_gone(user_id):
                self.forget(user_id)

    def _keep(self, user: User) -> None:
        self._profiles[user.user_id] = user
        self._profiles.move_to_end(user.user_id)
        while len(self._profiles) > _MOST:
            self._profiles.popitem(last=False)
