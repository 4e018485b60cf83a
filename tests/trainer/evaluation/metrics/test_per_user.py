import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from scipy.stats import percentileofscore
from sklearn.metrics import ndcg_score

from tests.trainer.evaluation import oracles
from tests.trainer.evaluation.strategies import Problem, problems
from trainer.evaluation.metrics.definition import popularity_percentiles
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import (
    Metric,
    PerUserMetrics,
    ranking_metrics,
    recall_curve,
    summaries,
)
from trainer.evaluation.metrics.ranking import top_k


def test_one_user_worked_by_hand() -> None:
    # Ranks 2 and 5 of five hit; four items are relevant.
    rankings = np.array([[7, 1, 8, 9, 0]])
    relevant = ItemSets.from_lists([[0, 1, 2, 3]], num_items=10)
    found = ranking_metrics(rankings, relevant, ks=(1, 3, 5)).means()
    ideal_4 = 1 + 1 / math.log2(3) + 1 / 2 + 1 / math.log2(5)
    assert found["recall@1"] == 0
    assert found["recall@3"] == pytest.approx(1 / 3)  # of min(3, 4)
    assert found["recall@5"] == pytest.approx(2 / 4)  # of min(5, 4)
    assert found["ndcg@5"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(6)) / ideal_4)
    assert found["hr@1"] == 0
    assert found["hr@3"] == 1
    assert found["mrr@1"] == 0
    assert found["mrr@5"] == pytest.approx(1 / 2)
    assert found["coverage@5"] == pytest.approx(5 / 10)


@settings(deadline=None)
@given(problem=problems())
def test_agrees_with_the_definitions(problem: Problem) -> None:
    depth = 6
    rankings = top_k(problem.scores, problem.train_sets(), depth)
    counts = problem.train_sets().item_counts()
    ks = (1, 2, 5, depth)
    found = ranking_metrics(rankings, problem.test_sets(), ks=ks, training_counts=counts)
    users = [user for user, items in enumerate(problem.test) if items]
    assert found.num_evaluated() == len(users)
    for k in ks:
        for user, relevant in enumerate(problem.test):
            listed = rankings[user].tolist()
            for name, definition in oracles.PER_USER.items():
                value = found.values[f"{name}@{k}"][user]
                if relevant:
                    assert value == pytest.approx(definition(listed, relevant, k), abs=1e-12)
                else:
                    assert math.isnan(value)
            expected = oracles.mean_percentile(listed, counts.tolist(), k) if relevant else math.nan
            value = found.values[f"popularity_percentile@{k}"][user]
            assert value == pytest.approx(expected, abs=1e-9, nan_ok=True)
        if users:
            covered = oracles.coverage(rankings.tolist(), users, k, problem.num_items)
            assert found.totals[f"coverage@{k}"] == pytest.approx(covered)
        else:
            assert f"coverage@{k}" not in found.totals


def test_ndcg_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    scores = rng.permutation(50 * 40).reshape(50, 40).astype(np.float64)
    truth = rng.random((50, 40)) < 0.15
    truth[:, 0] = True
    users, items = np.nonzero(truth)
    relevant = ItemSets.from_pairs(users, items, num_users=50, num_items=40)
    found = ranking_metrics(top_k(scores, None, 10), relevant, ks=(3, 10)).means()
    for k in (3, 10):
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg_score(truth, scores, k=k))


def test_percentile_agrees_with_scipy_and_averages_to_fifty() -> None:
    counts = np.array([0, 5, 5, 2, 0, 0, 9, 5])
    found = popularity_percentiles(counts)
    expected = [percentileofscore(counts, count, kind="mean") for count in counts]
    assert found == pytest.approx(expected)
    assert found.mean() == pytest.approx(50)
    assert found[6] == pytest.approx(100 * 7.5 / 8)
    assert popularity_percentiles(np.zeros(4, dtype=np.int64)).tolist() == [50.0] * 4


def test_users_without_test_items_are_excluded() -> None:
    rankings = np.array([[0, 1], [2, 3], [0, 1]])
    relevant = ItemSets.from_lists([[0], [], [3]], num_items=4)
    found = ranking_metrics(rankings, relevant, ks=(2,))
    assert found.means()["recall@2"] == pytest.approx(1 / 2)
    # The list of the user without test items, 2 and 3, covers nothing.
    assert found.means()["coverage@2"] == pytest.approx(2 / 4)
    assert found.num_evaluated() == 2


def test_nobody_has_a_test_item() -> None:
    found = ranking_metrics(np.array([[0, 1]]), ItemSets.empty(1, 2), ks=(1, 2))
    assert found.num_evaluated() == 0
    assert found.summary() == {}


def test_an_empty_list_scores_nothing_and_has_no_popularity() -> None:
    rankings = np.array([[-1, -1], [0, -1]])
    relevant = ItemSets.from_lists([[0], [0]], num_items=2)
    found = ranking_metrics(rankings, relevant, ks=(2,), training_counts=np.array([3, 1]))
    assert found.values["recall@2"].tolist() == [0.0, 1.0]
    assert found.values["mrr@2"].tolist() == [0.0, 1.0]
    assert math.isnan(found.values["popularity_percentile@2"][0])
    assert found.means()["popularity_percentile@2"] == pytest.approx(75)
    assert found.means()["coverage@2"] == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("rankings", "ks", "message"),
    [
        (np.array([[0, 0]]), (2,), "same item twice"),
        (np.array([[-1, 0]]), (2,), "end of a list"),
        (np.array([[0, 5]]), (2,), r"\[0, 5\)"),
        (np.array([[0, -2]]), (2,), "or be -1"),
        (np.array([[0, 1]]), (3,), r"1\.\.2"),
        (np.array([[0, 1]]), (0,), r"1\.\.2"),
        (np.array([[0, 1]]), (), r"1\.\.2"),
        (np.array([0, 1]), (1,), r"shape \(2,\)"),
        (np.array([[0, 1], [1, 0]]), (1,), "each of 1 users, received 2"),
        (np.array([[0.0, 1.0]]), (1,), "float64"),
    ],
)
def test_malformed_rankings_are_refused(rankings: npt.NDArray[np.int64], ks: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranking_metrics(rankings, ItemSets.from_lists([[0]], num_items=5), ks=ks)


def test_counts_of_another_catalogue_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3\] counts"):
        ranking_metrics(np.array([[0]]), ItemSets.empty(1, 3), ks=(1,), training_counts=np.zeros(2, int))


def test_curve_stops_where_the_lists_do() -> None:
    rankings = np.array([[3, 0, 2]])
    relevant = ItemSets.from_lists([[0, 2]], num_items=4)
    assert recall_curve(rankings, relevant) == {1: 0.0, 2: 0.5, 3: 1.0}


def test_summary_gives_means_with_intervals_and_totals_without() -> None:
    rng = np.random.default_rng(0)
    rankings = np.argsort(rng.random((200, 30)), axis=1)[:, :10]
    relevant = ItemSets.from_lists([[int(i)] for i in rng.integers(0, 30, 200)], num_items=30)
    metrics = ranking_metrics(rankings, relevant, ks=(10,))
    found = metrics.summary()
    mean = metrics.values["recall@10"].mean()
    half = 1.96 * metrics.values["recall@10"].std() / math.sqrt(200)
    assert found["recall@10"].value == pytest.approx(mean)
    assert found["recall@10"].ci95 == pytest.approx((mean - half, mean + half), abs=0.012)
    assert found["coverage@10"] == Metric(1.0, None)


def _figures(results: list[dict[str, Metric]]) -> list[float]:
    """Every figure in order; sums in another order differ in the last bit."""
    return [
        figure
        for result in results
        for name in ("a", "b")
        for figure in (result[name].value, *(result[name].ci95 or ()))
    ]


def test_joint_summaries_equal_single_ones() -> None:
    rng = np.random.default_rng(1)
    parts = [PerUserMetrics({"a": rng.random(40), "b": rng.random(40)}, {}) for _ in range(3)]
    single = [part.summary(resamples=50) for part in parts]
    assert _figures(summaries(parts, resamples=50)) == pytest.approx(_figures(single))
    assert summaries([]) == []


def test_joint_summaries_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    parts = [PerUserMetrics({"a": rng.random(40), "b": rng.random(40)}, {}) for _ in range(3)]
    whole = summaries(parts, resamples=50)
    monkeypatch.setattr("trainer.evaluation.metrics.per_user._BLOCK_VALUES", 80)
    assert _figures(summaries(parts, resamples=50)) == pytest.approx(_figures(whole))


def test_paired_difference_is_narrower_than_the_parts() -> None:
    rng = np.random.default_rng(2)
    easy = rng.random(500)
    better = PerUserMetrics({"recall@10": easy + 0.01, "only@1": easy}, {"coverage@10": 0.5})
    worse = PerUserMetrics({"recall@10": easy + rng.normal(0, 0.01, 500)}, {"coverage@10": 0.2})
    gain = better.minus(worse).summary()
    assert set(gain) == {"recall@10", "coverage@10"}
    assert gain["coverage@10"].value == pytest.approx(0.3)
    assert gain["recall@10"].value == pytest.approx(0.01, abs=0.002)
    assert gain["recall@10"].ci95 is not None
    low, high = gain["recall@10"].ci95
    assert 0 < low < high < 0.02


@pytest.mark.parametrize("figures", [(math.nan, None), (0.5, (math.nan, 1.0)), (0.5, (0.6, 0.4))])
def test_metrics_are_finite_and_ordered(figures: tuple[float, tuple[float, float] | None]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Metric(*figures)
