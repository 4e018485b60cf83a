"""Cold and warm items ranked within their own group, against loops over users."""

import numpy as np
import numpy.typing as npt
import pytest

from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.slices import ITEM_TEMPERATURE, ITEM_TEMPERATURE_ALONE
from trainer.evaluation.protocols.comparison import RankingProblem, compare
from trainer.evaluation.protocols.temperature import groups_alone

_USERS, _ITEMS = 7, 12


def _problem(trained: npt.NDArray[np.bool_] | None) -> tuple[RankingProblem, npt.NDArray[np.float64]]:
    random = np.random.default_rng(5)
    relevant = random.random((_USERS, _ITEMS)) < 0.4
    relevant[0] = False
    users, items = np.nonzero(relevant)
    empty = ItemSets.empty(_USERS, _ITEMS)
    test = ItemSets.from_pairs(users, items, num_users=_USERS, num_items=_ITEMS)
    problem = RankingProblem("데이터", "P1", "test", empty, test, trained_items=trained, ks=(3,), resamples=20)
    return problem, random.random((_USERS, _ITEMS))


def _recall(order: list[int], relevant: set[int]) -> float:
    return len(set(order[:3]) & relevant) / min(3, len(relevant))


def test_each_group_is_ranked_without_the_other() -> None:
    trained = np.arange(_ITEMS) % 3 != 0
    problem, scores = _problem(trained)

    def rank(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        order = np.argsort(-np.where(mask, scores, -np.inf), axis=1)
        there = np.take_along_axis(np.broadcast_to(mask, scores.shape), order, axis=1)
        return np.where(there, order, np.int64(-1))

    report = compare(problem, "모델", rank(np.ones(_ITEMS, bool)), baselines={}, seconds=0.0)
    found = groups_alone(problem, rank).added_to(report)
    for name, mask in (("cold", ~trained), ("warm", trained)):
        alone, together = [], []
        for user in range(_USERS):
            mine = problem.test.indices[problem.test.indptr[user] : problem.test.indptr[user + 1]]
            relevant = {int(item) for item in mine if mask[item]}
            if relevant:
                order = list(np.argsort(-scores[user]))
                alone.append(_recall([item for item in order if mask[item]], relevant))
                together.append(_recall(order, relevant))
        assert found.slices[ITEM_TEMPERATURE_ALONE][name]["recall@3"].value == pytest.approx(np.mean(alone))
        assert found.slices[ITEM_TEMPERATURE][name]["recall@3"].value == pytest.approx(np.mean(together))
        size = found.slice_sizes[ITEM_TEMPERATURE_ALONE][name]
        assert (size.users, size.items) == (len(alone), mask.sum())
    assert type(found).from_json(found.to_json()).slices == found.slices


def test_a_group_without_test_items_is_left_out() -> None:
    problem, scores = _problem(np.ones(_ITEMS, bool))
    order = np.argsort(-scores, axis=1)
    assert list(groups_alone(problem, lambda _: order).metrics) == ["warm"]


def test_the_trained_items_must_be_known() -> None:
    problem, scores = _problem(None)
    order = np.argsort(-scores, axis=1)
    with pytest.raises(ValueError, match="trained_items"):
        groups_alone(problem, lambda _: order)
