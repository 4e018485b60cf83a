"""Ranking metrics of protocol P1 (EVALUATION.md), one value a user and metric.

For a user with test items T and a list r of K items, best first, h_j = 1 where r_j is in T, and
m = min(k, |T|):

* `recall@k`: sum of h_j for j <= k, divided by m.
* `ndcg@k`: DCG@k = sum of h_j / log2(j + 1) for j <= k, divided by the DCG of m hits at the first m places.
* `hr@k`: 1 if any of the first k is a hit.
* `mrr@k`: 1 / j of the first hit j <= k, else 0.
* `popularity_percentile@k`: mean over the first k items of the item's popularity percentile (0 to 100).

A user without test items has NaN everywhere and takes no part in any average. `coverage@k` is one figure
for all users: the distinct items among their first k, divided by the number of candidates.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from trainer.evaluation.intervals import RESAMPLES, bootstrap_interval
from trainer.evaluation.item_sets import ItemSets
from trainer.evaluation.ranking import Rankings

KS = (10, 20)
CURVE_KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
# Values of users x metrics resampled at once: 32 Mi float64 are 256 MiB.
_BLOCK_VALUES = 1 << 25


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure and its 95 % bootstrap interval over users.

    `ci95` is None where resampling users says nothing: for coverage, since a resample holds 63 % of the
    users and therefore always covers less, and for figures taken from elsewhere.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    value: float
    ci95: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        low, high = self.ci95 or (self.value, self.value)
        if not (math.isfinite(self.value) and math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"a metric needs finite figures and low <= high, received {self}")


@dataclass(frozen=True, slots=True, eq=False)
class PerUserMetrics:
    """The metrics of every user.

    Attributes:
        values: name such as `recall@10` -> float64 [U]; NaN for users without test items.
        totals: figures that are not means over users (`coverage@k`).
    """

    values: dict[str, NDArray[np.float64]]
    totals: dict[str, float]

    def num_evaluated(self) -> int:
        """Users that take part in the averages."""
        columns = list(self.values.values())
        return int((~np.isnan(columns[0])).sum()) if columns else 0

    def means(self) -> dict[str, float]:
        """Mean of each metric over the users that have it; NaN where none has."""
        return {name: _mean(column) for name, column in self.values.items()} | self.totals

    def summary(self, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Metric]:
        """Each metric with its interval; metrics that no user has are left out."""
        return summaries([self], resamples=resamples, seed=seed)[0]

    def minus(self, other: Self) -> Self:
        """Each user's differences, for the metrics that both have.

        Both must be of the same users in the same order. The interval of a mean difference is paired: what
        makes users easy or hard for both models cancels.
        """
        return type(self)(
            {name: column - other.values[name] for name, column in self.values.items() if name in other.values},
            {name: total - other.totals[name] for name, total in self.totals.items() if name in other.totals},
        )


def summaries(parts: Sequence[PerUserMetrics], *, resamples: int = RESAMPLES, seed: int = 0) -> list[dict[str, Metric]]:
    """`PerUserMetrics.summary` of several models or slices over the same users, with shared draws.

    The draws are the costly part, so this is far quicker than one call each. A user is drawn if any part
    has a value for it; each mean is over the drawn users that have that value.
    """
    columns = [
        (number, name, column)
        for number, part in enumerate(parts)
        for name, column in part.values.items()
        if not np.isnan(column).all()
    ]
    results: list[dict[str, Metric]] = [{} for _ in parts]
    step = max(1, _BLOCK_VALUES // max(columns[0][2].size, 1)) if columns else 1
    for start in range(0, len(columns), step):
        block = columns[start : start + step]
        intervals = bootstrap_interval(
            np.stack([column for _, _, column in block], axis=1), resamples=resamples, seed=seed
        )
        for (number, name, column), (low, high) in zip(block, intervals, strict=True):
            results[number][name] = Metric(_mean(column), (float(low), float(high)))
    for result, part in zip(results, parts, strict=True):
        result |= {name: Metric(value) for name, value in part.totals.items()}
    return results


def popularity_percentiles(training_counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Each item's percentile of training popularity, 0 to 100, [I].

    100 * (items with fewer interactions + half of those with as many, itself included) / I: tied items
    share the middle of the places they take up (`scipy.stats.percentileofscore` with `kind="mean"`), so
    the mean over the catalogue is exactly 50, and so is the expectation of a random list.
    """
    ordered = np.sort(training_counts)
    below = np.searchsorted(ordered, training_counts, side="left")
    not_above = np.searchsorted(ordered, training_counts, side="right")
    return 50.0 * (below + not_above) / max(ordered.size, 1)


def ranking_metrics(
    rankings: Rankings,
    relevant: ItemSets,
    *,
    ks: Sequence[int] = KS,
    training_counts: NDArray[np.integer] | None = None,
) -> PerUserMetrics:
    """Metrics of full-catalogue rankings against the users' test items.

    Args:
        rankings: [U, K] item indices, best first, -1 padding at the end of rows with fewer candidates.
        relevant: the test items of each user.
        ks: cut-offs, each at most K.
        training_counts: [I] training interactions of each item; adds `popularity_percentile@k`.

    Returns:
        `recall@k`, `ndcg@k`, `hr@k`, `mrr@k` and (with counts) `popularity_percentile@k` of each user,
        and `coverage@k`.

    Raises:
        ValueError: shapes disagree, a cut-off is out of range, or a list is malformed (an unknown item,
            a repeated item, padding before an item).
    """
    cutoffs = _check_cutoffs(ks, rankings)
    lists = rankings[:, : cutoffs[-1]]
    _check_lists(lists, relevant)
    if training_counts is not None and training_counts.shape != (relevant.num_items,):
        raise ValueError(f"expected [{relevant.num_items}] counts, received shape {training_counts.shape}")
    sizes = relevant.sizes()
    evaluated = sizes > 0
    hits = relevant.contains(lists)
    percentiles = None if training_counts is None else popularity_percentiles(training_counts)
    ranks = np.arange(1, lists.shape[1] + 1)
    # The first hit's reciprocal rank is the largest one.
    first = np.maximum.accumulate(np.where(hits, 1.0 / ranks, 0.0), axis=1)
    found = np.cumsum(hits, axis=1)
    gain = np.cumsum(np.where(hits, 1.0 / np.log2(ranks + 1), 0.0), axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(ranks + 1))])

    values: dict[str, NDArray[np.float64]] = {}
    totals: dict[str, float] = {}
    for k in cutoffs:
        # Where nothing is relevant the divisor is a dummy: the result becomes NaN below.
        best = np.where(evaluated, np.minimum(sizes, k), 1)
        columns = {
            f"recall@{k}": found[:, k - 1] / best,
            f"ndcg@{k}": gain[:, k - 1] / ideal[best],
            f"hr@{k}": (found[:, k - 1] > 0).astype(np.float64),
            f"mrr@{k}": first[:, k - 1],
        }
        if percentiles is not None:
            columns[f"popularity_percentile@{k}"] = _mean_percentile(lists[:, :k], percentiles)
        values |= {name: np.where(evaluated, column, np.nan) for name, column in columns.items()}
        if evaluated.any():
            # Padding, -1, is counted in place 0.
            listed = np.bincount(lists[evaluated, :k].ravel() + 1, minlength=relevant.num_items + 1)[1:]
            totals[f"coverage@{k}"] = float((listed > 0).mean())
    return PerUserMetrics(values, totals)


def recall_curve(rankings: Rankings, relevant: ItemSets, *, ks: Iterable[int] = CURVE_KS) -> dict[int, float]:
    """Mean recall@k at each cut-off that the lists are long enough for."""
    reachable = [k for k in ks if k <= rankings.shape[1]]
    means = ranking_metrics(rankings, relevant, ks=reachable).means()
    return {k: means[f"recall@{k}"] for k in reachable}


def _check_cutoffs(ks: Sequence[int], rankings: Rankings) -> list[int]:
    if rankings.ndim != 2:
        raise ValueError(f"expected rankings of [users, K], received shape {rankings.shape}")
    cutoffs = sorted(set(ks))
    if not cutoffs or cutoffs[0] < 1 or cutoffs[-1] > rankings.shape[1]:
        raise ValueError(f"cut-offs must lie in 1..{rankings.shape[1]} (length of the lists), received {ks}")
    return cutoffs


def _check_lists(lists: Rankings, relevant: ItemSets) -> None:
    if lists.shape[0] != relevant.num_users:
        raise ValueError(f"expected one list for each of {relevant.num_users} users, received {lists.shape[0]}")
    if not np.issubdtype(lists.dtype, np.integer):
        raise ValueError(f"rankings must hold integers, received {lists.dtype}")
    if lists.size == 0:
        return
    if lists.min() < -1 or lists.max() >= relevant.num_items:
        raise ValueError(f"items must lie in [0, {relevant.num_items}) or be -1, received {lists.min()}..{lists.max()}")
    padding = lists < 0
    if (padding[:, :-1] & ~padding[:, 1:]).any():
        raise ValueError("-1 may only stand at the end of a list")
    ordered = np.sort(lists, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("a list holds the same item twice")


def _mean_percentile(items: Rankings, percentiles: NDArray[np.float64]) -> NDArray[np.float64]:
    listed = items >= 0
    total = np.where(listed, percentiles[np.maximum(items, 0)], 0.0).sum(axis=1)
    count = listed.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean(column: NDArray[np.float64]) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if known.size else float("nan")
