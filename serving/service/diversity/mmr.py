"""Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

Each step takes the item with the highest ``(1 - strength) * relevance - strength * similarity``, where ``similarity``
is the highest cosine to what is shown already (0 while nothing is). Relevance is the score on a scale from 0 to 1
over the candidates, so that ``strength`` means the same for every model. The paper's lambda is ``1 - strength``.

O(count * n * d): a step compares the item that was chosen with all others.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serving.service.diversity.greedy import Admit, everything, first_admitted, greedy
from serving.service.diversity.vectors import Array, check, relevance, unit_rows


def mmr(
    vectors: npt.ArrayLike,
    scores: Sequence[float] | npt.NDArray[np.floating],
    count: int,
    strength: float,
    *,
    shown: npt.ArrayLike | None = None,
    admit: Admit = everything,
) -> list[int]:
    """Chooses and orders items.

    Args:
        vectors: One for each item, [n, d], in the present order of the list.
        scores: One for each item.
        count: How many to choose at most.
        strength: From 0, which keeps the order exactly, to 1, which ignores all scores but the first item's.
        shown: Vectors of items that the list has already, such as pinned ones, [m, d].
        admit: Whether an item may be chosen; asked once per item, and a yes is a choice.

    Returns:
        Rows of ``vectors``, the first for the first place.

    Raises:
        ValueError: a shape or the strength is wrong.
    """
    rows, relevant = unit_rows(vectors), relevance(scores)
    check(rows, relevant, strength)
    if strength == 0:
        return first_admitted(len(rows), count, admit)
    gains = _Gains(rows, relevant, strength)
    if shown is not None and len(others := unit_rows(shown)):
        gains.compare(others)
    return greedy(gains, len(rows), count, admit)


class _Gains:
    def __init__(self, rows: Array, relevant: Array, strength: float) -> None:
        self._rows, self._relevant, self._strength = rows, relevant, strength
        self._similarity: Array | None = None

    def now(self) -> Array:
        gains: Array = (1 - self._strength) * self._relevant
        return gains if self._similarity is None else gains - self._strength * self._similarity

    def choose(self, number: int) -> None:
        self.compare(self._rows[number : number + 1])

    def compare(self, others: Array) -> None:
        similarity: Array = (self._rows @ others.T).max(axis=1)
        self._similarity = similarity if self._similarity is None else np.maximum(self._similarity, similarity)
