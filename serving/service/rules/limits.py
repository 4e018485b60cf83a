"""The counters of caps while a list is filled."""

from collections import Counter
from collections.abc import Sequence

from serving.service.rules import columns
from serving.service.rules.kinds import Cap
from serving.service.types import Item


class Limits:
    """How much room caps leave.

    Attributes:
        refused: Name of a cap -> items that it refused.
    """

    def __init__(self, caps: Sequence[Cap]) -> None:
        self._caps = [(cap, Counter[columns.Key]()) for cap in caps]
        self.refused = Counter[str]()

    def admit(self, item: Item) -> bool:
        """Counts an item if every cap has room for it. Once refused, it is refused for good: counts only grow."""
        for cap, counts in self._caps:
            if any(counts[key] >= cap.at_most for key in _keys(cap, item)):
                self.refused[cap.name] += 1
                return False
        self.take(item)
        return True

    def has_room(self, item: Item) -> bool:
        """Whether every cap has room for an item, which is not counted."""
        return all(counts[key] < cap.at_most for cap, counts in self._caps for key in _keys(cap, item))

    def take(self, item: Item) -> None:
        """Counts an item, room or not."""
        for cap, counts in self._caps:
            counts.update(_keys(cap, item))


def _keys(cap: Cap, item: Item) -> frozenset[columns.Key]:
    if cap.where is not None and not cap.where.holds(item):
        return frozenset()
    # A label that is given twice is one label.
    return frozenset(columns.keys(item, cap.per))
