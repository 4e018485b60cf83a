"""Item cold start: items without a training interaction and all others, each ranked among its own group.

The slice `item_temperature` is the strict setting: cold items compete with warm ones in one ranking of the full
catalogue. Papers on cold start mostly rank cold items among cold ones and warm among warm; that is easier, and the
two groups' figures then also differ by their number of candidates. A report contains both, under two names.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from trainer.evaluation.metrics.per_user import ranking_metrics, summaries
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.metrics.slices import COLD, ITEM_TEMPERATURE_ALONE, WARM, SliceSize
from trainer.evaluation.protocols.comparison import RankingProblem
from trainer.evaluation.report.contents import EvaluationReport


def with_groups_alone(
    report: EvaluationReport, problem: RankingProblem, rank: Callable[[npt.NDArray[np.bool_]], Rankings]
) -> EvaluationReport:
    """Adds the slice `item_temperature_alone`.

    Args:
        report: Report of the same problem.
        problem: With ``trained_items``.
        rank: Mask [I] of the candidates -> rankings [U, K] of only those.

    Raises:
        ValueError: the problem has no ``trained_items``.
    """
    if problem.trained_items is None:
        raise ValueError("trained_items is None: cold and warm items can't be distinguished")
    slices, sizes = {}, {}
    for name, mask in ((COLD, ~problem.trained_items), (WARM, problem.trained_items)):
        part = problem.test.only_items(mask)
        if not part.indices.size:
            continue
        metrics = ranking_metrics(rank(mask), part, ks=problem.ks)
        slices[name] = summaries([replace(metrics, totals={})], resamples=problem.resamples, seed=problem.seed)[0]
        sizes[name] = SliceSize(int((part.sizes() > 0).sum()), int(mask.sum()), part.indices.size)
    return replace(
        report,
        slices=report.slices | {ITEM_TEMPERATURE_ALONE: slices},
        slice_sizes=report.slice_sizes | {ITEM_TEMPERATURE_ALONE: sizes},
    )
