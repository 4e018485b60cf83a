"""Greedy MAP inference of a determinantal point process (Chen, Zhang and Zhou, NeurIPS 2018, arXiv 1709.05135).

The list Y is to have a high ``(1 - strength) * (sum of relevance) + strength * log det S_Y``, the paper's trade-off
with theta = 1 - strength. Each step takes the item that raises it most. S is ``(1 + cosine) / 2`` as in the paper,
so that opposite items are not taken as alike, with 1 on the diagonal. Relevance is the score on a scale from 0 to 1
over the candidates.

``log det S_Y`` grows by the log of the item's conditional variance, which a Cholesky factor gives: it gains one row
per step. So a step costs O(n * (d + steps so far)), all of them O(count * n * (count + d)). Logarithms of the kernel's
``exp(alpha * relevance)`` are never taken back, so no strength overflows.

A variance below `_LEAST_VARIANCE` counts as that: copies of what is shown come last, by their relevance.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.service.diversity.greedy import Admit, everything, first_admitted, greedy
from serving.service.diversity.vectors import Array, check, relevance, unit_rows

# Well above what rounding leaves of a variance of zero, with 1 as the largest.
_LEAST_VARIANCE: Final = 1e-12


def dpp(
    vectors: npt.ArrayLike,
    scores: Sequence[float] | npt.NDArray[np.floating],
    count: int,
    strength: float,
    *,
    shown: npt.ArrayLike | None = None,
    admit: Admit = everything,
) -> list[int]:
    """Chooses and orders items; arguments, result and errors are those of `mmr`."""
    rows, relevant = unit_rows(vectors), relevance(scores)
    check(rows, relevant, strength)
    if strength == 0:
        return first_admitted(len(rows), count, admit)
    others = unit_rows(shown) if shown is not None else rows[:0]
    gains = _Gains(np.concatenate([rows, others]), relevant, strength, len(others) + min(count, len(rows)))
    for number in range(len(others)):
        gains.choose(len(rows) + number)
    return greedy(gains, len(rows), count, admit)


class _Gains:
    def __init__(self, rows: Array, relevant: Array, strength: float, steps: int) -> None:
        self._rows, self._relevant, self._strength = rows, relevant, strength
        self._factor = np.zeros((max(0, steps), len(rows)))
        self._size = 0
        self._variance = np.ones(len(rows))

    def now(self) -> Array:
        variance = np.maximum(self._variance[: len(self._relevant)], _LEAST_VARIANCE)
        gains: Array = (1 - self._strength) * self._relevant + self._strength * np.log(variance)
        return gains

    def choose(self, number: int) -> None:
        variance = self._variance[number]
        if variance <= _LEAST_VARIANCE:
            # Others gain nothing from what is a copy.
            return
        similarity = (1 + self._rows @ self._rows[number]) / 2
        known = self._factor[: self._size]
        row = (similarity - known[:, number] @ known) / np.sqrt(variance)
        self._factor[self._size] = row
        self._size += 1
        self._variance -= row**2
