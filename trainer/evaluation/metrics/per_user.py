"""Ranking metrics of full-catalogue rankings, one value per user and metric, with intervals.

Formulas are in ``trainer.evaluation.metrics.ranked``, one metric per module. A user without test items has NaN
everywhere and is excluded from all averages.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from trainer.evaluation.metrics.definition import JudgedLists, RankingMetric
from trainer.evaluation.metrics.intervals import RESAMPLES, bootstrap_interval
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.metrics.registry import METRICS

KS = (10, 20)
CURVE_KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
# Maximum users x metrics values resampled at once: 32 Mi float64 are 256 MiB.
_BLOCK_VALUES = 1 << 25


@dataclass(frozen=True, slots=True)
class Metric:
    """A value and its 95 % bootstrap interval over users.

    `ci95` is None if resampling users is not meaningful: for coverage, since a resample contains 63 % of the
    users and therefore always covers less, and for figures from other sources.
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
        totals: metrics that are not means over users (`coverage@k`).
    """

    values: dict[str, NDArray[np.float64]]
    totals: dict[str, float]

    def num_evaluated(self) -> int:
        """Number of users in the averages."""
        columns = list(self.values.values())
        return int((~np.isnan(columns[0])).sum()) if columns else 0

    def means(self) -> dict[str, float]:
        """Mean of each metric over the users that have it; NaN if none has."""
        return {name: _mean(column) for name, column in self.values.items()} | self.totals

    def summary(self, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Metric]:
        """Each metric with its interval; metrics that no user has are left out."""
        return summaries([self], resamples=resamples, seed=seed)[0]

    def minus(self, other: Self) -> Self:
        """Differences per user, for the common metrics.

        Both must be of the same users in the same order. The interval of a mean difference is paired: whatever
        makes users easy or hard for both models cancels out.
        """
        return type(self)(
            {name: column - other.values[name] for name, column in self.values.items() if name in other.values},
            {name: total - other.totals[name] for name, total in self.totals.items() if name in other.totals},
        )


def summaries(parts: Sequence[PerUserMetrics], *, resamples: int = RESAMPLES, seed: int = 0) -> list[dict[str, Metric]]:
    """`PerUserMetrics.summary` of several models or slices over the same users, with shared draws.

    The draws are the expensive part, so this is much faster than one call each. A user is drawn if any part
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


def ranking_metrics(
    rankings: Rankings,
    relevant: ItemSets,
    *,
    ks: Sequence[int] = KS,
    training_counts: NDArray[np.integer] | None = None,
    metrics: Sequence[RankingMetric] = tuple(METRICS.values()),
) -> PerUserMetrics:
    """Metrics of full-catalogue rankings against the users' test items.

    Args:
        rankings: [U, K] item indices, best first, -1 padding at the end of rows with fewer candidates.
        relevant: the test items of each user.
        ks: cut-offs, each at most K.
        training_counts: [I] training interactions of each item; without them metrics that need them are left out.
        metrics: metrics to compute.

    Returns:
        `recall@k`, `ndcg@k`, ... of each user, and the totals (`coverage@k`).

    Raises:
        ValueError: shapes disagree, a cut-off is out of range, or a list is malformed (an unknown item,
            a repeated item, padding before an item).
    """
    cutoffs = _check_cutoffs(ks, rankings)
    _check_lists(rankings[:, : cutoffs[-1]], relevant)
    if training_counts is not None and training_counts.shape != (relevant.num_items,):
        raise ValueError(f"expected [{relevant.num_items}] counts, received shape {training_counts.shape}")
    evaluated = relevant.sizes() > 0
    lists = JudgedLists(rankings[:, : cutoffs[-1]], relevant, training_counts)
    values: dict[str, NDArray[np.float64]] = {}
    totals: dict[str, float] = {}
    for k, metric in itertools.product(cutoffs, metrics):
        if metric.needs_counts and training_counts is None:
            continue
        if metric.per_user is not None:
            column = metric.per_user(lists, k)
            if column.shape != evaluated.shape:
                raise ValueError(f"metric {metric.name} returned {column.shape} values for {len(evaluated)} users")
            values[f"{metric.name}@{k}"] = np.where(evaluated, column, np.nan)
        elif metric.total is not None and evaluated.any():
            totals[f"{metric.name}@{k}"] = metric.total(lists, k)
    return PerUserMetrics(values, totals)


def recall_curve(rankings: Rankings, relevant: ItemSets, *, ks: Iterable[int] = CURVE_KS) -> dict[int, float]:
    """Mean recall@k at each cut-off within the lists' length."""
    reachable = [k for k in ks if k <= rankings.shape[1]]
    means = ranking_metrics(rankings, relevant, ks=reachable, metrics=[METRICS["recall"]]).means()
    return {k: means[f"recall@{k}"] for k in reachable}


def _check_cutoffs(ks: Sequence[int], rankings: Rankings) -> list[int]:
    if rankings.ndim != 2:
        raise ValueError(f"expected rankings of [users, K], received shape {rankings.shape}")
    cutoffs = sorted(set(ks))
    if not cutoffs or cutoffs[0] < 1 or cutoffs[-1] > rankings.shape[1]:
        raise ValueError(f"cut-offs must be in 1..{rankings.shape[1]} (length of the lists), received {ks}")
    return cutoffs


def _check_lists(lists: Rankings, relevant: ItemSets) -> None:
    if lists.shape[0] != relevant.num_users:
        raise ValueError(f"expected one list for each of {relevant.num_users} users, received {lists.shape[0]}")
    if not np.issubdtype(lists.dtype, np.integer):
        raise ValueError(f"rankings must hold integers, received {lists.dtype}")
    if lists.size == 0:
        return
    if lists.min() < -1 or lists.max() >= relevant.num_items:
        raise ValueError(f"items must be in [0, {relevant.num_items}) or be -1, received {lists.min()}..{lists.max()}")
    padding = lists < 0
    if (padding[:, :-1] & ~padding[:, 1:]).any():
        raise ValueError("-1 is only allowed at the end of a list")
    ordered = np.sort(lists, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("a list contains the same item twice")


def _mean(column: NDArray[np.float64]) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if known.size else float("nan")
