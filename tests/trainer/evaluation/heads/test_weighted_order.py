"""Weighted AUC and average precision, to the last bit against scikit-learn, which sorts for each weighting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from trainer.evaluation.heads.weighted_order import WeightedOrder

_PAIR = st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 4))


@settings(deadline=None)
@given(st.lists(_PAIR, min_size=2, max_size=40))
def test_small_ones(pairs: list[tuple[bool, int, int]]) -> None:
    labels, scores, weights = (np.array(column, np.float64) for column in zip(*pairs, strict=True))
    if len(set(labels[weights > 0])) < 2:
        return
    order = WeightedOrder(labels, scores)
    assert order.auc(weights) == roc_auc_score(labels, scores, sample_weight=weights)
    assert order.average_precision(weights) == average_precision_score(labels, scores, sample_weight=weights)


@pytest.mark.parametrize("distinct", [5, 300, 10**9])
def test_resamples(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    scores = rng.integers(0, distinct, 2_000) / 7.0
    labels = (rng.random(2_000) < 0.3).astype(np.float64)
    order = WeightedOrder(labels, scores)
    for _ in range(20):
        weights = np.bincount(rng.integers(0, 2_000, 2_000), minlength=2_000).astype(np.float64)
        assert order.auc(weights) == roc_auc_score(labels, scores, sample_weight=weights)
        assert order.average_precision(weights) == average_precision_score(labels, scores, sample_weight=weights)
