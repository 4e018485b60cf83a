"""What is popular, for when there is no model."""

import asyncio
import time
from typing import Final, Protocol

_ITEMS: Final = 1_000
_SECONDS: Final = 10.0


class PopularityStore(Protocol):
    """Which counts events."""

    def popular_items(self, language: str, limit: int = 100) -> list[str]:
        """Ids of the items with the most events in a language, then of those with the most in all languages."""
        ...


class Popular:
    """Popular items by language, some seconds old.

    Args:
        store: Where they are read.
    """

    def __init__(self, store: PopularityStore) -> None:
        self._store = store
        self._found: dict[str, tuple[float, list[str]]] = {}

    async def items(self, language: str) -> list[str]:
        """Ids, the most popular first."""
        now = time.monotonic()
        found = self._found.get(language)
        if found is None or now - found[0] > _SECONDS:
            # Languages are typed by people: what they type is not kept for ever.
            self._found = {tag: each for tag, each in self._found.items() if now - each[0] <= _SECONDS}
            found = now, await asyncio.to_thread(self._store.popular_items, language, _ITEMS)
            self._found[language] = found
        return found[1]
