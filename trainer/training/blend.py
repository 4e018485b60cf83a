"""Chooses how much each ranking head weighs in the final score, on the validation part."""

import logging
from collections.abc import Sequence

import numpy as np

from trainer.data.heads import Head
from trainer.evaluation.holdout import HoldOut
from trainer.evaluation.metrics import ranking_metrics
from trainer.models.ranking import RETRIEVAL
from trainer.models.requests import CatalogueRanker

_LOG = logging.getLogger(__name__)
_WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)
_CUT_OFF = 10


def choose_blend(ranker: CatalogueRanker, hold_out: HoldOut, heads: Sequence[Head]) -> dict[str, float]:
    """Weights with the best validation NDCG@10, found head by head with retrieval fixed at 1.

    A head keeps weight 0 unless it helps, so the whole request is never worse on the validation
    part than retrieval alone.
    """
    rows, retrieval, outputs = hold_out.parts(ranker)

    def quality(scores: np.ndarray) -> float:
        ordered = np.argsort(-np.where(rows >= 0, scores, -np.inf), axis=1, kind="stable")[:, :_CUT_OFF]
        rankings = np.take_along_axis(rows, ordered, axis=1)
        rankings = np.pad(rankings, [(0, 0), (0, _CUT_OFF - rankings.shape[1])], constant_values=-1)
        return ranking_metrics(rankings, hold_out.test, ks=(_CUT_OFF,)).means()[f"ndcg@{_CUT_OFF}"]

    score = retrieval
    best = quality(score)
    chosen = {RETRIEVAL: 1.0}
    for column, head in enumerate(heads):
        tried = {weight: quality(score + weight * outputs[..., column]) for weight in _WEIGHTS if weight}
        weight = max(tried, key=lambda each: tried[each])
        chosen[head.name] = weight if tried[weight] > best else 0.0
        if chosen[head.name]:
            best, score = tried[weight], score + weight * outputs[..., column]
    _LOG.info("Final score: %s (validation NDCG@10 %.4f).", chosen, best)
    return chosen
