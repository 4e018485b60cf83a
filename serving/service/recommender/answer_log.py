"""Writes down what was shown, many answers in one transaction."""

import asyncio
import logging
from typing import Final, Protocol

from serving.service.store.errors import StoreError
from serving.service.types import ShownRecommendation

_LOG = logging.getLogger(__name__)
# Answers that wait at most; beyond, they are counted and not kept.
_MOST: Final = 50_000
_BATCH: Final = 1_000


class AnswerStore(Protocol):
    """Where answers are kept."""

    def log_recommendations(self, shown: list[ShownRecommendation]) -> None:
        """Stores answers in one transaction."""
        ...


class AnswerLog:
    """Answers on their way to the store.

    Args:
        store: Where they go.
        seconds: Between two transactions.

    Attributes:
        lost: Answers that could not be kept, because the store took none for too long.
    """

    def __init__(self, store: AnswerStore, seconds: float = 0.1) -> None:
        self._store = store
        self._seconds = seconds
        self._waiting: list[ShownRecommendation] = []
        self._there = asyncio.Event()
        self.lost = 0

    def add(self, shown: ShownRecommendation) -> None:
        """An answer is about to be sent."""
        if len(self._waiting) >= _MOST:
            if not self.lost:
                _LOG.error("Answers can't be written down: the store takes none. Events will not find them.")
            self.lost += 1
            return
        self._waiting.append(shown)
        self._there.set()

    async def write_forever(self) -> None:
        """Writes what comes until cancelled."""
        while True:
            await self._there.wait()
            await asyncio.sleep(self._seconds)
            try:
                await self.flush()
            except StoreError as error:
                _LOG.warning("Answers wait to be written down: %s", error)

    async def flush(self) -> None:
        """Writes what waits now.

        Raises:
            StoreError: the store can't; it waits on.
        """
        while self._waiting:
            batch = self._waiting[:_BATCH]
            await asyncio.to_thread(self._store.log_recommendations, batch)
            del self._waiting[: len(batch)]
        self._there.clear()
