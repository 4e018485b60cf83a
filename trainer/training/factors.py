"""Factors not trained by gradient, chosen on the validation part after training.

A factor is a single number for the whole model, so a few validation users suffice to choose it: how much popularity
counts compared with what is known of a request (after few interactions, or a start from another market's model, it is
the best information), and how much the linear item-item model and content similarity count compared with the towers.
"""

import logging
from collections.abc import Callable, Sequence

import tensorflow as tf

from trainer.runs import Run

_LOG = logging.getLogger(__name__)


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
    first choice if nothing was ever measured. Ties go to the earlier choice.

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
        curve = []
        for choice in choices:
            factor.assign(choice)
            curve.append({"factor": choice, metric: measure()[metric]})
        best = max(curve, key=lambda point: point[metric])
        run.write(record, {"factor": best["factor"], "metric": metric, "curve": curve})
    chosen = float(run.read(record)["factor"])
    _LOG.info("The factor of %s is %g.", name, chosen)
    factor.assign(chosen)
    if measure is not None:
        # The next measurement uses the current vectors.
        measure()
