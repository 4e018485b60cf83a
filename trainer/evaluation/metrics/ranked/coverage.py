"""Coverage: the distinct items among the first k of all users with test items, divided by the number of candidates."""

import numpy as np

from trainer.evaluation.metrics.definition import JudgedLists, RankingMetric


def _coverage(lists: JudgedLists, k: int) -> float:
    # Padding, -1, is counted at position 0.
    listed = np.bincount(lists.items[lists.sizes > 0, :k].ravel() + 1, minlength=lists.relevant.num_items + 1)[1:]
    return float((listed > 0).mean())


METRIC = RankingMetric(
    name="coverage",
    label="Coverage",
    note="share of the catalogue in any user's first k",
    total=_coverage,
    is_accuracy=False,
    order=5,
)
