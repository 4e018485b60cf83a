"""Hit rate: 1 if any of the first k is a hit, else 0."""

import numpy as np

from trainer.evaluation.metrics.definition import Floats, JudgedLists, RankingMetric


def _hit_rate(lists: JudgedLists, k: int) -> Floats:
    return (lists.hit_counts[:, k - 1] > 0).astype(np.float64)


METRIC = RankingMetric(
    name="hr",
    label="HR",
    note="share of users with at least one held-out item among the first k",
    per_user=_hit_rate,
    order=3,
)
