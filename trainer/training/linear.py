"""Regularisation of the linear item-item model, chosen on the validation part.

It balances co-occurrences from few users against those from many: the best value differs by a factor of ten between
data sets of the same size. The model has a closed form, so each value is tried without training anything.
"""

import logging
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse

from trainer.data.user_items import UserItems
from trainer.data.vocabulary import UNKNOWN
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import rank_in_blocks
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.settings import LinearConfig
from trainer.runs import Run
from trainer.scorers.linear import DEFAULT_REGULARIZATION, choices, partial_correlations

_LOG = logging.getLogger(__name__)
_RECORD: Final = "regularization.json"
_VALUES: Final = (30.0, 100.0, 300.0, 1000.0, 3000.0)
# Larger catalogues skip the two outer values, which are rarely the best: each takes seconds.
_MANY_ITEMS: Final = 2_500
_METRIC: Final = "ndcg@10"


def choose_regularization(
    run: Run,
    config: LinearConfig,
    hold_out: HoldOut | None,
    ids: npt.NDArray[np.integer],
    histories: UserItems,
    size: int,
) -> float:
    """The configured value, or the one with the best NDCG@10 of the linear model alone on the validation part.

    It is chosen once per run and saved in ``regularization.json``; a phase without validation part uses the saved one,
    or 300 if nothing was ever measured.

    Args:
        run: The run being trained.
        config: Settings of the linear model.
        hold_out: The validation part; None without one.
        ids: Int [N], vocabulary index of each item of the catalogue, 0 unknown.
        histories: Item indices below ``size`` of the training users' positives.
        size: Number of known items V.
    """
    if config.regularization is not None:
        return config.regularization
    if (run.path / _RECORD).exists():
        return float(run.read(_RECORD)["regularization"])
    if hold_out is None:
        return DEFAULT_REGULARIZATION
    learned = choices(histories, size)
    indices = ids[hold_out.candidate_rows]
    known = np.flatnonzero(indices != UNKNOWN)
    matrix = _history_matrix(hold_out, indices, size)
    curve = []
    for value in _VALUES if size <= _MANY_ITEMS else _VALUES[1:-1]:
        similarity = partial_correlations(learned, value)

        def score(users: slice, similarity: npt.NDArray[np.float64] = similarity) -> npt.NDArray[np.float64]:
            scores = np.zeros((users.stop - users.start, len(indices)))
            scores[:, known] = (matrix[users] @ similarity)[:, indices[known] - 1]
            return scores

        rankings = rank_in_blocks(score, hold_out.train.num_users, len(indices), hold_out.train, 10)
        quality = ranking_metrics(rankings, hold_out.test, ks=(10,)).means()[_METRIC]
        curve.append({"regularization": value, _METRIC: float(quality)})
    best = max(curve, key=lambda point: point[_METRIC])
    run.write(_RECORD, {"regularization": best["regularization"], "metric": _METRIC, "curve": curve})
    _LOG.info("Linear model: regularization %g (NDCG@10 alone %.4f).", best["regularization"], best[_METRIC])
    return best["regularization"]


def _history_matrix(hold_out: HoldOut, indices: npt.NDArray[np.integer], size: int) -> scipy.sparse.csr_array:
    """[users, V]: 1 if an evaluated user has a known item in the history."""
    users = np.repeat(np.arange(hold_out.train.num_users), hold_out.train.sizes())
    items = indices[hold_out.train.indices]
    there = items != UNKNOWN
    where = (users[there], items[there] - 1)
    return scipy.sparse.csr_array((np.ones(int(there.sum())), where), shape=(hold_out.train.num_users, size))
