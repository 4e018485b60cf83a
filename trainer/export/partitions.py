"""Partitions of a catalogue for maximum inner product search: k-means, computed once at export."""

import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_LOG = logging.getLogger(__name__)
_ROUNDS = 10
# A direction near the principal axis splits as well as the axis itself.
_POWER_ROUNDS = 8
# A mean over this many points is accurate enough; more would only cost time.
_POINTS_PER_LEAF = 128
# Rows compared with all centres at once: a block of the product stays in the processor's cache.
_BLOCK = 4096
Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Partitions:
    """N items in L leaves of at most M.

    Attributes:
        rows: Int32 [L, M], items of each leaf, padded with -1 at the end. Each item is in one leaf.
        centres: Float32 [L, D], mean vector of each leaf's items.
        spreads: Float32 [L], standard deviation of the leaf's dot products with a unit vector of random direction.
    """

    rows: npt.NDArray[np.int32]
    centres: Vectors
    spreads: Vectors


def partition(vectors: Vectors, leaves: int, *, seed: int) -> Partitions:
    """Groups items that match similar queries.

    Lloyd's iterations run on vectors with an additional coordinate that gives all the same length, which turns the
    largest dot product into the smallest distance (Bachrach et al., RecSys 2014, "Speeding up the Xbox recommender
    system"); vectors of unit length are unchanged. Leaves are padded to the largest, so clusters larger than the mean
    are split along their principal axis into equal parts no larger than it; the result has about one and a half times
    the requested leaves.

    Args:
        vectors: Float32 [N, D].
        leaves: Number of clusters, 1 to N.
        seed: Seed of the sample and the initial centres; the same seed gives the same leaves.

    Raises:
        ValueError: ``leaves`` is not between 1 and the number of items.
    """
    size = len(vectors)
    if not 1 <= leaves <= size:
        raise ValueError(f"leaves is {leaves}; it must be between 1 and the number of items, {size}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Partitioning the catalogue", total=_ROUNDS + 1)
        points = _same_length(vectors)
        centres = _lloyd(points, leaves, np.random.default_rng(seed), lambda: bar.advance(task))
        members = _cut_large(points, _nearest(points, centres), math.ceil(size / leaves))
        bar.advance(task)
    _LOG.info("Partitioned %d items into %d leaves of at most %d.", size, len(members), max(map(len, members)))
    return _describe(vectors, members)


def _same_length(vectors: Vectors) -> Vectors:
    squares = np.einsum("nd,nd->n", vectors, vectors)
    missing = squares.max() - squares
    if missing.max() <= 1e-4 * squares.max():
        return vectors
    return np.concatenate([vectors, np.sqrt(missing)[:, np.newaxis]], axis=1).astype(np.float32)


def _lloyd(points: Vectors, leaves: int, rng: np.random.Generator, done: Callable[[], None]) -> Vectors:
    sample = points[np.sort(rng.choice(len(points), min(len(points), _POINTS_PER_LEAF * leaves), replace=False))]
    centres = sample[rng.choice(len(sample), leaves, replace=False)]
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, centres)
        counts = np.bincount(nearest, minlength=leaves)
        used = np.flatnonzero(counts)
        starts = (np.cumsum(counts) - counts)[used]
        sums = np.add.reduceat(sample[np.argsort(nearest, kind="stable")], starts, axis=0)
        centres = sample[rng.choice(len(sample), leaves, replace=False)]  # a centre that lost all its points moves
        centres[used] = sums / counts[used, np.newaxis]
        done()
    return centres


def _nearest(points: Vectors, centres: Vectors) -> Rows:
    """Index of each point's nearest centre, int64 [N]."""
    halves = 0.5 * np.einsum("ld,ld->l", centres, centres)
    nearest = np.empty(len(points), np.int64)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK] @ centres.T
        block -= halves
        np.argmax(block, axis=1, out=nearest[start : start + _BLOCK])
    return nearest


def _cut_large(points: Vectors, nearest: Rows, largest: int) -> list[Rows]:
    """Rows of each leaf, none above ``largest`` and none empty."""
    order = np.argsort(nearest, kind="stable")
    waiting = np.split(order, np.flatnonzero(np.diff(nearest[order])) + 1)
    members = []
    while waiting:
        rows = waiting.pop()
        parts = math.ceil(len(rows) / largest)
        if parts == 1:
            members.append(rows)
            continue
        ordered = rows[np.argsort(_along_longest_axis(points[rows]), kind="stable")]
        middle = len(rows) * (parts // 2) // parts
        waiting += [ordered[:middle], ordered[middle:]]
    return members


def _along_longest_axis(points: Vectors) -> Vectors:
    """Position of each point along the principal axis, float32 [n]; by power iteration."""
    centred = points - points.mean(axis=0)
    axis = centred[np.argmax(np.einsum("nd,nd->n", centred, centred))]
    for _ in range(_POWER_ROUNDS):
        axis = (centred @ axis) @ centred
        axis /= max(float(np.linalg.norm(axis)), 1e-30)
    return np.asarray(centred @ axis)


def _describe(vectors: Vectors, members: list[Rows]) -> Partitions:
    counts = np.array([len(part) for part in members])
    order = np.concatenate(members)
    leaf = np.repeat(np.arange(len(members)), counts)
    starts = np.cumsum(counts) - counts
    centres = np.add.reduceat(vectors[order], starts, axis=0) / counts[:, np.newaxis]
    distances = np.square(vectors[order] - centres[leaf]).sum(axis=1)
    spreads = np.sqrt(np.add.reduceat(distances, starts) / counts / vectors.shape[1])
    rows = np.full((len(members), counts.max()), -1, np.int32)
    rows[leaf, np.arange(len(order)) - starts[leaf]] = order
    return Partitions(rows, centres.astype(np.float32), spreads.astype(np.float32))
