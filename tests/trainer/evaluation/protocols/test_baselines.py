import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.evaluation import oracles
from tests.trainer.evaluation.strategies import Problem, problems
from trainer.data.settings import MovieLens100kSource
from trainer.data.sources import prepare
from trainer.errors import BabelrecError
from trainer.evaluation.metrics import ranking
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import rank_in_blocks, rank_in_tiles, top_k
from trainer.evaluation.protocols import baselines
from trainer.evaluation.protocols.baselines import baseline_rankings, mean_history, random, rank_by_popularity
from trainer.evaluation.report.references import TOLERANCE, references

Parts = tuple[ItemSets, ItemSets]


@pytest.fixture(scope="module")
def kmrd(data_mirror: Path) -> Parts:
    with (data_mirror / "kmrd-small" / "rates.csv").open(encoding="utf-8") as file:
        rows = [
            (int(row["user"]), int(row["movie"]), float(row["rate"]), int(row["time"])) for row in csv.DictReader(file)
        ]
    return _split(rows, 8)


@pytest.fixture(scope="module")
def movielens(cache: Path) -> Parts:
    try:
        ratings = prepare(MovieLens100kSource()).interactions().collect()
    except BabelrecError as error:
        pytest.skip(f"MovieLens-100k is neither cached nor to be downloaded: {error}")
    columns = ratings.select("user_id", "item_id", "value", "timestamp")
    return _split([(int(u), int(i), value, time) for u, i, value, time in columns.iter_rows()], 4)


def _split(rows: list[tuple[int, int, float, int]], least: float) -> Parts:
    train, test, ids = oracles.per_user_split(rows, least)
    return (
        ItemSets.from_lists(train, num_items=len(ids)),
        ItemSets.from_lists(test, num_items=len(ids)),
    )


def _ease(train: ItemSets, weight: float) -> npt.NDArray[np.float64]:
    """Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data, equation 8."""
    matrix = np.zeros((train.num_users, train.num_items))
    matrix[train.users(), train.indices] = 1
    inverse = np.linalg.inv(matrix.T @ matrix + weight * np.eye(train.num_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return matrix @ weights


def _expected(dataset: str, model: str) -> dict[str, float]:
    result = next(result for result in references(dataset, "P1") if result.model == model)
    return {name: metric.value for name, metric in result.metrics.items()}


@pytest.mark.parametrize(
    ("dataset", "weight", "sizes"),
    [("movielens-100k", 100.0, (938, 1_447, 43_919, 11_442)), ("kmrd-small", 500.0, (4_342, 563, 41_948, 12_581))],
)
def test_harness_reproduces_the_reference_figures(
    dataset: str, weight: float, sizes: tuple[int, ...], request: pytest.FixtureRequest
) -> None:
    train, test = request.getfixturevalue(dataset.partition("-")[0])
    assert (train.num_users, train.num_items, train.indices.size, test.indices.size) == sizes
    found = {
        "popularity": baseline_rankings(train, 20)["popularity"],
        "EASE": top_k(_ease(train, weight), train, 20),
    }
    for model, rankings in found.items():
        means = ranking_metrics(rankings, test).means()
        expected = _expected(dataset, model)
        assert {name: means[name] for name in expected} == pytest.approx(expected, abs=TOLERANCE)


def test_random_finds_its_share(kmrd: Parts) -> None:
    train, test = kmrd
    rankings = [baseline_rankings(train, 10, seed=seed)["random"] for seed in range(5)]
    found = [ranking_metrics(each, test, ks=(10,)).means()["recall@10"] for each in rankings]
    # A test item is in the list with probability 10 / candidates; a user with fewer than ten of them
    # is divided by their number.
    sizes, candidates = test.sizes(), train.num_items - train.sizes()
    expected = float(np.mean(10 / candidates * sizes / np.minimum(10, sizes)))
    assert np.mean(found) == pytest.approx(expected, abs=0.003)
    assert expected == pytest.approx(0.0189, abs=0.001)


def test_popularity_counts_training_users() -> None:
    train = ItemSets.from_lists([[0, 2], [2, 3], [2, 3], []], num_items=5)
    rankings = baseline_rankings(train, 3)["popularity"]
    assert rankings.tolist() == [[3, 1, 4], [0, 1, 4], [0, 1, 4], [2, 3, 0]]


@settings(deadline=None)
@given(problem=problems(), k=st.integers(1, 15), block=st.sampled_from([1, 2, 1 << 16]))
def test_popularity_is_one_order_without_own_items(problem: Problem, k: int, block: int) -> None:
    counts = np.random.default_rng(k).integers(0, 3, problem.train_sets().num_items)
    expected = [oracles.rank(counts.tolist(), left_out, k) for left_out in problem.train]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_BLOCK", block)
        assert rank_by_popularity(counts, problem.train_sets(), k).tolist() == expected


def test_popularity_needs_a_count_of_each_item() -> None:
    with pytest.raises(ValueError, match=r"\[3\] counts, received shape \(2,\)"):
        rank_by_popularity(np.ones(2, np.int64), ItemSets.empty(1, 3), 1)


def test_another_exclusion_replaces_the_training_part() -> None:
    train = ItemSets.from_lists([[0, 2], [2]], num_items=3)
    rankings = baseline_rankings(train, 2, exclude=ItemSets.from_lists([[2], []], num_items=3))
    assert rankings["popularity"].tolist() == [[0, 1], [2, 0]]


def test_random_depends_on_the_seed_and_the_row_alone() -> None:
    whole = random(7, seed=3)(slice(0, 5))
    pieces = [random(7, seed=3)(slice(start, stop)) for start, stop in ((0, 2), (2, 3), (3, 5))]
    assert (np.concatenate(pieces) == whole).all()
    assert (random(7, seed=4)(slice(0, 5)) != whole).all()
    assert len(np.unique(whole)) == whole.size


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    train = ItemSets.from_lists(
        [rng.choice(31, size, replace=False).tolist() for size in (0, 5, 28, 31, 1, 9, 3)], num_items=31
    )
    vectors = rng.integers(-2, 3, (31, 3)).astype(np.float32)
    for scorer in (random(31, seed=1), mean_history(train, vectors)):
        whole = rank_in_blocks(scorer, 7, 31, train, 6)
        with monkeypatch.context() as patch:
            patch.setattr(ranking, "_TILE_ITEMS", 4)
            patch.setattr(ranking, "_BLOCK_SCORES", 8)
            assert rank_in_tiles(scorer, 7, 31, train, 6).tolist() == whole.tolist()


def test_mean_history_is_the_cosine_with_the_mean() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, 4)) * rng.uniform(0.1, 10, size=(9, 1))
    rows = [[0, 3], [], [8], [1, 2, 5, 7], []]
    found = mean_history(ItemSets.from_lists(rows, num_items=9), vectors)(slice(0, 5))
    for user, row in enumerate(rows):
        for item in range(9):
            expected = 0.0
            if row:
                profile = sum(vectors[i] / np.linalg.norm(vectors[i]) for i in row) / len(row)
                lengths = np.linalg.norm(profile) * np.linalg.norm(vectors[item])
                expected = profile @ vectors[item] / lengths
            assert found[user, item] == pytest.approx(expected, abs=1e-6)


def test_mean_history_in_blocks_and_without_vectors() -> None:
    train = ItemSets.from_lists([[0], [], [1, 2], []], num_items=3)
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    scorer = mean_history(train, vectors)
    pieces = np.concatenate([scorer(slice(user, user + 1)) for user in range(4)])
    assert pieces.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert rank_in_blocks(scorer, 4, 3, train, 2).tolist() == [[1, 2], [0, 1], [0, -1], [0, 1]]


def test_mean_history_is_there_with_vectors_only() -> None:
    train = ItemSets.from_lists([[0]], num_items=2)
    assert set(baseline_rankings(train, 1)) == {"popularity", "random"}
    assert set(baseline_rankings(train, 1, item_vectors=np.eye(2))) == {
        "popularity",
        "random",
        "mean-history",
    }


def test_vectors_of_another_catalogue_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, D\] vectors, received shape \(3, 4\)"):
        mean_history(ItemSets.empty(1, 2), np.zeros((3, 4)))
