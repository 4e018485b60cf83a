"""Factors not trained by gradient, chosen on the validation part after training.

A factor is a single number for the whole model, so a few validation users suffice to choose it: how much popularity
counts compared with what is known of a request (after few interactions, or a start from another market's model, it is
the best information), and how much the linear item-item model and content similarity count compared with the towers.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import tensorflow as tf

from trainer.config.settings import Config
from trainer.models.recommender import Recommender
from trainer.runs import Run

_LOG = logging.getLogger(__name__)
# Number of factors tried beyond the configured ones.
_FURTHER: Final = 4


def choose_factors(
    model: Recommender, config: Config, run: Run, measure: Callable[[], dict[str, float]] | None
) -> None:
    """Chooses the factors of popularity, of the linear model and of content, one after another: see `choose_factor`."""
    fusion, settings = model.fusion, config.model
    choices = config.training.popularity_factors
    if choices:
        # The factor used in training is preferred, then those close to it.
        choices = sorted({1.0, *choices}, key=lambda each: (max(each, 1.0 / each), each))
    for scorer, factors, metric in (
        (fusion.popularity, choices, "recall@10"),
        (fusion.linear, settings.linear.factors, "ndcg@10"),
        (fusion.content, settings.content.factors, "ndcg@10"),
    ):
        if scorer is not None and factors:
            choose_factor(run, scorer.name, scorer.factor, factors, measure, metric=metric)


def choose_factor(
    run: Run,
    name: str,
    factor: tf.Variable,
    choices: Sequence[float],
    measure: Callable[[], dict[str, float]] | None,
    *,
    metric: str,
) -> None:
    """Sets a factor to the best choice on the validation part.

    It is chosen once per run and saved in ``<name>.json``; a phase without validation part uses the saved one, or the
    first choice if nothing was ever measured. Ties go to the earlier choice. If the largest of several is the best, its
    double is tried as well, and so on while that is better, up to four times; so is the half of the smallest above 0.

    Args:
        run: The run being trained.
        name: Name of the factor.
        factor: The scalar variable.
        choices: Values to try, preferred first.
        measure: Measures the model's current metrics on the validation part; None without one.
        metric: The metric that decides.
    """
    record = f"{name}.json"
    if not (run.path / record).exists():
        if measure is None:
            factor.assign(choices[0])
            return
        curve: list[dict[str, float]] = []

        def best_with(tried: Sequence[float]) -> float:
            for choice in tried:
                factor.assign(choice)
                curve.append({"factor": choice, metric: measure()[metric]})
            return max(curve, key=lambda point: point[metric])["factor"]

        best = best_with(choices)
        for _ in range(_FURTHER):
            beyond = _beyond(best, [point["factor"] for point in curve])
            if beyond is None:
                break
            _LOG.info("The factor of %s is at the edge of its list: trying %g as well.", name, beyond)
            best = best_with([beyond])
        if _beyond(best, [point["factor"] for point in curve]) is not None:
            _LOG.warning("The factor of %s, %g, is still the outermost that was tried.", name, best)
        run.write(record, {"factor": best, "metric": metric, "curve": curve})
    chosen = float(run.read(record)["factor"])
    _LOG.info("The factor of %s is %g.", name, chosen)
    factor.assign(chosen)
    if measure is not None:
        # The next measurement uses the current vectors.
        measure()


def _beyond(best: float, tried: Sequence[float]) -> float | None:
    """What to try next if the best of several is the outermost; None if it isn't, or is 0, which means without."""
    positive = [factor for factor in tried if factor > 0.0]
    if best == 0.0 or len(positive) < 2:
        return None
    if best == max(positive):
        return 2.0 * best
    return 0.5 * best if best == min(positive) else None
