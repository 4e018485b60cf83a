import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.evaluation import oracles
from tests.trainer.evaluation.strategies import Problem, problems
from trainer.errors import BabelrecError
from trainer.evaluation.metrics import ranking
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.ranking import rank_in_blocks, rank_in_tiles, top_k


@settings(deadline=None)
@given(problem=problems(), k=st.integers(1, 15))
def test_agrees_with_sorting_by_hand(problem: Problem, k: int) -> None:
    expected = [
        oracles.rank(row.tolist(), left_out, k) for row, left_out in zip(problem.scores, problem.train, strict=True)
    ]
    assert top_k(problem.scores, problem.train_sets(), k).tolist() == expected


def test_ties_go_to_the_lower_index() -> None:
    scores = np.array([[1.0, 2.0, 1.0, 2.0, 1.0, 0.0]])
    assert top_k(scores, None, 4).tolist() == [[1, 3, 0, 2]]


def test_excluded_items_never_fill_up_a_list() -> None:
    scores = np.array([[5.0, 4.0, 3.0], [5.0, 4.0, 3.0]])
    exclude = ItemSets.from_lists([[0, 1, 2], [0]], num_items=3)
    assert top_k(scores, exclude, 3).tolist() == [[-1, -1, -1], [1, 2, -1]]


def test_fewer_items_than_places() -> None:
    assert top_k(np.array([[0.5, 0.7]]), None, 4).tolist() == [[1, 0, -1, -1]]
    assert top_k(np.zeros((2, 0)), None, 2).tolist() == [[-1, -1], [-1, -1]]
    assert top_k(np.zeros((0, 3)), None, 2).shape == (0, 2)


def test_scores_are_left_as_they_are() -> None:
    scores = np.array([[3.0, 2.0, 1.0]])
    top_k(scores, ItemSets.from_lists([[0]], num_items=3), 2)
    assert scores.tolist() == [[3.0, 2.0, 1.0]]


def test_takes_integers_and_half_precision() -> None:
    assert top_k(np.array([[1, 3, 2]]), ItemSets.from_lists([[1]], num_items=3), 2).tolist() == [[2, 0]]
    assert top_k(np.array([[1, 3, 2]], dtype=np.float16), None, 2).tolist() == [[1, 2]]


def test_infinite_scores_are_the_best_ones() -> None:
    assert top_k(np.array([[0.0, np.inf, -np.inf]]), None, 3).tolist() == [[1, 0, -1]]


@pytest.mark.parametrize("limit", [1, 7, 1 << 24])
def test_blocks_change_nothing(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_BLOCK_SCORES", limit)
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 4, size=(23, 6)).astype(np.float32)
    excluded = [rng.choice(6, size=rng.integers(0, 4), replace=False).tolist() for _ in range(23)]
    blocks = []

    def score(users: slice) -> npt.NDArray[np.float32]:
        blocks.append(users.stop - users.start)
        return scores[users]

    found = rank_in_blocks(score, 23, 6, ItemSets.from_lists(excluded, num_items=6), 5)
    expected = [oracles.rank(row.tolist(), set(left), 5) for row, left in zip(scores, excluded, strict=True)]
    assert found.tolist() == expected
    assert sum(blocks) == 23
    assert max(blocks) * 6 <= max(limit, 6)


@pytest.mark.parametrize("items", [1, 2, 3, 17, 1 << 16])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_tiles_change_nothing(items: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_BLOCK_SCORES", 3 * items)
    monkeypatch.setattr(ranking, "_TILE_ITEMS", items)
    rng = np.random.default_rng(6)
    scores = rng.integers(0, 5, size=(11, 29)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    scores[4] = -np.inf
    # The best last: every tile improves the list.
    scores[5] = np.arange(29)
    excluded = [rng.choice(29, size=rng.integers(0, 29), replace=False).tolist() for _ in range(11)]

    def score(users: slice, part: slice) -> npt.NDArray[np.float32]:
        return scores[users, part].copy()

    found = rank_in_tiles(score, 11, 29, ItemSets.from_lists(excluded, num_items=29), k)
    expected = [oracles.rank(row.tolist(), set(left), k) for row, left in zip(scores, excluded, strict=True)]
    assert found.tolist() == expected


def test_nan_names_the_user_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_BLOCK_SCORES", 4)
    scores = np.zeros((5, 2))
    scores[3, 1] = np.nan
    with pytest.raises(BabelrecError, match=r"user row 3 hold NaN.*Remedy"):
        top_k(scores, None, 1)


@pytest.mark.parametrize(
    ("scores", "exclude", "k", "message"),
    [
        (np.zeros(3), None, 1, r"shape \(3,\)"),
        (np.zeros((2, 3)), None, 0, "at least 1"),
        (np.zeros((2, 3)), ItemSets.empty(2, 4), 1, r"\[2, 3\], exclude is \[2, 4\]"),
    ],
)
def test_wrong_shapes_are_refused(
    scores: npt.NDArray[np.floating], exclude: ItemSets | None, k: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        top_k(scores, exclude, k)


def test_a_scorer_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\), received \(2, 4\)"):
        rank_in_blocks(lambda users: np.zeros((2, 4)), 2, 3, None, 1)
