"""What is popular, for when there is no model."""

import asyncio
import time
from collections import OrderedDict
from typing import Final, Protocol

_ITEMS: Final = 1_000
_SECONDS: Final = 10.0
# People type languages: what they type is not kept for ever.
_LANGUAGES: Final = 256


class PopularityStore(Protocol):
    """Which counts events."""

    def popular_items(self, language: str, limit: int = 100) -> list[str]:
        """Ids of the items with the most events in a language, then of those with the most in all languages."""
        ...


class Popular:
    """Popular items by language, read again after some seconds.

    Args:
        store: Where they are read.
    """

    def __init__(self, store: PopularityStore) -> None:
        self._store = store
        self._found: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._reading: dict[str, asyncio.Task[list[str]]] = {}

    def known(self, language: str) -> list[str]:
        """Those that were read last, however long ago; nothing if none were."""
        found = self._found.get(language)
        return [] if found is None else found[1]

    async def items(self, language: str) -> list[str]:
        """Ids, the most popular first.

        Raises:
            StoreError: the store can't be read.
        """
        found = self._found.get(language)
        if found is not None and time.monotonic() - found[0] <= _SECONDS:
            return found[1]
        # All who ask meanwhile wait for the same answer.
        reading = self._reading.get(language)
        if reading is None:
            reading = self._reading[language] = asyncio.create_task(self._read(language))
            reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(reading)

    async def _read(self, language: str) -> list[str]:
        try:
            now = time.monotonic()
            items = await asyncio.to_thread(self._store.popular_items, language, _ITEMS)
            self._found[language] = now, items
            self._found.move_to_end(language)
            while len(self._found) > _LANGUAGES:
                self._found.popitem(last=False)
            return items
        finally:
            del self._reading[language]
