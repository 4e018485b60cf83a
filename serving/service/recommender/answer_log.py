"""Writes down what was shown, many answers in one transaction."""

import asyncio
import logging
from typing import Final, Protocol

from serving.service.recommender.trouble import Trouble
from serving.service.store.errors import InvalidError, StoreError
from serving.service.types import ShownRecommendation

_LOG = logging.getLogger(__name__)
_BATCH: Final = 1_000
# Seconds to wait after a failure.
_PAUSE: Final = 0.5


class AnswerStore(Protocol):
    """Where answers are kept."""

    def log_recommendations(self, shown: list[ShownRecommendation], erasures: str) -> None:
        """Stores answers in one transaction; those that are there already change nothing.

        Answers to people who were erased after the mark ``erasures`` are not stored.
        """
        ...


class AnswerLog:
    """Answers on their way to the store.

    Args:
        store: Where they go.
        seconds: Between two transactions.
        most: Answers that wait at most; further ones are counted and not kept.

    Attributes:
        lost: Answers that were not kept: the store took none for too long, or refused them.
    """

    def __init__(self, store: AnswerStore, seconds: float = 0.1, most: int = 50_000) -> None:
        self._store = store
        self._seconds = seconds
        self._most = most
        self._waiting: list[tuple[ShownRecommendation, str]] = []
        self._there = asyncio.Event()
        self._late = Trouble(_LOG, "Answers are written down again.")
        self._losing = Trouble(_LOG, "No more answers are lost.")
        self.lost = 0

    def add(self, shown: ShownRecommendation, erasures: str = "") -> None:
        """An answer is about to be sent.

        Args:
            shown: The answer.
            erasures: The store's mark up to which erasures of people were known when the request came.
        """
        if len(self._waiting) >= self._most:
            self._lose("The store takes no answers and %d wait: further ones are lost.", len(self._waiting))
            return
        self._waiting.append((shown, erasures))
        self._there.set()

    async def write_forever(self) -> None:
        """Writes what comes until cancelled."""
        while True:
            await self._there.wait()
            await asyncio.sleep(self._seconds)
            try:
                await self.flush()
                self._late.gone()
            except StoreError as error:
                self._late.met("Answers wait to be written down: %s", error)
                await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Writes what waits now.

        Raises:
            StoreError: the store can't; everything still waits.
        """
        while self._waiting:
            erasures = self._waiting[0][1]
            # People are erased seldom: nearly always these are all.
            others = (place for place, each in enumerate(self._waiting[:_BATCH]) if each[1] != erasures)
            size = next(others, _BATCH)
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            try:
                await self._write([shown for shown, _ in batch], erasures)
            except BaseException:
                self._waiting = batch + self._waiting
                raise
        self._losing.gone()
        self._there.clear()

    async def _write(self, batch: list[ShownRecommendation], erasures: str) -> None:
        try:
            await asyncio.to_thread(self._store.log_recommendations, batch, erasures)
        except InvalidError as error:
            # Too large for one call, or there is one that the store will never take.
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._write(batch[:middle], erasures)
                await self._write(batch[middle:], erasures)
            else:
                self._lose("An answer can't be written down: %s", error)

    def _lose(self, message: str, *arguments: object) -> None:
        self.lost += 1
        self._losing.met(message, *arguments)
