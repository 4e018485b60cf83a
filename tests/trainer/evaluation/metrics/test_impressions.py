"""Metrics of impressions: worked by hand, against scikit-learn, and against MIND's definition of MRR."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from trainer.data.impressions import Impressions
from trainer.evaluation.metrics.impressions import impression_metrics


def impressions(*clicked: list[int]) -> Impressions:
    sizes = [len(one) for one in clicked]
    total = sum(sizes)
    return Impressions(
        ids=[str(number) for number in range(len(clicked))],
        users=["u"] * len(clicked),
        timestamps=np.arange(len(clicked)),
        indptr=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        items=np.arange(total, dtype=np.int32),
        clicked=np.array(list(itertools.chain(*clicked)), bool),
    )


def test_two_impressions_worked_by_hand() -> None:
    # By decreasing score: 1 0 0 1 0, clicks at ranks 1 and 4; then 0 1.
    shown = impressions([0, 1, 1, 0, 0], [1, 0])
    scores = np.array([3.0, 9.0, 1.0, 2.0, 0.5, -1.0, 4.0])
    found = impression_metrics(shown, scores, ks=(1, 3, 5))
    # Of the pairs (click, other): 3 + 1 of 6 are in order; and none of 1.
    np.testing.assert_allclose(found["auc"], [4 / 6, 0.0])
    # MIND divides the sum over all clicks by their number; the usual MRR would be 1 and 1/2.
    np.testing.assert_allclose(found["mrr"], [(1 / 1 + 1 / 4) / 2, 1 / 2])
    second = 1 / math.log2(3)
    np.testing.assert_allclose(found["ndcg@1"], [1.0, 0.0])
    np.testing.assert_allclose(found["ndcg@3"], [1 / (1 + second), second])
    np.testing.assert_allclose(found["ndcg@5"], [(1 + 1 / math.log2(5)) / (1 + second), second])


def test_equal_scores_are_worth_their_expectation() -> None:
    shown = impressions([1, 0, 0])
    found = impression_metrics(shown, np.zeros(3), ks=(2,))
    assert found["auc"][0] == pytest.approx(1 / 2)
    assert found["mrr"][0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found["ndcg@2"][0] == pytest.approx((1 + 1 / math.log2(3) + 0) / 3)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=12).filter(
        lambda rows: 0 < sum(clicked for clicked, _ in rows) < len(rows)
    ),
    st.integers(1, 6),
)
def test_agrees_with_scikit_learn(rows: list[tuple[bool, int]], k: int) -> None:
    clicked = [int(each) for each, _ in rows]
    scores = np.array([score for _, score in rows], float)
    found = impression_metrics(impressions(clicked), scores, ks=(k,))
    assert found["auc"][0] == pytest.approx(roc_auc_score(clicked, scores))
    assert found[f"ndcg@{k}"][0] == pytest.approx(ndcg_score([clicked], [scores], k=k))
    # Over every order that the scores allow.
    orders = {}
    for score in sorted(set(scores), reverse=True):
        orders[score] = [one for one, each in zip(clicked, scores, strict=True) if each == score]
    places, total = 0, 0.0
    for group in orders.values():
        span = [1 / place for place in range(places + 1, places + len(group) + 1)]
        total += sum(group) * sum(span) / len(span)
        places += len(group)
    assert found["mrr"][0] == pytest.approx(total / sum(clicked))


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="impression 1 has no click"):
        impression_metrics(impressions([1, 0], [0, 0]), np.zeros(4))
    with pytest.raises(ValueError, match="expected 2 scores"):
        impression_metrics(impressions([1, 0]), np.zeros(3))
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        impression_metrics(impressions([1, 0]), np.array([np.nan, 0.0]))
