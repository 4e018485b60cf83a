"""Chooses each ranking head's weight in the final score, on the validation part."""

import logging
from collections.abc import Sequence

from trainer.data.heads import Head
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.ranker import CatalogueRanker
from trainer.models.ranking import RETRIEVAL

_LOG = logging.getLogger(__name__)
_WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)


def choose_blend(ranker: CatalogueRanker, hold_out: HoldOut, heads: Sequence[Head]) -> dict[str, float]:
    """Weights with the best quality on the validation part, found head by head with retrieval fixed at 1.

    Quality is NDCG@10 of whole lists, or the AUC of impressions if the split is by impressions. A head keeps weight 0
    unless it helps, so the whole request is never worse on the validation part than retrieval alone.
    """
    retrieval, outputs, quality = hold_out.blend_data(ranker)
    score = retrieval
    best = quality(score)
    chosen = {RETRIEVAL: 1.0}
    for column, head in enumerate(heads):
        tried = {weight: quality(score + weight * outputs[..., column]) for weight in _WEIGHTS if weight}
        weight = max(tried, key=lambda each: tried[each])
        chosen[head.name] = weight if tried[weight] > best else 0.0
        if chosen[head.name]:
            best, score = tried[weight], score + weight * outputs[..., column]
    _LOG.info("Final score: %s (validation quality %.4f).", chosen, best)
    return chosen
