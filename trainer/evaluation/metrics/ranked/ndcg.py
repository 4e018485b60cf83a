"""Normalised discounted cumulative gain.

DCG@k = sum of h_j / log2(j + 1) for j <= k, divided by the DCG of m hits in the first m places (Järvelin and
Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with binary gains).
"""

import numpy as np

from trainer.evaluation.metrics.definition import Floats, JudgedLists, RankingMetric


def _ndcg(lists: JudgedLists, k: int) -> Floats:
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    gain: Floats = lists.hits[:, :k] @ discounts
    shares: Floats = gain / ideal[lists.possible(k)]
    return shares


METRIC = RankingMetric(
    name="ndcg", label="NDCG", note="like Recall, but higher ranks count more", per_user=_ndcg, order=2
)
