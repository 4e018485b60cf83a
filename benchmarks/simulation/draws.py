"""Seeded draws. Each part of a world has a stream of its own, so that a change of one leaves the others as they are."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


class Stream(IntEnum):
    """What is drawn. The numbers are part of a world's identity: never reuse one."""

    SPACE = 0
    PEOPLE = 1
    ITEMS = 2
    LIFETIMES = 3
    VISITS = 4
    RUN = 5


def stream(seed: int, what: Stream, part: int = 0) -> np.random.Generator:
    """The generator of one part of a world, such as the visits of a day."""
    return np.random.default_rng([seed, int(what), part])


def unit_vectors(random: np.random.Generator, count: int, dimensions: int) -> Floats:
    """Directions, uniform on the sphere: [count, dimensions]."""
    return normalised(random.standard_normal((count, dimensions)))


def normalised(vectors: Floats) -> Floats:
    """Rows of length 1."""
    lengths: Floats = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths)


def quotas(count: int, shares: Sequence[float]) -> Integers:
    """Divides ``count`` by shares: by largest remainder, each part at least 1 where there is enough.

    Not drawn, so that a language of 2 % is there in a small world too.
    """
    wanted = count * np.asarray(shares, np.float64)
    parts = np.floor(wanted).astype(np.int64)
    order = np.argsort(parts - wanted, kind="stable")
    parts[order[: count - int(parts.sum())]] += 1
    while count >= len(parts) and (parts == 0).any():
        parts[int(np.argmin(parts))] += 1
        parts[int(np.argmax(parts))] -= 1
    return parts
