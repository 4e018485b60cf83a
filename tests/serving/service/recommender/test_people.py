"""Profiles in memory."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from serving.service.recommender import people
from serving.service.recommender.people import Profiles
from serving.service.types import User


@dataclass
class _Store:
    users: dict[str, User] = field(default_factory=dict)
    gate: threading.Event | None = None
    reached: threading.Event = field(default_factory=threading.Event)

    def user(self, user_id: str) -> User | None:
        found = self.users.get(user_id)
        if self.gate is not None:
            self.reached.set()
            assert self.gate.wait(20)
        return found


def test_profiles_are_read_once_until_they_are_put_or_dropped() -> None:
    async def run() -> None:
        store = _Store()
        profiles = Profiles(store)
        assert await profiles.get("") == User(user_id="")
        assert await profiles.get("ana") == User(user_id="ana")
        store.users["ana"] = User(user_id="ana", country="ES")
        assert await profiles.get("ana") == User(user_id="ana")
        profiles.forget("ana")
        assert await profiles.get("ana") == store.users["ana"]
        profiles.put(User(user_id="ana", country="MX"))
        assert (await profiles.get("ana")).country == "MX"
        profiles.forget_users(lambda user_id: user_id == "bo")
        assert (await profiles.get("ana")).country == "MX"
        profiles.forget_users(lambda user_id: user_id == "ana")
        assert (await profiles.get("ana")).country == "ES"

    asyncio.run(run())


def test_a_profile_that_is_put_while_the_earlier_one_is_read_stays() -> None:
    async def run() -> None:
        store = _Store({"ana": User(user_id="ana", country="ES")}, threading.Event())
        profiles = Profiles(store)
        reading = asyncio.create_task(profiles.get("ana"))
        assert await asyncio.to_thread(store.reached.wait, 20)
        profiles.put(User(user_id="ana", country="MX"))
        assert store.gate is not None
        store.gate.set()
        await reading
        found = profiles.known("ana")
        assert found is not None
        assert found.country == "MX"

    asyncio.run(run())


def test_a_profile_that_is_dropped_while_it_is_read_is_read_again() -> None:
    async def run() -> None:
        store = _Store({"ana": User(user_id="ana", country="ES")}, threading.Event())
        profiles = Profiles(store)
        reading = asyncio.create_task(profiles.get("ana"))
        assert await asyncio.to_thread(store.reached.wait, 20)
        store.users["ana"] = User(user_id="ana", country="MX")
        profiles.forget("ana")
        assert store.gate is not None
        store.gate.set()
        assert (await reading).country == "ES"
        assert profiles.known("ana") is None
        assert (await profiles.get("ana")).country == "MX"

    asyncio.run(run())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "_MOST", 2)
    profiles = Profiles(_Store())
    for user_id in "abc":
        profiles.put(User(user_id=user_id))
    assert [profiles.known(user_id) is None for user_id in "abc"] == [True, False, False]
