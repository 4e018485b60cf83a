"""Items of the catalogue."""

from collections.abc import Iterator, Mapping, Sequence

from serving.service.store.part import Part
from serving.service.store.types import ItemChange
from serving.service.types import Item


class Items(Part):
    """Items and their changes."""

    def put_items(self, items: Sequence[Item]) -> dict[str, int]:
        """Inserts items or replaces them whole, in one transaction; of an id that repeats, the last one counts.

        Returns:
            The new revision of each item that changed; one that is the same as before has no new revision.
        """
        raise NotImplementedError

    def patch_item(self, item_id: str, changes: Mapping[str, object]) -> ItemChange:
        """Changes some fields of an item.

        Args:
            item_id: The item.
            changes: New values by field of `Item`. ``numbers``, ``embeddings`` and ``attributes`` are merged by key,
                and None removes a key; other fields are replaced.

        Raises:
            NotFoundError: there is no such item.
        """
        raise NotImplementedError

    def delete_items(self, ids: Sequence[str]) -> list[bool]:
        """Deletes items and their vectors; `items_after` tells the other replicas. A later put revives an item.

        Returns:
            For each id whether there was such an item.
        """
        raise NotImplementedError

    def items_after(self, mark: str, limit: int = 1000) -> tuple[list[ItemChange], str]:
        """Changed items as they are now, in the order of their last changes, and the mark to go on from.

        Args:
            mark: From the previous call or `latest_mark`; empty: from the beginning.
            limit: Most changes to return; fewer mean that there are no more at present.
        """
        raise NotImplementedError

    def items(self, ids: Sequence[str]) -> dict[str, Item]:
        """The items that there are among ``ids``."""
        raise NotImplementedError

    def all_items(self, batch: int = 1000) -> Iterator[list[ItemChange]]:
        """All items with their revisions, in batches in the order of ids; no transaction is open between batches."""
        raise NotImplementedError

    def count_items(self) -> int:
        """Number of items, without deleted ones."""
        raise NotImplementedError
