"""Builds a report from rankings: a model and baselines, measured by the same code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainer.evaluation.metrics.definition import RankingMetric
from trainer.evaluation.metrics.intervals import RESAMPLES
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import KS, PerUserMetrics, ranking_metrics, recall_curve, summaries
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.metrics.registry import METRICS
from trainer.evaluation.metrics.slices import (
    ITEM_LANGUAGE,
    ITEM_TEMPERATURE,
    USER_ACTIVITY,
    Slice,
    activity_labels,
    language_labels,
    slice_by_items,
    slice_by_users,
    temperature_labels,
)
from trainer.evaluation.report.contents import BaselineResult, Curves, EvaluationReport, Metrics, Sizes, Slices
from trainer.evaluation.report.references import references
from trainer.evaluation.sampling import SamplingError, UserSample


@dataclass(frozen=True, slots=True, eq=False)
class RankingProblem:
    """The ranking task and what counts as a hit.

    Attributes:
        dataset: name of the dataset; also selects its reference figures.
        protocol: `P1` or `P2`.
        split: `test` or `validation`.
        train: training part, users x items: the source of popularity, cold/warm and user activity.
        test: the items to find.
        item_languages: language of each item (None: not known), or None to omit that slice.
        training_counts: [I] users of each item in the whole training part, if it has more users than `train`;
            None counts `train`.
        trained_items: [I] whether the model learned from interactions with the item; None: those of `train`.
            Differs in zero-shot evaluation, where `train` only feeds the queries.
        ks: cut-offs of the metrics.
        metrics: metrics to compute.
        resamples: bootstrap draws.
        seed: seed of the bootstrap.
        user_ids: ids of the users, for a report with each user's metrics; None: without.
        sample: the users, if they were drawn from more; None: they are all.
    """

    dataset: str
    protocol: str
    split: str
    train: ItemSets
    test: ItemSets
    item_languages: Sequence[str | None] | None = None
    training_counts: NDArray[np.integer] | None = None
    trained_items: NDArray[np.bool_] | None = None
    ks: Sequence[int] = KS
    metrics: Sequence[RankingMetric] = tuple(METRICS.values())
    resamples: int = RESAMPLES
    seed: int = 0
    user_ids: Sequence[str] | None = None
    sample: UserSample | None = None

    def __post_init__(self) -> None:
        train, test = self.train, self.test
        if (train.num_users, train.num_items) != (test.num_users, test.num_items):
            raise ValueError(
                f"train is [{train.num_users}, {train.num_items}], test is [{test.num_users}, {test.num_items}]"
            )


def compare(
    problem: RankingProblem,
    model: str,
    rankings: Rankings,
    *,
    baselines: Mapping[str, Rankings],
    seconds: float,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> EvaluationReport:
    """Measures a model's rankings and the baselines'.

    Args:
        problem: the data and the protocol.
        model: name of the model in tables and plots.
        rankings: [U, K] rankings of the model; a K beyond the largest cut-off extends the recall curve.
        baselines: name -> rankings, usually from `baselines.baseline_rankings`.
        seconds: wall-clock time that ranking took, for the report.
        left_out: baseline -> why it was not computed.

    Returns:
        The report, with the reference figures known for the dataset and protocol.

    Raises:
        ValueError: rankings are malformed (see `ranking_metrics`).
    """
    measured = [_measure(problem, each) for each in (rankings, *baselines.values())]
    own = measured[0]
    advantages = [own.overall.minus(other.overall) for other in measured[1:]]
    parts = [
        *(part for each in measured for part in each.parts()),
        # Coverage is not a per-user metric, so there is no paired difference.
        *(PerUserMetrics(advantage.values, {}) for advantage in advantages),
    ]
    figures = iter(summaries(parts, resamples=problem.resamples, seed=problem.seed))
    # Consumed in insertion order.
    results = [each.take(figures) for each in measured]
    return EvaluationReport(
        dataset=problem.dataset,
        protocol=problem.protocol,
        split=problem.split,
        model=model,
        metrics=results[0][0],
        slices=results[0][1],
        seconds=seconds,
        users=None if problem.user_ids is None else pl.DataFrame({"user_id": problem.user_ids, **own.overall.values}),
        sizes=Sizes(
            users=own.overall.num_evaluated(),
            items=problem.test.num_items,
            training=int(_training_counts(problem).sum()),
            test=problem.test.indices.size,
        ),
        slice_sizes={
            dimension: {name: part.size for name, part in groups.items()} for dimension, groups in own.slices.items()
        },
        curves=own.curves,
        baselines=tuple(
            BaselineResult(name, metrics, slices, other.curves, advantage)
            for name, other, (metrics, slices), advantage in zip(
                baselines, measured[1:], results[1:], figures, strict=True
            )
        ),
        left_out=dict(left_out),
        sample=None if problem.sample is None else SamplingError.of_values(problem.sample, own.overall.values),
        reference=references(problem.dataset, problem.protocol),
    )


def _training_counts(problem: RankingProblem) -> NDArray[np.integer]:
    return problem.train.item_counts() if problem.training_counts is None else problem.training_counts


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    overall: PerUserMetrics
    slices: dict[str, dict[str, Slice]]
    curves: Curves

    def parts(self) -> Iterator[PerUserMetrics]:
        """The whole, then every slice."""
        yield self.overall
        for groups in self.slices.values():
            for part in groups.values():
                yield part.metrics

    def take(self, figures: Iterator[Metrics]) -> tuple[Metrics, Slices]:
        """Assigns the summaries of `parts` back to their slices."""
        return next(figures), {
            dimension: {name: next(figures) for name in groups} for dimension, groups in self.slices.items()
        }


def _measure(problem: RankingProblem, rankings: Rankings) -> _Measured:
    counts = _training_counts(problem)
    trained = counts > 0 if problem.trained_items is None else problem.trained_items
    overall = ranking_metrics(rankings, problem.test, ks=problem.ks, training_counts=counts, metrics=problem.metrics)
    item_labels = {ITEM_TEMPERATURE: temperature_labels(trained)}
    if problem.item_languages is not None:
        item_labels = {ITEM_LANGUAGE: language_labels(problem.item_languages)} | item_labels
    slices = {
        dimension: slice_by_items(rankings, problem.test, labels, ks=problem.ks, metrics=problem.metrics)
        for dimension, labels in item_labels.items()
    }
    slices[USER_ACTIVITY] = slice_by_users(overall, problem.test, activity_labels(problem.train))
    return _Measured(overall, slices, {"recall": recall_curve(rankings, problem.test)})
