"""Quality of the ranking heads' predictions: ranking, probabilities, and calibration before and after.

* AUC and average precision measure the ranking, over all pairs at once (not per user). Calibration doesn't change them.
* Log loss (nats) and Brier score measure the probabilities themselves.
* ECE is the expected calibration error (Guo et al., 2017, arXiv 1706.04599, eq. 3) of the probability of the positive
  class: the mean over pairs of |share of positives - mean probability| of the pair's bin, with 15 bins of equal
  width, and with 15 bins of equally many pairs, in which a few very common probabilities can't dominate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import precision_recall_curve

from trainer.data.heads import Head
from trainer.evaluation.heads.events import HeadEvents
from trainer.evaluation.heads.result import HeadResult, ReliabilityBin
from trainer.evaluation.heads.weighted_order import WeightedOrder
from trainer.evaluation.metrics.intervals import percentile_interval
from trainer.evaluation.metrics.per_user import Metric
from trainer.models.calibration import IDENTITY, Calibration, Calibrations

BINS: Final = 15
# Enough for an interval with two digits; each resample weighs all pairs anew.
_RESAMPLES: Final = 200
_CURVE_POINTS: Final = 101

Floats = NDArray[np.floating]


def evaluate_heads(
    heads: list[Head],
    events: HeadEvents,
    calibrations: Calibrations,
    scales: Floats,
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> dict[str, HeadResult]:
    """Evaluates each head on the events that it has labels for; a head without any is left out.

    Args:
        heads: Heads of the model.
        events: Raw outputs and labels.
        calibrations: Calibrations of the run; a head without one is evaluated uncalibrated.
        scales: [heads, 2], mean and deviation of regression labels (`RankingModel.scale`).
        resamples: Bootstrap draws of users, at most 200; 0: no intervals.
        seed: Seed of the bootstrap.
    """
    found = {}
    for column, head in enumerate(heads):
        known = np.isfinite(events.labels[:, column])
        if not known.any():
            continue
        users, labels = events.users[known], events.labels[known, column].astype(np.float64)
        raw = events.outputs[known, column].astype(np.float64)
        draws = _Draws.of(users, min(resamples, _RESAMPLES), seed)
        if head.kind == "regression":
            found[head.name] = _regression(head, users, labels, raw * scales[column, 1] + scales[column, 0], draws)
        else:
            fitted = calibrations.get(head.name)
            methods = (
                {"none": IDENTITY} if fitted is None else {str(name): each for name, each in fitted.methods.items()}
            )
            applied = "none" if fitted is None else fitted.method
            found[head.name] = _binary(head, users, labels, raw, methods, applied, draws)
    return found


def calibration_error(probabilities: Floats, labels: Floats, *, equal_mass: bool = False, bins: int = BINS) -> float:
    """Expected calibration error of the positive class, in [0, 1].

    Args:
        probabilities: [E] in [0, 1].
        labels: [E] of 0 and 1.
        equal_mass: Bins of equally many pairs instead of equal width. Equal probabilities share a bin, so that the
            order of the pairs doesn't matter.
        bins: Maximum number of bins.

    Raises:
        ValueError: Empty input, shapes differ, or a value outside [0, 1].
    """
    reliability = reliability_bins(probabilities, labels, equal_mass=equal_mass, bins=bins)
    return float(sum(each.pairs * abs(each.observed - each.predicted) for each in reliability) / labels.size)


def reliability_bins(
    probabilities: Floats, labels: Floats, *, equal_mass: bool = False, bins: int = BINS
) -> list[ReliabilityBin]:
    """The non-empty bins of `calibration_error`, by increasing probability."""
    if probabilities.ndim != 1 or probabilities.shape != labels.shape or not labels.size:
        raise ValueError(f"expected [E] probabilities and labels, received {probabilities.shape} and {labels.shape}")
    if not ((probabilities >= 0) & (probabilities <= 1)).all() or not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError("probabilities must be in [0, 1] and labels 0 or 1")
    if equal_mass:
        # The mean rank of all pairs with that probability, so that ties stay together.
        ordered = np.sort(probabilities)
        middle = (
            np.searchsorted(ordered, probabilities, "left") + np.searchsorted(ordered, probabilities, "right")
        ) / 2
        bin_of = np.minimum((middle * bins / labels.size).astype(np.int64), bins - 1)
    else:
        bin_of = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    predicted = np.bincount(bin_of, weights=probabilities, minlength=bins)
    observed = np.bincount(bin_of, weights=labels, minlength=bins)
    return [
        ReliabilityBin(int(counts[each]), float(predicted[each] / counts[each]), float(observed[each] / counts[each]))
        for each in np.flatnonzero(counts)
    ]


def _binary(
    head: Head,
    users: NDArray[np.integer],
    labels: Floats,
    raw: Floats,
    methods: Mapping[str, Calibration],
    applied: str,
    draws: "_Draws",
) -> HeadResult:
    share = float(labels.mean())
    predicted = {name: expit(method.logits(raw)) for name, method in methods.items()}
    probabilities = {name: _probabilities(each, labels, draws) for name, each in predicted.items()}
    probabilities["constant"] = {
        name: Metric(float(each.mean())) for name, each in _losses(np.full_like(labels, share), labels).items()
    }
    metrics, curve = {}, []
    if 0.0 < share < 1.0:
        both, order = draws.of_both_classes(labels), WeightedOrder(labels, raw)
        metrics = {
            "auc": _resampled(order.auc, both),
            "average_precision": _resampled(order.average_precision, both),
        }
        curve = _thinned_curve(labels, raw)
    return HeadResult(
        output=head.output,
        kind="binary",
        users=np.unique(users).size,
        pairs=labels.size,
        metrics=metrics,
        positives=int(labels.sum()),
        applied=applied,
        calibrations=dict(methods),
        probabilities=probabilities,
        reliability={name: reliability_bins(predicted[name], labels) for name in dict.fromkeys(("none", applied))},
        precision_recall=curve,
    )


def _regression(
    head: Head, users: NDArray[np.integer], labels: Floats, predicted: Floats, draws: "_Draws"
) -> HeadResult:
    squares, absolutes = np.square(predicted - labels), np.abs(predicted - labels)
    return HeadResult(
        output=head.output,
        kind="regression",
        users=np.unique(users).size,
        pairs=labels.size,
        metrics={
            "rmse": _resampled(lambda weights: np.sqrt(np.average(squares, weights=weights)), draws),
            "mae": _resampled(lambda weights: np.average(absolutes, weights=weights), draws),
            "rmse_of_mean": Metric(float(labels.std())),
        },
    )


def _probabilities(predicted: Floats, labels: Floats, draws: "_Draws") -> dict[str, Metric]:
    losses = _losses(predicted, labels)
    # ECE of a bootstrap sample is biased upwards (noise in a bin never cancels), so it has no interval.
    return {
        name: _resampled(lambda weights, each=each: np.average(each, weights=weights), draws)  # type: ignore[misc]
        for name, each in losses.items()
    } | {
        "ece": Metric(calibration_error(predicted, labels)),
        "ece_equal_mass": Metric(calibration_error(predicted, labels, equal_mass=True)),
    }


def _losses(predicted: Floats, labels: Floats) -> dict[str, Floats]:
    """Log loss and squared error of each pair."""
    right = np.where(labels > 0, predicted, 1.0 - predicted)
    return {"log_loss": -np.log(right.clip(np.finfo(np.float64).tiny)), "brier": np.square(predicted - labels)}


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Users drawn with replacement: how often each, float64 [R, U], and the user of each pair, int [E]."""

    counts: Floats
    user_of: NDArray[np.integer]

    @classmethod
    def of(cls, users: NDArray[np.integer], resamples: int, seed: int) -> Self:
        names, user_of = np.unique(users, return_inverse=True)
        rng = np.random.default_rng(seed)
        counts = np.zeros((resamples, names.size))
        for row in counts:
            row[:] = np.bincount(rng.integers(0, names.size, names.size), minlength=names.size)
        return cls(counts, user_of)

    def of_both_classes(self, labels: Floats) -> Self:
        """Without the draws in which all pairs have the same class."""
        positives = self.counts @ np.bincount(self.user_of, weights=labels)
        negatives = self.counts @ np.bincount(self.user_of, weights=1.0 - labels)
        return replace(self, counts=self.counts[(positives > 0.0) & (negatives > 0.0)])


def _resampled(measure: Callable[[Floats], float], draws: _Draws) -> Metric:
    """A metric, given the pairs' weights [E], with its bootstrap interval over users."""
    value = float(measure(np.ones(draws.user_of.size)))
    if not len(draws.counts):
        return Metric(value)
    values = [[float(measure(counts[draws.user_of]))] for counts in draws.counts]
    low, high = percentile_interval(np.array(values))[0]
    return Metric(value, (float(low), float(high)))


def _thinned_curve(labels: Floats, raw: Floats) -> list[tuple[float, float]]:
    precision, recall, _ = precision_recall_curve(labels, raw)
    # Interpolating precision is wrong (Davis and Goadrich, 2006); points are selected instead, about evenly by recall.
    picked = np.unique(np.searchsorted(-recall, -np.linspace(1.0, 0.0, _CURVE_POINTS)).clip(0, recall.size - 1))
    return [(float(recall[each]), float(precision[each])) for each in picked]
