"""Baselines compared with the model in every table.

Each is a `BlockScorer`: scores of a run of users against the whole catalogue, ranked by
`trainer.evaluation.metrics.ranking.rank_in_blocks` exactly like the model's own scores.
"""

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.ranking import BlockScorer, Rankings, rank_in_blocks
from trainer.text.unit_vectors import unit


def popularity(train: ItemSets, counts: NDArray[np.integer] | None = None) -> BlockScorer:
    """The same ranking for everybody: number of training users of each item.

    Args:
        train: training part of the evaluated users.
        counts: [I] of the whole training part, if it has more users than those; None counts `train`.
    """
    counts = (train.item_counts() if counts is None else counts).astype(np.float64)

    def score(users: slice) -> NDArray[np.floating]:
        return np.broadcast_to(counts, (users.stop - users.start, counts.size))

    return score


def random(num_items: int, *, seed: int = 0) -> BlockScorer:
    """Uniform scores, which depend on the seed and the user's row but not on the size of the blocks."""

    def score(users: slice) -> NDArray[np.floating]:
        generator = np.random.PCG64(seed)
        # One draw of the generator makes one double, so user u starts at draw u * num_items.
        generator.advance(users.start * num_items)
        return np.random.Generator(generator).random((users.stop - users.start, num_items))

    return score


def mean_history(train: ItemSets, item_vectors: NDArray[np.floating]) -> BlockScorer:
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
    vectors = unit(np.asarray(item_vectors, dtype=np.float32))

    def score(users: slice) -> NDArray[np.floating]:
        profiles = np.zeros((users.stop - users.start, vectors.shape[1]), dtype=np.float32)
        sizes = train.sizes()[users]
        rows = np.repeat(np.arange(profiles.shape[0]), sizes)
        items = train.indices[train.indptr[users.start] : train.indptr[users.stop]]
        filled = np.flatnonzero(sizes)
        if filled.size:
            starts = np.searchsorted(rows, filled)
            profiles[filled] = np.add.reduceat(vectors[items], starts, axis=0)
        return unit(profiles) @ vectors.T

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
        counts: [I] of the whole training part, as in `popularity`.
        seed: seed of the random baseline.
    """
    scorers = {"popularity": popularity(train, counts), "random": random(train.num_items, seed=seed)}
    if item_vectors is not None:
        scorers["mean-history"] = mean_history(train, item_vectors)
    left_out = train if exclude is None else exclude
    return {
        name: rank_in_blocks(scorer, train.num_users, train.num_items, left_out, k) for name, scorer in scorers.items()
    }
