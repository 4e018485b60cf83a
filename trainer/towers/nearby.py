"""Which pairs of items are compared, when each item's most similar ones are looked for."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from trainer.models.settings import NeighboursConfig
from trainer.towers.content import Content

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]
# Number of pairs up to which all are compared.
_ALL_PAIRS: Final = 1 << 29
# Maximum number of float32 similarities at a time, 64 MiB.
_BLOCK: Final = 1 << 24
# In a large catalogue, clusters whose items are compared with those of one cluster.
_NEAR_CLUSTERS: Final = 32
# For every neighbour wanted, at least as many are compared.
_COMPARED: Final = 16
# Clusters are found in the first principal directions, from a sample of items for each.
_DIRECTIONS: Final = 64
_SAMPLE: Final = 64
_ITERATIONS: Final = 8


def pairs_to_compare(
    content: Content, others: Content, config: NeighboursConfig, *, least: int
) -> Iterator[tuple[_Rows, _Rows]]:
    """Blocks of items and of what each of them is compared with.

    All pairs are, up to 2^29. Beyond, ``others`` are divided into the square root of their number of clusters (k-means
    with a fixed seed), and an item is compared with those of the 32 clusters nearest to its own: the cost of n items is
    n^1.5 instead of n^2.

    Args:
        content: N items.
        others: M > 0 items.
        config: Weight of the categories.
        least: How many are looked for; 16 times as many are compared, if there are.

    Yields:
        int64 [n] rows of ``content``, each in one block, and int64 [m] rows of ``others``, ascending.
    """
    if len(content) * len(others) <= _ALL_PAIRS:
        groups = iter([(np.arange(len(content)), np.arange(len(others)))])
    else:
        groups = _by_cluster(content, others, config, least)
    for rows, columns in groups:
        step = max(_BLOCK // len(columns), 1)
        for start in range(0, len(rows), step):
            yield rows[start : start + step], columns


def _by_cluster(
    content: Content, others: Content, config: NeighboursConfig, least: int
) -> Iterator[tuple[_Rows, _Rows]]:
    points = _vectors(others, config)
    directions = np.linalg.eigh((points.T @ points).astype(np.float64))[1][:, -_DIRECTIONS:].astype(np.float32)
    points = points @ directions
    count = int(np.sqrt(len(points)))
    sample = points[np.random.default_rng(0).permutation(len(points))[: _SAMPLE * count]]
    clustering = KMeans(count, init="random", n_init=1, max_iter=_ITERATIONS, random_state=0).fit(sample)
    centres = clustering.cluster_centers_.astype(np.float32)
    of_others = _nearest_centre(points, centres)
    of_content = _nearest_centre(_vectors(content, config) @ directions, centres)
    sizes = np.bincount(of_others, minlength=count)
    members = np.split(np.argsort(of_others, kind="stable"), np.cumsum(sizes)[:-1])
    for cluster in np.unique(of_content):
        near = np.argsort(np.square(centres - centres[cluster]).sum(axis=1), kind="stable")
        enough = int(np.searchsorted(np.cumsum(sizes[near]), _COMPARED * least)) + 1
        columns = np.concatenate([members[each] for each in near[: max(enough, _NEAR_CLUSTERS)]])
        yield np.flatnonzero(of_content == cluster), np.sort(columns)


def _vectors(content: Content, config: NeighboursConfig) -> _Floats:
    """Float32 [N, 2 T], whose dot product is the similarity but for years."""
    return np.concatenate([content.text, np.float32(np.sqrt(config.category_weight)) * content.categories], axis=1)


def _nearest_centre(points: _Floats, centres: _Floats) -> _Rows:
    """[N] cluster of each point [N, D]."""
    half = 0.5 * np.square(centres).sum(axis=1)
    step = max(_BLOCK // len(centres), 1)
    parts = [
        np.argmax(points[start : start + step] @ centres.T - half, axis=1) for start in range(0, len(points), step)
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])
