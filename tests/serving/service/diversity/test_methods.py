"""Both methods against their definitions."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.service.diversity import METHODS, dpp, mmr
from serving.service.diversity.vectors import relevance
from tests.serving.service.diversity.oracles import dpp_gain, kernel, log_det, mmr_gain

_Gain = Callable[[list[list[float]], Sequence[float], float, list[list[float]], int], float]
_methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
_numbers = st.integers(-4, 4).map(float)
_scores = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=9)


@st.composite
def _problems(draw: st.DrawFn) -> tuple[npt.NDArray[np.float32], list[float]]:
    scores = draw(_scores)
    shape = (len(scores), draw(st.integers(1, 6)))
    return draw(arrays.arrays(np.float32, shape, elements=_numbers)), scores


def _assert_greedy(
    gain: _Gain, vectors: npt.NDArray[np.float32], scores: list[float], strength: float, shown: int, chosen: list[int]
) -> None:
    """Each step took an item whose gain no other exceeds; `shown` rows at the end are in the list already."""
    rows = vectors.astype(float).tolist()
    listed = rows[len(rows) - shown :] if shown else []
    left = set(range(len(rows) - shown))
    assert len(set(chosen)) == len(chosen)
    assert left.issuperset(chosen)
    for number in chosen:
        gains = {i: gain(rows[: len(rows) - shown], scores, strength, listed, i) for i in left}
        assert gains[number] >= max(gains.values()) - 1e-7
        left.remove(number)
        listed = [*listed, rows[number]]


@settings(max_examples=150)
@given(_problems(), st.floats(0.01, 1), st.integers(0, 9), st.integers(0, 2))
def test_mmr_is_that_of_brute_force(
    problem: tuple[npt.NDArray[np.float32], list[float]], strength: float, count: int, shown: int
) -> None:
    vectors, scores = problem
    shown = min(shown, len(scores) - 1)
    scores = scores[: len(scores) - shown]
    chosen = mmr(vectors[: len(scores)], scores, count, strength, shown=vectors[len(scores) :])
    assert len(chosen) == min(count, len(scores))
    _assert_greedy(mmr_gain, vectors, scores, strength, shown, chosen)


@settings(max_examples=150)
@given(_problems(), st.floats(0.01, 1), st.integers(0, 9), st.integers(0, 2))
def test_dpp_is_that_of_determinants(
    problem: tuple[npt.NDArray[np.float32], list[float]], strength: float, count: int, shown: int
) -> None:
    vectors, scores = problem
    # Where nothing is singular: copies have a test of their own.
    assume(np.linalg.eigvalsh(kernel(vectors.tolist()))[0] > 1e-4)
    shown = min(shown, len(scores) - 1)
    scores = scores[: len(scores) - shown]
    chosen = dpp(vectors[: len(scores)], scores, count, strength, shown=vectors[len(scores) :])
    assert len(chosen) == min(count, len(scores))
    _assert_greedy(dpp_gain, vectors, scores, strength, shown, chosen)


@pytest.mark.parametrize("strength", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize(("method", "gain"), [(mmr, mmr_gain), (dpp, dpp_gain)], ids=METHODS)
def test_lists_of_ordinary_vectors(method: Callable[..., list[int]], gain: _Gain, strength: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        vectors = (rng.normal(size=(14, 12)) + rng.normal(size=12)).astype(np.float32)
        scores = np.sort(rng.normal(size=12))[::-1].tolist()
        chosen = method(vectors[:12], scores, 9, strength, shown=vectors[12:])
        assert len(chosen) == 9
        _assert_greedy(gain, vectors, scores, strength, 2, chosen)


def test_dpp_compared_with_the_best_of_all_subsets() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(20):
        vectors = rng.normal(size=(8, 8)).astype(np.float32)
        found = math.exp(log_det(vectors[dpp(vectors, [0.0] * 8, 3, 1)].tolist()))
        best = max(math.exp(log_det(vectors[list(three)].tolist())) for three in itertools.combinations(range(8), 3))
        assert found <= best * (1 + 1e-9)
        shares.append(found / best)
    # A greedy choice is not the best one; Chen et al. and others find it near.
    assert np.mean(shares) > 0.9


@_methods
@given(problem=_problems(), count=st.integers(0, 9))
def test_strength_0_keeps_the_order_whatever_it_is(
    method: Callable[..., list[int]], problem: tuple[npt.NDArray[np.float32], list[float]], count: int
) -> None:
    vectors, scores = problem
    assert method(vectors, scores, count, 0) == list(range(min(count, len(scores))))


@_methods
def test_equal_gains_keep_the_order(method: Callable[..., list[int]]) -> None:
    assert method(np.eye(4, dtype=np.float32), [1.0] * 4, 4, 0.5) == [0, 1, 2, 3]


@_methods
def test_a_copy_comes_after_something_else(method: Callable[..., list[int]]) -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert method(vectors, [1.0, 0.9, 0.5], 3, 0.5) == [0, 2, 1]
    assert method(vectors, [1.0, 0.9, 0.5], 2, 0.6, shown=vectors[:1])[0] == 2


def test_copies_come_last_by_their_relevance() -> None:
    vectors = np.ones((5, 3), np.float32)
    vectors[4] = [1, 0, 0]
    assert dpp(vectors, [0.1, 0.5, 0.3, 0.4, 0.0], 5, 0.5) == [1, 4, 3, 2, 0]


def test_opposite_items_are_diverse() -> None:
    vectors = np.array([[1, 0], [-1, 0], [0.8, 0.6]], np.float32)
    assert dpp(vectors, [1.0, 1.0, 1.0], 3, 1) == [0, 1, 2]
    assert mmr(vectors, [1.0, 1.0, 1.0], 3, 1) == [0, 1, 2]


@_methods
@pytest.mark.parametrize("strength", [0.0, 1e-300, 0.5, 1.0])
def test_values_that_are_not_finite(method: Callable[..., list[int]], strength: float) -> None:
    vectors = np.array([[np.nan, 1], [np.inf, 0], [1e38, 1e38], [1e-45, 0], [0, 0], [3, 4]], np.float32)
    scores = [math.inf, 3.0, 1e308, -1e308, -math.inf, math.nan]
    with np.errstate(all="raise", under="ignore"):
        assert sorted(method(vectors, scores, 9, strength)) == list(range(6))
    assert method(vectors, scores, 1, strength) == [0]


@_methods
def test_an_item_without_a_vector_is_like_none(method: Callable[..., list[int]]) -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 0]], np.float32)
    assert method(vectors, [1.0, 1.0, 1.0], 3, 0.5) == [0, 2, 1]


@_methods
def test_what_is_not_admitted_is_asked_for_once(method: Callable[..., list[int]]) -> None:
    rng = np.random.default_rng(1)
    asked: list[int] = []

    def admit(number: int) -> bool:
        asked.append(number)
        return number % 2 == 0

    vectors = rng.normal(size=(10, 4)).astype(np.float32)
    for strength in (0, 0.5):
        asked.clear()
        chosen = method(vectors, np.linspace(1, 0, 10), 10, strength, admit=admit)
        assert sorted(chosen) == [0, 2, 4, 6, 8]
        assert sorted(asked) == list(range(10))


def test_scores_on_one_scale() -> None:
    assert relevance([3.0, 1.0, 2.0]).tolist() == [1.0, 0.0, 0.5]
    assert relevance([-1e308, 1e308, 0.0]).tolist() == [0.0, 1.0, 0.5]
    assert relevance([math.inf, 5.0, 5.0, math.nan, -math.inf]).tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert relevance([math.nan]).tolist() == [0.0]
    assert relevance([]).tolist() == []


@_methods
def test_nothing_to_choose_from(method: Callable[..., list[int]]) -> None:
    assert method(np.zeros((0, 4), np.float32), [], 5, 0.5) == []
    assert method(np.ones((3, 4), np.float32), [1, 2, 3], 0, 0.5) == []
    assert method(np.ones((3, 4), np.float32), [1, 2, 3], 2, 0.5, shown=np.zeros((0, 4))) == [2, 1]


@_methods
@pytest.mark.parametrize(
    ("vectors", "scores", "strength", "message"),
    [
        (np.ones((2, 2)), [1.0], 0.5, "2 vectors for 1 scores"),
        (np.ones(2), [1.0, 2.0], 0.5, r"vectors of shape \(2,\)"),
        (np.ones((2, 2)), np.ones((2, 1)), 0.5, r"scores of shape \(2, 1\)"),
        (np.ones((2, 2)), [1.0, 2.0], -0.1, "strength -0.1"),
        (np.ones((2, 2)), [1.0, 2.0], math.nan, "strength nan"),
    ],
)
def test_mistakes(
    method: Callable[..., list[int]], vectors: object, scores: object, strength: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        method(vectors, scores, 2, strength)
