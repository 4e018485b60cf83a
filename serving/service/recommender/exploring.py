"""Shows items that nobody has seen yet a little, so that they can become known (epsilon-greedy)."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.service.recommender.fresh import FreshTier

# Newest unseen items to choose from.
_CHOICE = 200


@dataclass(frozen=True, slots=True)
class Exploration:
    """What an answer explores.

    Attributes:
        position: The place whose item it takes.
        item_id: The item shown there.
        propensity: Probability that this item is shown in that place.
        kept: Probability with which each other place keeps its item.
    """

    position: int
    item_id: str
    propensity: float
    kept: float


class Explorer:
    """Chooses unseen items.

    Args:
        share: Probability that an answer explores.
        least: Times that an item is shown before it counts as seen.
        seed: Of the draws; None: not reproducible.
    """

    def __init__(self, share: float, least: int, seed: int | None = None) -> None:
        self.share = share
        self._least = least
        self._draws = random.Random(seed)
        self._shown: Counter[str] = Counter()

    def shown(self, item_ids: Sequence[str]) -> None:
        """Items have been shown."""
        if self.share:
            self._shown.update(item_ids)

    def draw(self, tier: FreshTier, places: int, allowed: Callable[[str], bool]) -> Exploration | None:
        """What to explore in a list, the first of which is never replaced; None: nothing.

        Args:
            tier: Its items are candidates.
            places: Length of the list.
            allowed: Whether an item may be in the list.
        """
        if not self.share or places < 2 or self._draws.random() >= self.share:
            return None
        unseen: list[str] = []
        for item_id in reversed(list(tier)):
            if self._shown[item_id] < self._least and allowed(item_id):
                unseen.append(item_id)
                if len(unseen) == _CHOICE:
                    break
        if not unseen:
            return None
        each = self.share / (places - 1)
        return Exploration(self._draws.randrange(1, places), self._draws.choice(unseen), each / len(unseen), 1.0 - each)
