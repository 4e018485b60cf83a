"""Mean over the first k items of the item's percentile of training popularity, 0 to 100."""

import numpy as np

from trainer.evaluation.metrics.definition import Floats, JudgedLists, RankingMetric


def _mean_percentile(lists: JudgedLists, k: int) -> Floats:
    items = lists.items[:, :k]
    listed = items >= 0
    total = np.where(listed, lists.popularity[np.maximum(items, 0)], 0.0).sum(axis=1)
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
