"""What diversity gives and what it costs, for people who choose its strength."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.service.diversity.vectors import Array, check, relevance, unit_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A new list compared with the old one of the same length.

    Attributes:
        similarity_before, similarity_after: Mean cosine of the pairs of the list; 0 for a list without pairs.
        ndcg: Of the new order, with the old scores as gains: 1 if nothing is lost.
    """

    similarity_before: float
    similarity_after: float
    ndcg: float


def cost(vectors: npt.ArrayLike, scores: Sequence[float] | npt.NDArray[np.floating], chosen: Sequence[int]) -> Cost:
    """Compares a new list with the first items of the old one.

    Args:
        vectors: One for each candidate, [n, d], in the old order.
        scores: One for each candidate; as gains they are on a scale from 0 to 1 over all candidates.
        chosen: Rows of the new list, the first for the first place.

    Raises:
        ValueError: the numbers of vectors and scores differ.
    """
    rows, gains = unit_rows(vectors), relevance(scores)
    check(rows, gains, 0)
    new = np.asarray(chosen, int)
    ideal = np.sort(gains)[::-1][: len(new)]
    best = _discounted(ideal)
    return Cost(
        similarity_before=_similarity(rows[: len(new)]),
        similarity_after=_similarity(rows[new]),
        ndcg=_discounted(gains[new]) / best if best else 1.0,
    )


def _similarity(rows: Array) -> float:
    """Mean cosine of all pairs of rows that have a direction."""
    rows = rows[rows.any(axis=1)]
    size = len(rows)
    if size < 2:
        return 0.0
    # The square of the sum is the sum over all pairs, each twice, and that of the squares.
    total = rows.sum(axis=0)
    return float((total @ total - np.einsum("ij,ij->", rows, rows)) / (size * (size - 1)))


def _discounted(gains: Array) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
