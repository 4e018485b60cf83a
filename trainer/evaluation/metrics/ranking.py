"""From scores to full-catalogue rankings: exact, deterministic, tile by tile."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.errors import BabelrecError
from trainer.evaluation.metrics.item_sets import ItemSets

Rankings = NDArray[np.int64]
"""[U, K] item indices, best first; rows with fewer than K candidates are padded with -1."""

BlockScorer = Callable[[slice], NDArray[np.floating]]
"""Scores of a run of users against every item: `slice(start, stop)` -> [stop - start, I]."""

TileScorer = Callable[[slice, slice], NDArray[np.floating]]
"""Scores of a run of users against a run of items: two slices -> [users, items], which may be overwritten."""

# Maximum scores in memory: 16 Mi float32 are 64 MiB, far below memory and large enough to amortise the calls.
_BLOCK_SCORES: Final = 1 << 24
# Items of a tile: with 256 users it is the largest, and products of long vectors are computed at the full speed.
_TILE_ITEMS: Final = 1 << 16
# Tiles at the same time; each takes several times 64 MiB.
_MOST_THREADS: Final = 4


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
    _check(num_users, num_items, exclude, k)

    def tiles(users: slice) -> Iterator[tuple[int, NDArray[np.floating]]]:
        given = score(users)
        if given.shape != (users.stop - users.start, num_items):
            raise ValueError(f"expected scores of {(users.stop - users.start, num_items)}, received {given.shape}")
        # A copy, since exclusion overwrites; integers become float64, which is exact up to 2^53.
        yield 0, np.array(given, dtype=given.dtype if given.dtype in (np.float32, np.float64) else np.float64)

    blocks = _runs(num_users, _users_at_once(num_items))
    return _joined((_rank_block(tiles(users), users, exclude, k) for users in blocks), num_users, k)


def rank_in_tiles(score: TileScorer, num_users: int, num_items: int, exclude: ItemSets | None, k: int) -> Rankings:
    """`rank_in_blocks` for scores that can be had tile by tile, for large catalogues and on several processors.

    Args:
        score: returns the scores of users `start:stop` against items `begin:end`, float32 or float64; called from
            several threads.
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
    _check(num_users, num_items, exclude, k)

    def ranked(users: slice) -> Rankings:
        tiles = ((items.start, score(users, items)) for items in _runs(num_items, _TILE_ITEMS))
        return _rank_block(tiles, users, exclude, k)

    blocks = list(_runs(num_users, _users_at_once(min(num_items, _TILE_ITEMS))))
    threads = min(len(blocks), len(os.sched_getaffinity(0)), _MOST_THREADS)
    if threads < 2:
        return _joined(map(ranked, blocks), num_users, k)
    with ThreadPoolExecutor(threads, "rank") as pool:
        return _joined(pool.map(ranked, blocks), num_users, k)


def _check(num_users: int, num_items: int, exclude: ItemSets | None, k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, received {k}")
    if exclude is not None and (exclude.num_users, exclude.num_items) != (num_users, num_items):
        raise ValueError(
            f"scores are [{num_users}, {num_items}], exclude is [{exclude.num_users}, {exclude.num_items}]"
        )


def _users_at_once(num_items: int) -> int:
    return max(1, _BLOCK_SCORES // max(num_items, 1))


def _runs(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _joined(blocks: Iterable[Rankings], num_users: int, k: int) -> Rankings:
    rankings = np.full((num_users, k), -1, dtype=np.int64)
    start = 0
    for block in blocks:
        rankings[start : start + len(block)] = block
        start += len(block)
    return rankings


def _rank_block(
    tiles: Iterable[tuple[int, NDArray[np.floating]]], users: slice, exclude: ItemSets | None, k: int
) -> Rankings:
    """The lists of a run of users, from tiles of their scores with the index of the first item, in ascending order."""
    size = users.stop - users.start
    items = np.full((size, k), -1, np.int64)
    values = np.full((size, k), -np.inf, np.float32)
    for first, scores in tiles:
        _refuse_nan(scores, users)
        if exclude is not None:
            low, high = exclude.indptr[users.start], exclude.indptr[users.stop]
            places = exclude.indices[low:high] - first
            rows = np.repeat(np.arange(size), exclude.sizes()[users])
            there = (places >= 0) & (places < scores.shape[1])
            scores[rows[there], places[there]] = -np.inf
        if first == 0:
            values = values.astype(scores.dtype)
            width = min(k, scores.shape[1])
            if width:
                best = _best(scores, width)
                found = np.take_along_axis(scores, best, axis=1)
                items[:, :width], values[:, :width] = np.where(np.isneginf(found), -1, best), found
        else:
            _improve(values, items, scores, first)
    return items


def _refuse_nan(scores: NDArray[np.floating], users: slice) -> None:
    invalid = np.isnan(scores).any(axis=1)
    if invalid.any():
        raise BabelrecError(
            f"the scores of user row {users.start + int(invalid.argmax())} hold NaN "
            f"({int(invalid.sum())} such rows among {users.start}..{users.stop - 1}). Remedy: the model diverged; "
            "retrain it with a lower learning rate, or evaluate an earlier checkpoint."
        )


def _best(scores: NDArray[np.floating], k: int) -> Rankings:
    """The k best of each row of [B, I] (k <= I), best first; equal ones by index."""
    size = scores.shape[1]
    threshold = np.partition(scores, size - k, axis=1)[:, size - k, None]
    reached = scores >= threshold
    # With ties, more than k reach the threshold: keep the lowest indices among the tied ones.
    surplus = np.count_nonzero(reached, axis=1) - k
    for row in np.flatnonzero(surplus):
        tied = np.flatnonzero(scores[row] == threshold[row])
        reached[row, tied[len(tied) - surplus[row] :]] = False
    items = (np.flatnonzero(reached) % size).reshape(-1, k)
    # Items are ascending here, so a stable sort leaves the lower index first among equals.
    order = np.argsort(-np.take_along_axis(scores, items, axis=1), axis=1, kind="stable")
    return np.take_along_axis(items, order, axis=1)


def _improve(values: NDArray[np.floating], items: Rankings, scores: NDArray[np.floating], first: int) -> None:
    """Takes what belongs there from the scores [B, n] of later items into the lists [B, k], in place."""
    size, k = values.shape
    # An equal score doesn't count: its item's index is higher than those listed.
    better = np.flatnonzero(scores > values[:, -1:])
    if not better.size:
        return
    width = scores.shape[1]
    rows = np.concatenate([np.repeat(np.arange(size), k), better // width])
    candidates = np.concatenate([items.ravel(), better % width + first])
    found = np.concatenate([values.ravel(), scores.ravel()[better]])
    # Of equal scores the lower index first, but the padding of short lists last.
    order = np.lexsort((candidates, candidates < 0, -found, rows))
    counts = np.bincount(rows, minlength=size)
    starts = np.cumsum(counts) - counts
    kept = order[(starts[:, np.newaxis] + np.arange(k)).ravel()]
    items[:], values[:] = candidates[kept].reshape(size, k), found[kept].reshape(size, k)
