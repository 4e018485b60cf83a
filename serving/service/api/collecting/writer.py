"""Group commit: one thread writes the events of many requests in one transaction."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from serving.service.api.metrics import Metrics
from serving.service.errors import UnavailableError
from serving.service.store import InvalidError, Store
from serving.service.types import Event

_LOGGER = logging.getLogger(__name__)
# Of one transaction: larger ones are hardly faster, and let the first of their requests wait.
_MOST: Final = 4_000


@dataclass(frozen=True, slots=True)
class _Part:
    events: Sequence[Event]
    answer: asyncio.Future[list[bool]]
    loop: asyncio.AbstractEventLoop


class EventWriter:
    """Writes events; a bounded number waits."""

    def __init__(
        self, store: Store, heard: Callable[[Sequence[Event]], None], metrics: Metrics, most_queued: int
    ) -> None:
        self._store = store
        self._heard = heard
        self._metrics = metrics
        self._most_queued = most_queued
        self._parts: deque[_Part] = deque()
        self._queued = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def close(self) -> None:
        """Writes what waits, and ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether it writes."""
        return self._thread.is_alive()

    async def write(self, events: Sequence[Event]) -> list[bool]:
        """Stores events; returns, for each, whether it is new, when all are durable and the recommender knows them.

        Raises:
            UnavailableError: too many wait already.
            StoreError: they could not be written.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[bool]] = loop.create_future()
        with self._changed:
            if self._closing:
                raise UnavailableError("The service is stopping. Remedy: send the events again.")
            # One request may always wait, however large.
            if self._queued and self._queued + len(events) > self._most_queued:
                raise UnavailableError(
                    f"{self._queued:,} events wait to be written. Remedy: send these again later: none was kept."
                )
            self._parts.append(_Part(events, answer, loop))
            self._queued += len(events)
            self._metrics.queued.set(self._queued)
            self._changed.notify()
        return await answer

    def _run(self) -> None:
        while parts := self._next():
            self._write(parts)
            with self._changed:
                self._queued -= sum(len(part.events) for part in parts)
                self._metrics.queued.set(self._queued)

    def _next(self) -> list[_Part]:
        with self._changed:
            while not self._parts and not self._closing:
                self._changed.wait()
            parts: list[_Part] = []
            size = 0
            while self._parts and (not parts or size + len(self._parts[0].events) <= _MOST):
                size += len(self._parts[0].events)
                parts.append(self._parts.popleft())
            return parts

    def _write(self, parts: list[_Part]) -> None:
        events = [event for part in parts for event in part.events]
        try:
            new = self._store.append_events(events)
        except InvalidError as error:
            # One request must not spoil those that came with it.
            if len(parts) == 1:
                _answer(parts[0], error)
            else:
                for part in parts:
                    self._write([part])
            return
        except Exception as error:
            _LOGGER.warning("events could not be written", exc_info=error)
            for part in parts:
                _answer(part, error)
            return
        self._metrics.commits.inc()
        kept = [event for event, is_new in zip(events, new, strict=True) if is_new]
        start = 0
        answers: dict[asyncio.AbstractEventLoop, list[tuple[_Part, list[bool]]]] = {}
        for part in parts:
            answers.setdefault(part.loop, []).append((part, new[start : start + len(part.events)]))
            start += len(part.events)
        for loop, mine in answers.items():
            try:
                loop.call_soon_threadsafe(self._acknowledge, kept, mine)
            except RuntimeError:  # the loop has ended with its requests
                _LOGGER.warning("events were written after their requests had ended")

    def _acknowledge(self, kept: list[Event], answers: list[tuple[_Part, list[bool]]]) -> None:
        if kept:
            try:
                self._heard(kept)
            except Exception as error:
                # They are durable: the client must not send them again.
                _LOGGER.exception("the recommender failed on new events", exc_info=error)
        for part, new in answers:
            if not part.answer.done():  # the request has timed out
                part.answer.set_result(new)


def _answer(part: _Part, error: Exception) -> None:
    def fail() -> None:
        if not part.answer.done():
            part.answer.set_exception(error)

    try:
        part.loop.call_soon_threadsafe(fail)
    except RuntimeError:
        _LOGGER.warning("events failed after their request had ended")
