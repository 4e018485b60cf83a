"""MMR and greedy DPP by their definitions: every similarity and every determinant anew, in plain Python."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    if not all(map(math.isfinite, [*one, *other])):
        return 0.0
    sizes = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / sizes if sizes else 0.0


def scale(scores: Sequence[float]) -> list[float]:
    finite = [score for score in scores if math.isfinite(score)]
    span = max(finite) - min(finite) if finite else 0.0
    return [
        (1.0 if score > 0 else 0.0)
        if math.isinf(score)
        else 0.0
        if math.isnan(score)
        else (score - min(finite)) / span
        if span
        else 1.0
        for score in scores
    ]


def mmr_gain(
    rows: list[list[float]], scores: Sequence[float], strength: float, list_: list[list[float]], i: int
) -> float:
    nearest = max((cosine(rows[i], other) for other in list_), default=0.0)
    return (1 - strength) * scale(scores)[i] - strength * nearest


def kernel(rows: list[list[float]]) -> npt.NDArray[np.float64]:
    size = len(rows)
    similarity = np.eye(size)
    for i, j in itertools.permutations(range(size), 2):
        similarity[i, j] = (1 + cosine(rows[i], rows[j])) / 2
    return similarity


def log_det(rows: list[list[float]]) -> float:
    sign, value = np.linalg.slogdet(kernel(rows))
    return float(value) if sign > 0 else -math.inf


def dpp_gain(
    rows: list[list[float]], scores: Sequence[float], strength: float, list_: list[list[float]], i: int
) -> float:
    grown = log_det([*list_, rows[i]]) - (log_det(list_) if list_ else 0.0)
    return (1 - strength) * scale(scores)[i] + strength * grown
