"""Regularisation of the linear item-item model, chosen on the validation part.

It balances co-occurrences from few users against those from many: the best value differs by a factor of ten between
data sets of the same size. The model has a closed form, so each value is tried without training anything; for more than
6,000 items in its approximation, by a sample of the users.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse

from trainer.data.user_items import UserItems
from trainer.data.vocabulary import UNKNOWN
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import rank_in_blocks
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.settings import LinearConfig
from trainer.runs import Run
from trainer.scorers.linear import (
    DEFAULT_REGULARIZATION,
    EXACT_ITEMS,
    choices,
    linear_rank,
    partial_correlations,
    spectrum,
)

_LOG = logging.getLogger(__name__)
_Score = Callable[[scipy.sparse.csr_array], npt.NDArray[np.floating]]
_RECORD: Final = "regularization.json"
_VALUES: Final = (30.0, 100.0, 300.0, 1000.0, 3000.0)
# Larger catalogues skip the two outer values, which are rarely the best: each takes seconds.
_MANY_ITEMS: Final = 2_500
# Users of a sample.
_USERS: Final = 1_000
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
    seen, wanted = hold_out.train, hold_out.test
    if size > EXACT_ITEMS:
        some = np.random.default_rng(0).permutation(seen.num_users)[:_USERS]
        seen, wanted = (_of_users(each, np.sort(some)) for each in (seen, wanted))
    matrix = _history_matrix(seen, indices, size)
    curve = []
    for value, score_all in _scorers(config, learned):

        def score(users: slice, score_all: _Score = score_all) -> npt.NDArray[np.floating]:
            scores = np.zeros((users.stop - users.start, len(indices)))
            scores[:, known] = score_all(matrix[users])[:, indices[known] - 1]
            return scores

        rankings = rank_in_blocks(score, seen.num_users, len(indices), seen, 10)
        quality = ranking_metrics(rankings, wanted, ks=(10,)).means()[_METRIC]
        curve.append({"regularization": value, _METRIC: float(quality)})
    best = max(curve, key=lambda point: point[_METRIC])
    run.write(_RECORD, {"regularization": best["regularization"], "metric": _METRIC, "curve": curve})
    _LOG.info("Linear model: regularization %g (NDCG@10 alone %.4f).", best["regularization"], best[_METRIC])
    return best["regularization"]


def _scorers(config: LinearConfig, learned: scipy.sparse.csr_array) -> Iterator[tuple[float, _Score]]:
    """Each value and its model: histories [n, V] -> scores [n, V] of items that are not in them."""
    users, size = learned.shape
    if size <= EXACT_ITEMS:
        for value in _VALUES if size <= _MANY_ITEMS else _VALUES[1:-1]:
            exact = partial_correlations(learned, value)
            yield value, partial(_scores_of_all, exact)
        return
    found = spectrum(learned, linear_rank(config, users, size))
    for value in _VALUES[1:-1]:
        yield value, partial(_scores_of_factors, found.partial_correlations(value).factors)


def _scores_of_all(similarity: npt.NDArray[np.float64], histories: scipy.sparse.csr_array) -> npt.NDArray[np.floating]:
    scores: npt.NDArray[np.floating] = histories @ similarity
    return scores


def _scores_of_factors(factors: npt.NDArray[np.float32], histories: scipy.sparse.csr_array) -> npt.NDArray[np.floating]:
    scores: npt.NDArray[np.floating] = (histories @ factors) @ factors.T
    return scores


def _of_users(sets: ItemSets, users: npt.NDArray[np.integer]) -> ItemSets:
    """The sets of some users, in this order."""
    lists = [sets.indices[sets.indptr[user] : sets.indptr[user + 1]].tolist() for user in users]
    return ItemSets.from_lists(lists, num_items=sets.num_items)


def _history_matrix(seen: ItemSets, indices: npt.NDArray[np.integer], size: int) -> scipy.sparse.csr_array:
    """[users, V]: 1 if an evaluated user has a known item in the history."""
    users = np.repeat(np.arange(seen.num_users), seen.sizes())
    items = indices[seen.indices]
    there = items != UNKNOWN
    where = (users[there], items[there] - 1)
    return scipy.sparse.csr_array((np.ones(int(there.sum())), where), shape=(seen.num_users, size))
