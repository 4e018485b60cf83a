"""Shows items that nobody has seen yet a little, so that they can become known (epsilon-greedy)."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

# Newest unseen items to choose from, and items that are looked at to find them.
_CHOICE: Final = 200
_LOOKED_AT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Exploration:
    """What an answer explores.

    Attributes:
        positions: Places that might show an unseen item.
        kept: Probability with which each of them keeps its own item.
        place: The place that does show one; None in most answers.
        item_id: The item shown there.
        propensity: Probability of this item in this place.
    """

    positions: Collection[int]
    kept: float
    place: int | None = None
    item_id: str = ""
    propensity: float = 0.0


class Explorer:
    """Chooses unseen items.

    Args:
        share: Probability that an answer explores.
        least: Times that an item is shown by this process before it counts as seen.
        seed: Of the draws; None: not reproducible.
    """

    def __init__(self, share: float, least: int, seed: int | None = None) -> None:
        self._share = share
        self._least = least
        self._draws = random.Random(seed)
        self._shown: Counter[str] = Counter()

    @property
    def explores(self) -> bool:
        """Whether it ever does."""
        return self._share > 0.0

    def shown(self, item_ids: Iterable[str]) -> None:
        """Fresh items have been shown."""
        if self.explores:
            self._shown.update(item_ids)

    def unseen(self, newest: Iterable[str], allowed: Callable[[str], bool]) -> list[str]:
        """The newest items that count as unseen.

        Args:
            newest: Fresh items, the newest first.
            allowed: Whether an item may be in the list.
        """
        found: list[str] = []
        for _, item_id in zip(range(_LOOKED_AT), newest, strict=False):
            if self._shown[item_id] < self._least and allowed(item_id):
                found.append(item_id)
                if len(found) == _CHOICE:
                    break
        return found

    def draw(self, positions: Sequence[int], unseen: Sequence[str]) -> Exploration | None:
        """What to explore in a list.

        Args:
            positions: Places that may show an unseen item.
            unseen: Items each of which may be in each of these places.

        Returns:
            None if there is nothing to choose from: the list is then shown with certainty.
        """
        if not self.explores or not positions or not unseen:
            return None
        each = self._share / len(positions)
        if self._draws.random() >= self._share:
            return Exploration(positions, 1.0 - each)
        place, item_id = self._draws.choice(positions), self._draws.choice(unseen)
        return Exploration(positions, 1.0 - each, place, item_id, each / len(unseen))
