"""Item cold start: items without a training interaction and all others, each ranked among its own group.

The slice `item_temperature` is the strict setting: cold items compete with warm ones in one ranking of the full
catalogue. Papers on cold start mostly rank cold items among cold ones and warm among warm; that is easier, and the
two groups' figures then also differ by their number of candidates. A report contains both, under two names.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trainer.evaluation.metrics.per_user import ranking_metrics, summaries
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.metrics.slices import COLD, ITEM_TEMPERATURE_ALONE, WARM, SliceSize
from trainer.evaluation.protocols.comparison import RankingProblem
from trainer.evaluation.report.contents import EvaluationReport, Metrics


@dataclass(frozen=True, slots=True)
class GroupsAlone:
    """The slice `item_temperature_alone`.

    Attributes:
        metrics: Group -> metrics.
        sizes: Group -> the amount of data.
    """

    metrics: dict[str, Metrics]
    sizes: dict[str, SliceSize]

    def added_to(self, report: EvaluationReport) -> EvaluationReport:
        """The report of the same problem with the slice."""
        return replace(
            report,
            slices=report.slices | {ITEM_TEMPERATURE_ALONE: self.metrics},
            slice_sizes=report.slice_sizes | {ITEM_TEMPERATURE_ALONE: self.sizes},
        )


def groups_alone(problem: RankingProblem, rank: Callable[[npt.NDArray[np.bool_]], Rankings]) -> GroupsAlone:
    """Ranks each group without the other.

    Args:
        problem: With ``trained_items``.
        rank: Mask [I] of the candidates -> rankings [U, K] of only those.

    Raises:
        ValueError: the problem has no ``trained_items``.
    """
    if problem.trained_items is None:
        raise ValueError("trained_items is None: cold and warm items can't be distinguished")
    slices: dict[str, Metrics] = {}
    sizes: dict[str, SliceSize] = {}
    for name, mask in ((COLD, ~problem.trained_items), (WARM, problem.trained_items)):
        part = problem.test.only_items(mask)
        if not part.indices.size:
            continue
        metrics = ranking_metrics(rank(mask), part, ks=problem.ks)
        slices[name] = summaries([replace(metrics, totals={})], resamples=problem.resamples, seed=problem.seed)[0]
        sizes[name] = SliceSize(int((part.sizes() > 0).sum()), int(mask.sum()), part.indices.size)
    return GroupsAlone(slices, sizes)
