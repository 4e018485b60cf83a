import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from serving.service.diversity import cost, mmr
from tests.serving.service.diversity.oracles import cosine


def test_a_kept_list_costs_nothing() -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    found = cost(vectors, np.linspace(1, 0, 9), [0, 1, 2])
    assert found.ndcg == 1
    assert found.similarity_before == found.similarity_after


def test_figures_are_those_of_other_programs() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(12, 4)).astype(np.float32)
    scores = np.sort(rng.normal(size=12))[::-1]
    chosen = mmr(vectors, scores, 5, 0.7)
    found = cost(vectors, scores, chosen)
    # scikit-learn ranks all by what the list says: first the chosen, then the rest.
    ranks = np.zeros(12)
    ranks[chosen] = np.arange(5, 0, -1)
    gains = (scores - scores.min()) / (scores.max() - scores.min())
    assert found.ndcg == pytest.approx(ndcg_score([gains], [ranks], k=5))
    for rows, similarity in ((vectors[:5], found.similarity_before), (vectors[chosen], found.similarity_after)):
        pairs = [cosine(one, other) for one, other in itertools.combinations(rows.tolist(), 2)]
        assert similarity == pytest.approx(sum(pairs) / len(pairs))
    assert found.similarity_after < found.similarity_before


def test_short_lists_and_items_without_vectors() -> None:
    assert cost(np.zeros((0, 3)), [], []).ndcg == 1
    one = cost([[1.0, 0.0], [0.0, 0.0]], [2.0, 1.0], [1])
    assert (one.similarity_before, one.similarity_after, one.ndcg) == (0, 0, 0)
    three = cost([[1.0, 0.0], [math.nan, 0.0], [1.0, 1.0]], [3.0, 2.0, 1.0], [0, 1, 2])
    assert three.similarity_after == pytest.approx(math.sqrt(0.5))


def test_equal_scores_lose_nothing() -> None:
    assert cost(np.eye(3), [5.0, 5.0, 5.0], [2, 0, 1]).ndcg == 1


def test_a_mistake_is_named() -> None:
    with pytest.raises(ValueError, match="2 vectors for 1 scores"):
        cost(np.eye(2), [1.0], [0])
