"""Chooses each ranking head's weight in the final score, on the validation part."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.data.heads import Head
from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.ranker import CatalogueRanker
from trainer.models.ranking import RETRIEVAL

_LOG = logging.getLogger(__name__)
_WEIGHTS: Final = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)
_FOLDS: Final = 5
_Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class ChosenBlend:
    """A blend, and what it was chosen for.

    Attributes:
        weights: Of retrieval and of each head.
        metric: Name of the quality.
        retrieval: Mean quality by retrieval alone.
        gain: Mean of what the choice adds where it was not made.
        low, high: 95 % interval of the gain, paired: of users, or of impressions if the split is by these.
    """

    weights: dict[str, float]
    metric: str
    retrieval: float
    gain: float
    low: float
    high: float


def choose_blend(ranker: CatalogueRanker, hold_out: HoldOut, heads: Sequence[Head], seed: int) -> ChosenBlend:
    """Weights with the best quality on the validation part, found head by head with retrieval fixed at 1.

    Quality is NDCG@10 of whole lists, or the AUC of impressions if the split is by impressions. Weights that are the
    best where they were chosen may cost elsewhere, so the choice is also made on four fifths of the users and judged on
    the rest, for each fifth. Unless the 95 % interval of that gain lies above 0, retrieval alone orders the items.

    Args:
        ranker: Of retrieval alone, over the validation part.
        hold_out: The validation part.
        heads: Of the model.
        seed: Of the fifths.
    """
    retrieval, outputs, quality = hold_out.blend_data(ranker)
    known: dict[tuple[float, ...], _Floats] = {}

    def qualities(weights: tuple[float, ...]) -> _Floats:
        if weights not in known:
            used = [column for column, weight in enumerate(weights) if weight]
            known[weights] = quality(retrieval + sum(weights[column] * outputs[..., column] for column in used))
        return known[weights]

    alone = (0.0,) * len(heads)
    values = qualities(alone)
    chosen = _best(qualities, np.ones(len(values), bool), len(heads))
    gains = np.zeros(len(values))
    fold = np.random.default_rng(seed).permutation(len(values)) % _FOLDS
    for number in range(min(_FOLDS, len(values))):
        weights = _best(qualities, fold != number, len(heads))
        gains[fold == number] = (qualities(weights) - values)[fold == number]
    low, high = (float(end) for end in bootstrap_interval(gains[:, np.newaxis], seed=seed)[0])
    gain = float(gains.mean())
    if low <= 0.0:
        if any(chosen):
            _LOG.info(
                "Ranking heads leave the order to retrieval: %s would change validation %s by %+.4f (%+.4f to %+.4f) "
                "where they were not chosen.",
                _named(heads, chosen),
                hold_out.blend_metric,
                gain,
                low,
                high,
            )
        chosen = alone
    named = {RETRIEVAL: 1.0, **_named(heads, chosen)}
    _LOG.info("Final score: %s (validation %s %.4f).", named, hold_out.blend_metric, qualities(chosen).mean())
    return ChosenBlend(named, hold_out.blend_metric, float(values.mean()), gain, low, high)


def _best(
    qualities: Callable[[tuple[float, ...]], _Floats], among: npt.NDArray[np.bool_], heads: int
) -> tuple[float, ...]:
    """The heads' best weights by the mean quality of some, chosen one after another; 0 for one that does not help."""
    best = [0.0] * heads
    for column in range(heads):
        tried = {
            weight: float(qualities((*best[:column], weight, *best[column + 1 :]))[among].mean()) for weight in _WEIGHTS
        }
        best[column] = max(tried, key=lambda each: tried[each])
    return tuple(best)


def _named(heads: Sequence[Head], weights: Sequence[float]) -> Mapping[str, float]:
    return {head.name: weight for head, weight in zip(heads, weights, strict=True)}
