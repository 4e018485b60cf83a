"""Popular items in memory."""

import asyncio
import threading
import time
from dataclasses import dataclass, field

import pytest

from serving.service.recommender import popular
from serving.service.recommender.popular import Popular
from serving.service.store import UnavailableError


@dataclass
class _Store:
    reads: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    is_broken: bool = False

    def popular_items(self, language: str, limit: int = 100) -> list[str]:
        self.reads.append(language)
        assert self.gate.wait(20)
        if self.is_broken:
            raise UnavailableError("gone")
        return [f"{language}-{len(self.reads)}"]


def test_all_who_ask_at_once_wait_for_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    async def run() -> None:
        store = _Store()
        items = Popular(store)
        asked = [asyncio.create_task(items.items("ko")) for _ in range(10)]
        await asyncio.sleep(0)
        asked[0].cancel()  # the others don't depend on the first
        store.gate.set()
        assert await asyncio.gather(*asked[1:]) == [["ko-1"]] * 9
        assert await items.items("ko") == ["ko-1"]
        clock[0] += 11
        assert await items.items("ko") == ["ko-2"]
        assert items.known("ko") == ["ko-2"]
        assert items.known("th") == []

    asyncio.run(run())


def test_after_an_error_the_store_is_asked_again() -> None:
    async def run() -> None:
        store = _Store(is_broken=True)
        store.gate.set()
        items = Popular(store)
        with pytest.raises(UnavailableError):
            await items.items("ko")
        store.is_broken = False
        assert await items.items("ko") == ["ko-2"]

    asyncio.run(run())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(popular, "_LANGUAGES", 2)

    async def run() -> None:
        store = _Store()
        store.gate.set()
        items = Popular(store)
        for language in ("ar", "ko", "th"):
            await items.items(language)
        assert [bool(items.known(language)) for language in ("ar", "ko", "th")] == [False, True, True]

    asyncio.run(run())
