"""Chooses the weight of each signal of the ranking stage in the final score, on the validation part."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.ranker import CatalogueRanker
from trainer.models.ranking import RETRIEVAL

_LOG = logging.getLogger(__name__)
_WEIGHTS: Final = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0)
_FOLDS: Final = 5
_Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Signal:
    """What one signal of the ranking stage adds.

    Attributes:
        weight: The best one on the whole validation part.
        gain: Mean of what it adds to the quality where its weight was not chosen.
        low, high: 95 % interval of the gain, paired: of users, or of impressions if the split is by these.
    """

    weight: float
    gain: float
    low: float
    high: float

    @property
    def pays(self) -> bool:
        """Whether the gain is beyond chance."""
        return self.low > 0.0


@dataclass(frozen=True, slots=True)
class ChosenBlend:
    """A blend, and what it was chosen for.

    Attributes:
        weights: Of retrieval and of each signal.
        metric: Name of the quality.
        retrieval: Mean quality by retrieval alone.
        blended: Mean quality by the blend, where its weights were chosen.
        signals: What each signal adds to retrieval and the signals before it that pay.
    """

    weights: dict[str, float]
    metric: str
    retrieval: float
    blended: float
    signals: dict[str, Signal]


def choose_blend(ranker: CatalogueRanker, hold_out: HoldOut, signals: Sequence[str], seed: int) -> ChosenBlend:
    """Weights with the best quality on the validation part, found signal by signal with retrieval fixed at 1.

    Quality is NDCG@10 of whole lists, or the AUC of impressions if the split is by impressions. A weight that is the
    best where it was chosen may cost elsewhere, so it is also chosen on four fifths of the users and judged on the
    rest, for each fifth. A signal whose gain's 95 % interval does not lie above 0 has weight 0.

    Args:
        ranker: Of retrieval alone, over the validation part.
        hold_out: The validation part.
        signals: Names of the ranker's signals. The last one, which is trained least, is tried first.
        seed: Of the fifths.
    """
    retrieval, outputs, quality = hold_out.blend_data(ranker)
    score, values = retrieval, quality(retrieval)
    alone = float(values.mean())
    fold = np.random.default_rng(seed).permutation(len(values)) % _FOLDS
    weights, judged = dict.fromkeys([RETRIEVAL, *signals], 0.0), {}
    weights[RETRIEVAL] = 1.0
    for column in reversed(range(len(signals))):
        name, before = signals[column], score
        tried = np.stack([quality(before + weight * outputs[..., column]) for weight in _WEIGHTS])
        judged[name] = found = _judge(tried, values, fold, seed)
        if found.pays:
            weights[name] = found.weight
            score, values = before + found.weight * outputs[..., column], tried[_WEIGHTS.index(found.weight)]
        _LOG.info(
            "%s: weight %g adds %+.4f to validation %s where it was not chosen (95 %% interval %+.4f to %+.4f): %s.",
            name,
            found.weight,
            found.gain,
            hold_out.blend_metric,
            found.low,
            found.high,
            "taken" if found.pays else "left out",
        )
    return ChosenBlend(weights, hold_out.blend_metric, alone, float(values.mean()), judged)


def _judge(tried: _Floats, values: _Floats, fold: npt.NDArray[np.integer], seed: int) -> Signal:
    """A signal by the qualities [weights, U] with it and [U] without it."""

    def best(among: npt.NDArray[np.bool_]) -> int:
        return int(np.argmax(tried[:, among].mean(axis=1)))

    gains = np.zeros(len(values))
    for number in range(_FOLDS):
        own = fold == number
        if own.any() and not own.all():
            gains[own] = (tried[best(~own)] - values)[own]
    low, high = (float(end) for end in bootstrap_interval(gains[:, np.newaxis], seed=seed)[0])
    return Signal(_WEIGHTS[best(np.ones(len(values), bool))], float(gains.mean()), low, high)
