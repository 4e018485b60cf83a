"""Choosing the blend: a signal orders the items only where it is known to help those that it was not chosen on."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.ranker import CatalogueRanker
from trainer.training.blend import ChosenBlend, choose_blend

_USERS, _CANDIDATES = 400, 30
_SIGNALS = ["click", "purchase"]
_NOBODY = cast(CatalogueRanker, None)


def _chosen(outputs: npt.NDArray[np.float32], wanted: npt.NDArray[np.integer], seed: int = 0) -> ChosenBlend:
    """The blend for users of whom each wants one of the candidates, of which retrieval knows nothing."""
    retrieval = np.random.default_rng(100 + seed).normal(size=outputs.shape[:2]).astype(np.float32)

    def quality(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        own = scores[np.arange(_USERS), wanted][:, np.newaxis]
        found: npt.NDArray[np.floating] = 1.0 / (1.0 + (scores > own).sum(axis=1))
        return found

    def data(ranker: CatalogueRanker) -> tuple[Any, Any, Callable[..., Any]]:
        return retrieval, outputs, quality

    return choose_blend(_NOBODY, cast(HoldOut, SimpleNamespace(blend_data=data, blend_metric="mrr")), _SIGNALS, seed)


@pytest.fixture
def draws() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_head_that_knows_is_taken_and_one_that_does_not_is_left_out(draws: np.random.Generator) -> None:
    wanted = draws.integers(_CANDIDATES, size=_USERS)
    outputs = draws.normal(size=(_USERS, _CANDIDATES, 2)).astype(np.float32)
    outputs[np.arange(_USERS), wanted, 1] += 2.0
    chosen = _chosen(outputs, wanted)
    assert chosen.weights["retrieval"] == 1.0
    assert chosen.weights["purchase"] > 0.0
    found = chosen.signals["purchase"]
    assert 0.0 < found.low < found.gain < found.high
    assert chosen.weights["click"] == 0.0
    assert not chosen.signals["click"].pays
    assert chosen.blended > chosen.retrieval
    # The mean reciprocal rank of a random order of 30: their harmonic number, over 30.
    assert chosen.retrieval == pytest.approx((1 / np.arange(1, 31)).sum() / 30, abs=0.04)


def test_what_only_fits_the_users_that_it_was_chosen_on_is_not_taken() -> None:
    taken = []
    for seed in range(40):
        draws = np.random.default_rng(seed)
        outputs = draws.normal(size=(_USERS, _CANDIDATES, 2)).astype(np.float32)
        chosen = _chosen(outputs, draws.integers(_CANDIDATES, size=_USERS), seed)
        taken.append(any(chosen.weights[name] for name in _SIGNALS))
    assert sum(taken) <= 4


def test_without_heads_retrieval_is_the_score() -> None:
    quality = np.full(_USERS, 0.25)
    hold_out = SimpleNamespace(
        blend_data=lambda ranker: (np.zeros((_USERS, 3)), np.zeros((_USERS, 3, 0)), lambda scores: quality),
        blend_metric="auc",
    )
    chosen = choose_blend(_NOBODY, cast(HoldOut, hold_out), [], 0)
    assert chosen == ChosenBlend({"retrieval": 1.0}, "auc", 0.25, 0.25, {})
