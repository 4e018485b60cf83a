"""Factors of parts that no gradient trains, chosen on the validation part when the rest is trained.

A factor is one number for the whole model, so few validation users are enough to choose it: how much popularity counts
compared with what is known of a request (after few interactions, or a start from another market's model, it is the best
that is known), and how much the linear item-item model and content similarity count compared with the towers.
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
    """Sets a factor to the choice that is best on the validation part.

    It is chosen once a run and noted in ``<name>.json``; a phase without validation part takes the noted one, or the
    first choice where nothing was ever measured. Of equally good choices the earlier one is taken.

    Args:
        run: The run that is being trained.
        name: Of the factor.
        factor: A scalar.
        choices: To try, the preferred first.
        measure: Gives the metrics of the model as it is on the validation part; None when there is none.
        metric: Decides.
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
        # Whoever measures next does so with the vectors of the moment.
        measure()
