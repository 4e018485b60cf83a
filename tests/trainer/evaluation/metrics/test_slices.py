import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.evaluation import oracles
from tests.trainer.evaluation.strategies import Problem, problems
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import top_k
from trainer.evaluation.metrics.slices import (
    SliceSize,
    activity_labels,
    language_labels,
    slice_by_items,
    slice_by_users,
    temperature_labels,
)


def test_languages_worked_by_hand() -> None:
    # Item:      0     1     2     3     4     5
    labels = ["ko", "ko", "en", "en", "ko", "th"]
    rankings = np.array([[0, 2, 5], [3, 4, 1]])
    relevant = ItemSets.from_lists([[0, 1, 2], [1]], num_items=6)
    found = slice_by_items(rankings, relevant, labels, ks=(3,))
    assert list(found) == ["ko", "en"]  # nobody has a Thai test item
    # Korean: the first user finds 1 of 2, the second 1 of 1. English: the first finds 1 of 1.
    assert found["ko"].metrics.means()["recall@3"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["en"].metrics.means()["recall@3"] == pytest.approx(1.0)
    assert found["en"].metrics.means()["mrr@3"] == pytest.approx(1 / 2)
    assert found["ko"].size == SliceSize(users=2, items=3, positives=3)
    assert found["en"].size == SliceSize(users=1, items=2, positives=1)


@settings(deadline=None)
@given(problem=problems(), data=st.data())
def test_items_agree_with_the_definition(problem: Problem, data: st.DataObject) -> None:
    label = st.sampled_from(["ko", "zh-TW", "und"])
    labels = data.draw(st.lists(label, min_size=problem.num_items, max_size=problem.num_items))
    rankings = top_k(problem.scores, problem.train_sets(), 5)
    found = slice_by_items(rankings, problem.test_sets(), labels, ks=(2, 5))
    for name in ("ko", "zh-TW", "und"):
        members = {item for item, each in enumerate(labels) if each == name}
        parts = {user: items & members for user, items in enumerate(problem.test) if items & members}
        if not parts:
            assert name not in found
            continue
        for k in (2, 5):
            for metric, definition in oracles.PER_USER.items():
                expected = [definition(rankings[user].tolist(), items, k) for user, items in parts.items()]
                mean = found[name].metrics.means()[f"{metric}@{k}"]
                assert mean == pytest.approx(sum(expected) / len(expected))


@settings(deadline=None)
@given(problem=problems(), data=st.data())
def test_users_agree_with_evaluating_them_alone(problem: Problem, data: st.DataObject) -> None:
    count = len(problem.test)
    labels = data.draw(st.lists(st.sampled_from(["a", "b"]), min_size=count, max_size=count))
    rankings = top_k(problem.scores, problem.train_sets(), 4)
    overall = ranking_metrics(rankings, problem.test_sets(), ks=(4,))
    found = slice_by_users(overall, problem.test_sets(), labels)
    for name in ("a", "b"):
        rows = [row for row, label in enumerate(labels) if label == name and problem.test[row]]
        assert (name in found) == bool(rows)
        if rows:
            lists = [rankings[row].tolist() for row in rows]
            sets = [problem.test[row] for row in rows]
            expected = sum(map(oracles.ndcg, lists, sets, [4] * len(rows))) / len(rows)
            assert found[name].metrics.means()["ndcg@4"] == pytest.approx(expected)
            positives = sum(map(len, sets))
            assert found[name].size == SliceSize(len(rows), len(set().union(*sets)), positives)
            assert not any(math.isnan(found[name].metrics.values["ndcg@4"][row]) for row in rows)


def test_labels() -> None:
    assert language_labels(["ko", None, "", "zh-TW"]) == ["ko", "und", "und", "zh-TW"]
    assert temperature_labels(np.array([True, False])) == ["warm", "cold"]
    sizes = [0, 1, 5, 6, 10, 11, 20, 21, 50, 51, 100, 101, 150]
    train = ItemSets.from_lists([list(range(size)) for size in sizes], num_items=150)
    ranges = [
        "0",
        *["1-5"] * 2,
        *["6-10"] * 2,
        *["11-20"] * 2,
        *["21-50"] * 2,
        *["51-100"] * 2,
        *["101+"] * 2,
    ]
    assert activity_labels(train) == ranges


def test_one_label_each() -> None:
    relevant = ItemSets.from_lists([[0]], num_items=2)
    with pytest.raises(ValueError, match="each of 2 items, received 1"):
        slice_by_items(np.array([[0]]), relevant, ["ko"], ks=(1,))
    overall = ranking_metrics(np.array([[0]]), relevant, ks=(1,))
    with pytest.raises(ValueError, match="each of 1 users, received 2"):
        slice_by_users(overall, relevant, ["a", "b"])
