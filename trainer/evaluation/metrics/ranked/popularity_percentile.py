"""Mean over the first k items of the item's percentile of training popularity, 0 to 100."""

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics.definition import Floats, JudgedLists, RankingMetric


def popularity_percentiles(training_counts: NDArray[np.integer]) -> Floats:
    """Each item's percentile of training popularity, 0 to 100, [N].

    100 * (items with fewer interactions + half of those with as many, itself included) / N: tied items
    share the middle of their positions (`scipy.stats.percentileofscore` with `kind="mean"`), so
    the mean over the catalogue is exactly 50, and so is the expectation of a random list.
    """
    ordered = np.sort(training_counts)
    below = np.searchsorted(ordered, training_counts, side="left")
    not_above = np.searchsorted(ordered, training_counts, side="right")
    return 50.0 * (below + not_above) / max(ordered.size, 1)


def _mean_percentile(lists: JudgedLists, k: int) -> Floats:
    assert lists.training_counts is not None
    items = lists.items[:, :k]
    listed = items >= 0
    percentiles = popularity_percentiles(lists.training_counts)
    total = np.where(listed, percentiles[np.maximum(items, 0)], 0.0).sum(axis=1)
    count = listed.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


METRIC = RankingMetric(
    name="popularity_percentile",
    label="Popularity percentile",
    note="popularity of the first k in training: 50 is an average item, 100 the most popular",
    per_user=_mean_percentile,
    needs_counts=True,
    is_accuracy=False,
    decimals=1,
    order=6,
)
