"""Baselines compared with the model in every table, ranked exactly like the model's own scores."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.ranking import Rankings, rank_in_tiles
from trainer.text.unit_vectors import unit

Scorer = Callable[..., NDArray[np.floating]]
"""Scores of a run of users against a run of items, or without the latter all items: a `BlockScorer` and a
`TileScorer` of `trainer.evaluation.metrics.ranking`."""

_ALL = slice(None)
# Users or vectors at once.
_BLOCK = 1 << 16


def rank_by_popularity(counts: NDArray[np.integer], exclude: ItemSets, k: int) -> Rankings:
    """The k most popular items that are not excluded for a user; of equally popular ones, the lower index first.

    Everybody's list is one global order without the user's own items, so no scores are needed.

    Args:
        counts: [I] number of training users of each item.
        exclude: items to leave out for each user.
        k: length of the lists.

    Returns:
        int64 [U, k]; -1 if a user has fewer than k candidates.

    Raises:
        ValueError: there is not one count for each item.
    """
    if counts.shape != (exclude.num_items,):
        raise ValueError(f"expected [{exclude.num_items}] counts, received shape {counts.shape}")
    order = np.argsort(-counts.astype(np.int64), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    rankings = np.full((exclude.num_users, k), -1, np.int64)
    for users in _runs(exclude.num_users):
        low, high = exclude.indptr[users.start], exclude.indptr[users.stop]
        sizes = exclude.sizes()[users]
        rows = np.repeat(np.arange(sizes.size), sizes)
        keys = np.sort(rows * order.size + place[exclude.indices[low:high]])
        # A left-out item at place p, with i left out before it, comes after p - i listed ones.
        listed_before = keys - rows * order.size - (np.arange(keys.size) - (np.cumsum(sizes) - sizes)[rows])
        near = listed_before < k
        passed = np.bincount(rows[near] * k + listed_before[near], minlength=sizes.size * k).reshape(-1, k)
        places = np.arange(k) + np.cumsum(passed, axis=1)
        there = places < order.size
        rankings[users][there] = order[places[there]]
    return rankings


def random(num_items: int, *, seed: int = 0) -> Scorer:
    """Uniform scores, which depend on the seed, the user's row and the item, but not on the size of the blocks."""

    def score(users: slice, items: slice = _ALL) -> NDArray[np.floating]:
        first, end, _ = items.indices(num_items)
        scores = np.empty((users.stop - users.start, end - first))
        generator = np.random.PCG64(seed)
        # One draw of the generator makes one double, and user u starts at draw u * num_items.
        generator.advance(users.start * num_items + first)
        draw = np.random.Generator(generator)
        for row in scores:
            draw.random(out=row)
            generator.advance(num_items - row.size)
        return scores

    return score


def mean_history(train: ItemSets, item_vectors: NDArray[np.floating]) -> Scorer:
    """Cosine of the mean of a user's training items' vectors and each item's vector.

    Vectors are normalised to length 1 first (an all-zero one stays zero), so that each item of the history
    has the same weight. A user without history has score 0 everywhere.

    Args:
        train: the history of each user.
        item_vectors: [I, D], for instance the text encoder's vectors of the titles.

    Raises:
        ValueError: there is not one vector for each item of `train`.
    """
    if item_vectors.ndim != 2 or item_vectors.shape[0] != train.num_items:
        raise ValueError(f"expected [{train.num_items}, D] vectors, received shape {item_vectors.shape}")
    vectors = np.empty_like(item_vectors, np.float32)
    # Not all at once: the vectors of a large catalogue take gigabytes.
    for items in _runs(train.num_items):
        vectors[items] = unit(np.asarray(item_vectors[items], dtype=np.float32))

    def score(users: slice, items: slice = _ALL) -> NDArray[np.floating]:
        profiles = np.zeros((users.stop - users.start, vectors.shape[1]), dtype=np.float32)
        sizes = train.sizes()[users]
        rows = np.repeat(np.arange(profiles.shape[0]), sizes)
        history = train.indices[train.indptr[users.start] : train.indptr[users.stop]]
        filled = np.flatnonzero(sizes)
        if filled.size:
            starts = np.searchsorted(rows, filled)
            profiles[filled] = np.add.reduceat(vectors[history], starts, axis=0)
        return unit(profiles) @ vectors[items].T

    return score


def baseline_rankings(
    train: ItemSets,
    k: int,
    *,
    item_vectors: NDArray[np.floating] | None = None,
    exclude: ItemSets | None = None,
    counts: NDArray[np.integer] | None = None,
    seed: int = 0,
) -> dict[str, Rankings]:
    """Rankings of all baselines: `popularity`, `random` and, with item vectors, `mean-history`.

    Args:
        train: training part, users x items.
        k: length of the lists.
        item_vectors: [I, D] text vectors of the items.
        exclude: items to leave out for each user; None leaves out the training part.
        counts: [I] training users of each item in the whole training part, if it has more users than `train`;
            None counts `train`.
        seed: seed of the random baseline.
    """
    left_out = train if exclude is None else exclude
    found = {"popularity": rank_by_popularity(train.item_counts() if counts is None else counts, left_out, k)}
    scorers = {"random": random(train.num_items, seed=seed)}
    if item_vectors is not None:
        scorers["mean-history"] = mean_history(train, item_vectors)
    for name, scorer in scorers.items():
        found[name] = rank_in_tiles(scorer, train.num_users, train.num_items, left_out, k)
    return found


def _runs(total: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, total)) for start in range(0, total, _BLOCK))
