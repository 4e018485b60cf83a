"""How much popularity counts beside what is known of a request, chosen on the validation part.

After few interactions the popularity of items is the best that is known, and the rest of the vectors says more than it
knows: on a market of which 44 users were seen, or after a start from another market's model. One number for the whole
model mends that, and one number can be chosen on few validation users.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from trainer.models.recommender import Recommender
from trainer.runs import Run

_LOG = logging.getLogger(__name__)
_RECORD: Final = "popularity.json"
_METRIC: Final = "recall@10"


def settle_popularity(
    run: Run, model: Recommender, factors: Sequence[float], measure: Callable[[], dict[str, float]] | None
) -> None:
    """Multiplies the queries' weight of popularity by the factor with the best Recall@10 on the validation part.

    It is chosen once a run and noted in ``popularity.json``; a phase without validation part takes the noted one. Of
    equally good factors the one nearest to 1 is taken.

    Args:
        run: The run that is being trained.
        model: With its best weights; without popularity in its vectors nothing happens.
        factors: To try beside 1; none: nothing happens.
        measure: Gives the metrics on the validation part; None when there is none.
    """
    layer = model.query_tower.popularity
    if layer is None or not factors:
        return
    if not (run.path / _RECORD).exists():
        if measure is None:
            return
        curve = []
        for factor in sorted({1.0, *factors}, key=lambda each: (max(each, 1.0 / each), each)):
            layer.factor.assign(factor)
            curve.append({"factor": factor, _METRIC: measure()[_METRIC]})
        best = max(curve, key=lambda point: point[_METRIC])
        run.write(_RECORD, {"factor": best["factor"], "metric": _METRIC, "curve": curve})
    chosen = float(run.read(_RECORD)["factor"])
    _LOG.info("Popularity counts %g times as much as it was trained to.", chosen)
    layer.factor.assign(chosen)
    if measure is not None:
        # Whoever measures next does so with the vectors of the moment.
        measure()
