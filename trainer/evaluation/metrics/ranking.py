"""From scores to full-catalogue rankings: exact, deterministic, block by block."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trainer.errors import BabelrecError
from trainer.evaluation.metrics.item_sets import ItemSets

Rankings = NDArray[np.int64]
"""[U, K] item indices, best first; rows with fewer than K candidates are padded with -1."""

BlockScorer = Callable[[slice], NDArray[np.floating]]
"""Scores of a run of users against every item: `slice(start, stop)` -> [stop - start, I]."""

# Maximum scores in memory: 16 Mi float32 are 64 MiB, far below memory and large enough to amortise the calls.
_BLOCK_SCORES = 1 << 24


def top_k(scores: NDArray[np.floating], exclude: ItemSets | None, k: int) -> Rankings:
    """The k best items of each user.

    Equal scores are ordered by item index, lower first, so that a ranking depends only on the
    scores. A score of -inf means "no candidate". Excluded items are never listed.

    Args:
        scores: [U, I], any real dtype; not modified.
        exclude: items to leave out for each user (usually those of the training part), or None.
        k: length of the lists.

    Returns:
        int64 [U, k]; -1 if a user has fewer than k candidates.

    Raises:
        BabelrecError: a score is NaN.
        ValueError: shapes disagree, or k is below 1.
    """
    if scores.ndim != 2:
        raise ValueError(f"expected scores of [users, items], received shape {scores.shape}")
    return rank_in_blocks(lambda block: scores[block], scores.shape[0], scores.shape[1], exclude, k)


def rank_in_blocks(score: BlockScorer, num_users: int, num_items: int, exclude: ItemSets | None, k: int) -> Rankings:
    """`top_k` for score matrices too large for memory: `score` is called with consecutive runs of users.

    Args:
        score: returns the scores of users `start:stop` against all items, [stop - start, I].
        num_users: U.
        num_items: I.
        exclude: as in `top_k`.
        k: length of the lists.

    Returns:
        As for `top_k`.

    Raises:
        BabelrecError: a score is NaN.
        ValueError: shapes disagree, or k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, received {k}")
    if exclude is not None and (exclude.num_users, exclude.num_items) != (num_users, num_items):
        raise ValueError(
            f"scores are [{num_users}, {num_items}], exclude is [{exclude.num_users}, {exclude.num_items}]"
        )
    rankings = np.full((num_users, k), -1, dtype=np.int64)
    step = max(1, _BLOCK_SCORES // max(num_items, 1))
    for start in range(0, num_users, step):
        stop = min(start + step, num_users)
        given = score(slice(start, stop))
        if given.shape != (stop - start, num_items):
            raise ValueError(f"expected scores of {(stop - start, num_items)}, received {given.shape}")
        # A copy, since exclusion overwrites; integers become float64, which is exact up to 2^53.
        dtype = given.dtype if given.dtype in (np.float32, np.float64) else np.float64
        block = np.array(given, dtype=dtype)
        invalid = np.isnan(block).any(axis=1)
        if invalid.any():
            raise BabelrecError(
                f"the scores of user row {start + int(invalid.argmax())} hold NaN "
                f"({int(invalid.sum())} such rows among {start}..{stop - 1}). Remedy: the model diverged; "
                "retrain it with a lower learning rate, or evaluate an earlier checkpoint."
            )
        if exclude is not None:
            low, high = exclude.indptr[start], exclude.indptr[stop]
            rows = np.repeat(np.arange(stop - start), exclude.sizes()[start:stop])
            block[rows, exclude.indices[low:high]] = -np.inf
        width = min(k, num_items)
        if width:
            rankings[start:stop, :width] = _best(block, width)
    return rankings


def _best(scores: NDArray[np.floating], k: int) -> Rankings:
    """The k best of each row of [B, I] (k <= I); -1 for scores of -inf."""
    size = scores.shape[1]
    threshold = np.partition(scores, size - k, axis=1)[:, size - k, None]
    rows, items = np.nonzero(scores >= threshold)
    # With ties, more than k reach the threshold: keep the lowest indices among the tied ones.
    tied = scores[rows, items] == threshold[rows, 0]
    room = k - np.bincount(rows[~tied], minlength=len(scores))
    so_far = np.cumsum(tied)
    before_row = np.concatenate([[0], so_far])[np.searchsorted(rows, np.arange(len(scores)))]
    items = items[~tied | (so_far - before_row[rows] <= room[rows])].reshape(-1, k)
    values = np.take_along_axis(scores, items, axis=1)
    # Items are ascending here, so a stable sort leaves the lower index first among equals.
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = np.take_along_axis(items, order, axis=1)
    return np.where(np.isneginf(np.take_along_axis(values, order, axis=1)), -1, ranked)
