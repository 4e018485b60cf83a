"""Vectors and scores in the form that both methods take."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]


def unit_rows(vectors: npt.ArrayLike) -> Array:
    """Vectors at unit length, in double precision.

    A row that has no direction (zeros, NaN, infinity), such as that of an item without a vector, becomes zeros: its
    cosine with all others is 0.

    Raises:
        ValueError: it is no matrix.
    """
    rows = np.array(vectors, np.float64)
    if rows.ndim != 2:
        raise ValueError(f"vectors of shape {rows.shape}: a matrix [items, dimensions] is wanted.")
    rows[~np.isfinite(rows).all(axis=1)] = 0
    # By the largest number first: a square might be infinite or zero.
    rows = _divided(rows, np.abs(rows).max(axis=1, initial=0))
    return _divided(rows, np.sqrt(np.einsum("ij,ij->i", rows, rows)))


def _divided(rows: Array, by: Array) -> Array:
    divisor = by[:, None]
    divided: Array = np.divide(rows, divisor, out=np.zeros_like(rows), where=divisor > 0)
    return divided


def relevance(scores: Sequence[float] | npt.NDArray[np.floating]) -> Array:
    """Scores on a scale from 0, the lowest finite one, to 1, the highest.

    If all are equal, so are they then: 1. What is not finite is 0, but 1 if it is positive infinity.

    Raises:
        ValueError: they are no list of numbers.
    """
    given = np.asarray(scores, np.float64)
    if given.ndim != 1:
        raise ValueError(f"scores of shape {given.shape}: one number for each item is wanted.")
    scaled = np.where(given == math.inf, 1.0, 0.0)
    is_finite = np.isfinite(given)
    if is_finite.any():
        # Halves, whose difference is finite.
        halves = given[is_finite] / 2
        low, high = halves.min(), halves.max()
        scaled[is_finite] = (halves - low) / (high - low) if high > low else 1.0
    return scaled


def check(vectors: Array, scores: Array, strength: float) -> None:
    """Checks what a method was given.

    Raises:
        ValueError: the numbers of items differ, or ``strength`` is outside of 0 to 1.
    """
    if len(vectors) != len(scores):
        raise ValueError(f"{len(vectors)} vectors for {len(scores)} scores. Give one vector for each score.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength}: a number from 0 (no diversity) to 1 is wanted.")
