"""The items as they are now, in memory."""

from collections.abc import Iterator, Sequence

from serving.service.types import Item


class Catalogue:
    """Items by id, and the ids of deleted ones.

    What this replica writes and what it reads from the store's feed may arrive in any order, so an older revision than
    the known one changes nothing.
    """

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        # Deleted ones too.
        self._revisions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def get(self, item_id: str) -> Item | None:
        """An item; None where the store has none of that id."""
        return self._items.get(item_id)

    def revision(self, item_id: str) -> int | None:
        """The revision of an item; None if it is deleted or was never there."""
        return self._revisions[item_id] if item_id in self._items else None

    def revisions(self) -> dict[str, int]:
        """The revisions of all items that are there, by the time of their last change."""
        return {item_id: self._revisions[item_id] for item_id in self._items}

    def newest(self) -> Iterator[Item]:
        """All items, those that changed last first."""
        return reversed(self._items.values())

    def put(self, item: Item, revision: int) -> bool:
        """Takes an item, new or changed; returns whether this revision was not known."""
        if not self._is_new(item.item_id, revision):
            return False
        self._items.pop(item.item_id, None)
        self._items[item.item_id] = item
        return True

    def delete(self, item_id: str, revision: int) -> bool:
        """Removes an item; returns whether this revision was not known."""
        if not self._is_new(item_id, revision):
            return False
        self._items.pop(item_id, None)
        return True

    def is_deleted(self, item_id: str) -> bool:
        """Whether there was an item which has been deleted."""
        return item_id in self._revisions and item_id not in self._items

    def may_show(self, item_id: str, now: float) -> bool:
        """Whether an answer may contain an item; the store need not know those of the model."""
        item = self._items.get(item_id)
        return not self.is_deleted(item_id) if item is None else item.is_shown(now)

    def _is_new(self, item_id: str, revision: int) -> bool:
        if self._revisions.get(item_id, -1) >= revision:
            return False
        self._revisions[item_id] = revision
        return True


def allows(item: Item, languages: Sequence[str], categories: Sequence[str]) -> bool:
    """Whether an item passes a request's filters, as the exported graph reads them.

    Languages are ranges (RFC 4647, basic filtering): ``zh`` allows ``zh-TW``. Case doesn't matter, and empty strings
    are no filter.
    """
    tags = [tag.lower() for tag in languages if tag]
    if tags:
        own = item.language.lower()
        if not any(own == tag or own.startswith(f"{tag}-") for tag in tags):
            return False
    wanted = {label.lower() for label in categories if label}
    return not wanted or any(label.lower() in wanted for label in item.categories)
