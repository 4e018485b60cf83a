"""The items as they are now, in memory."""

import time
from collections.abc import Iterable, Iterator, Sequence

from serving.service.types import Item


class Catalogue:
    """Items by id, and those that no answer may contain."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._deleted: set[str] = set()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def get(self, item_id: str) -> Item | None:
        """An item; None where the store has none of that id."""
        return self._items.get(item_id)

    def put(self, item: Item) -> None:
        """Takes an item, new or changed."""
        self._items[item.item_id] = item
        self._deleted.discard(item.item_id)

    def delete(self, item_id: str) -> None:
        """Remembers that an item is gone."""
        self._items.pop(item_id, None)
        self._deleted.add(item_id)

    def may_show(self, item_id: str, now: float) -> bool:
        """Whether an answer may contain an item; one that the store has never had is the model's own."""
        item = self._items.get(item_id)
        return item_id not in self._deleted if item is None else item.is_shown(now)

    def hidden(self, now: float | None = None) -> Iterable[str]:
        """Ids of the items that no answer may contain."""
        now = time.time() if now is None else now
        yield from self._deleted
        for item in self._items.values():
            if not item.is_shown(now):
                yield item.item_id


def allows(item: Item, languages: Sequence[str], categories: Sequence[str]) -> bool:
    """Whether an item passes a request's filters, as the exported graph reads them.

    Languages are ranges (RFC 4647, basic filtering): ``zh`` allows ``zh-TW``. Case doesn't matter.
    """
    if languages:
        own = item.language.lower()
        if not any(own == tag or own.startswith(f"{tag}-") for tag in map(str.lower, languages) if tag):
            return False
    if categories:
        labels = {label.lower() for label in item.categories}
        return any(label.lower() in labels for label in categories)
    return True
