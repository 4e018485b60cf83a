"""Reciprocal rank: 1 / j of the first hit j <= k, else 0; its mean over users is MRR."""

import numpy as np

from trainer.evaluation.metrics.definition import Floats, JudgedLists, RankingMetric


def _reciprocal_rank(lists: JudgedLists, k: int) -> Floats:
    # The first hit has the largest value.
    best: Floats = np.where(lists.hits[:, :k], 1.0 / np.arange(1, k + 1), 0.0).max(axis=1, initial=0.0)
    return best


METRIC = RankingMetric(
    name="mrr", label="MRR", note="1 / rank of the first held-out item, 0 beyond k", per_user=_reciprocal_rank, order=4
)
