"""Recall: sum of h_j for j <= k, divided by m."""

from trainer.evaluation.metrics.definition import Floats, JudgedLists, RankingMetric


def _recall(lists: JudgedLists, k: int) -> Floats:
    return lists.hit_counts[:, k - 1] / lists.possible(k)


METRIC = RankingMetric(
    name="recall",
    label="Recall",
    note="share of the user's held-out items (at most k) among the first k",
    per_user=_recall,
    order=1,
)
