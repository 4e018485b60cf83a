"""The linear item-item model against its closed form written out, and its part in both towers."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from tests.trainer.scorers.features import with_neighbours
from trainer.data.user_items import UserItems
from trainer.models.settings import LinearConfig
from trainer.scorers import linear, spectrum
from trainer.scorers.linear import (
    LinearScorer,
    choices,
    fit_linear,
    linear_rank,
    stretch_of_means,
    stretch_of_unknown_items,
)
from trainer.scorers.spectrum import Spectrum

_USERS = [[0, 1, 2], [0, 1], [1, 2, 3], [3, 4], [0, 4], [2]]


_HISTORIES = UserItems.of_lists(_USERS)


def _similarity(size: int, regularization: float) -> npt.NDArray[np.float64]:
    """Partial correlations, by solving one regularised system per item."""
    matrix = np.zeros((len(_USERS), size))
    for user, items in enumerate(_USERS):
        matrix[user, items] = 1.0
    gram = matrix.T @ matrix + regularization * np.eye(size)
    inverse = np.column_stack([np.linalg.solve(gram, unit) for unit in np.eye(size)])
    similarity = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            if i != j:
                similarity[i, j] = -inverse[i, j] / np.sqrt(inverse[i, i] * inverse[j, j])
    return similarity


def test_at_full_rank_the_dot_products_are_the_partial_correlations() -> None:
    table, signs = fit_linear(_HISTORIES, 5, rank=5, regularization=2.0)
    found = (table * signs) @ table.T
    expected = _similarity(5, 2.0)
    factor = found[0, 1] / expected[0, 1]
    assert factor > 0
    np.testing.assert_allclose(found, factor * expected, atol=1e-4)
    scores = (
        np.stack([sum((table * signs)[item] for item in items) / np.sqrt(len(items)) for items in _USERS]) @ table.T
    )
    assert scores.std() == pytest.approx(1.0, rel=1e-4)


def test_a_smaller_rank_is_the_best_approximation_and_a_larger_one_pads() -> None:
    table, signs = fit_linear(_HISTORIES, 5, rank=2, regularization=2.0)
    values, vectors = np.linalg.eigh(_similarity(5, 2.0))
    kept = np.argsort(-np.abs(values))[:2]
    best = (vectors[:, kept] * values[kept]) @ vectors[:, kept].T
    found = (table * signs) @ table.T
    np.testing.assert_allclose(found / np.linalg.norm(found), best / np.linalg.norm(best), atol=1e-4)
    wide, _ = fit_linear(_HISTORIES, 5, rank=8, regularization=2.0)
    assert wide.shape == (5, 8)
    assert not wide[:, 5:].any()


def test_a_history_scores_items_by_the_sum_over_its_items() -> None:
    table, signs = fit_linear(_HISTORIES, 5, rank=5, regularization=2.0)
    scorer, towers = LinearScorer(5, 5, name="linear"), tf.zeros([2, 3])
    scorer.table.assign(np.concatenate([np.zeros((1, 5)), table]))
    scorer.signs.assign(signs)
    vectors = scorer.items(with_neighbours(np.zeros((6, 0))), tf.range(6))
    mask = tf.constant([[True, True, False], [False, False, False]])
    asked = tf.gather(vectors, [[1, 4, 5], [2, 2, 2]])
    np.testing.assert_array_equal(
        scorer.queries(towers, asked, mask), np.zeros((2, 5)), "without a factor it says nothing"
    )
    scorer.factor.assign(2.0)
    scores = tf.matmul(scorer.queries(towers, asked, mask), vectors, transpose_b=True).numpy()
    pairs = (table * signs) @ table.T
    np.testing.assert_allclose(scores[0, 1:], 2.0 * (pairs[0] + pairs[3]) / np.sqrt(2.0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(scores[1], np.zeros(6))
    assert scores[0, 0] == 0.0, "an unknown item is unknown to it"


def test_an_unknown_item_inherits_from_its_neighbours() -> None:
    scorer = LinearScorer(2, 3, name="linear")
    scorer.table.assign([[0, 0, 0], [1, 2, 3], [3, 4, 5]])
    found = scorer.items(with_neighbours([[0.5, 0.5], [1.0, 0.0]]), tf.constant([0, 2]))
    np.testing.assert_allclose(found, [[2, 3, 4], [3, 4, 5]])


def test_means_of_neighbours_are_stretched_to_the_scores_of_known_items() -> None:
    table, signs = fit_linear(_HISTORIES, 5, rank=5, regularization=2.0)
    neighbours = np.full((5, 5), 0.25, np.float32)
    np.fill_diagonal(neighbours, 0.0)
    histories = np.stack([sum((table * signs)[item] for item in items) / np.sqrt(len(items)) for items in _USERS])
    means = np.stack([table[[other for other in range(5) if other != item]].mean(axis=0) for item in range(5)])
    expected = np.sqrt(np.square(histories @ table.T).mean() / np.square(histories @ means.T).mean())
    assert stretch_of_means(table, signs, _HISTORIES, neighbours @ table) == pytest.approx(expected, rel=1e-4)
    assert stretch_of_means(table, signs, _HISTORIES, np.zeros_like(table)) == 1.0


def test_an_unknown_catalogue_separates_its_items_as_much_as_the_known_one() -> None:
    table, signs = fit_linear(_HISTORIES, 5, rank=5, regularization=2.0)
    means = np.random.default_rng(3).dirichlet(np.ones(5), size=7).astype(np.float32) @ table

    def apart(vectors: npt.NDArray[np.float32]) -> float:
        """Each item alone as a history: standard deviation of its scores, root mean square over the items."""
        return float(np.sqrt(np.mean([np.var(vectors @ (signs * item)) for item in vectors])))

    stretch = stretch_of_unknown_items(table, signs, means)
    assert stretch > 1.0
    assert apart(stretch * means) == pytest.approx(apart(table), rel=1e-4)
    assert stretch_of_unknown_items(table, signs, np.tile(means[:1], (7, 1))) == 1.0, "nothing tells these apart"


def _groups(users: int) -> list[npt.NDArray[np.int64]]:
    """12 groups of 60 items; users choose within two groups: far fewer directions than items."""
    rng = np.random.default_rng(5)
    return [
        np.concatenate([60 * group + rng.choice(60, 8, replace=False) for group in rng.choice(12, 2, replace=False)])
        for _ in range(users)
    ]


def test_a_large_catalogue_is_solved_by_its_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    histories = UserItems.of_lists(_groups(3_000))
    exact, signs = fit_linear(histories, 720, rank=11, regularization=100.0)
    monkeypatch.setattr(linear, "EXACT_ITEMS", 700)
    monkeypatch.setattr(spectrum, "USERS", 500)
    found, of_found = fit_linear(histories, 720, rank=11, regularization=100.0)
    expected, scores = (exact * signs) @ exact.T, (found * of_found) @ found.T
    # Choices within a group are random: what 22 eigenvalues leave out of it is noise, but not nothing.
    assert np.linalg.norm(scores - expected) < 0.1 * np.linalg.norm(expected)


def test_all_of_the_spectrum_gives_the_partial_correlations() -> None:
    matrix = choices(_HISTORIES, 5)
    low = Spectrum.of(matrix, 5).partial_correlations(2.0)
    np.testing.assert_allclose(
        low.factors @ low.factors.T - np.diag(low.diagonal), _similarity(5, 2.0), atol=1e-4, rtol=1e-4
    )
    values, vectors = low.eigenpairs()
    np.testing.assert_allclose((vectors * values) @ vectors.T, _similarity(5, 2.0), atol=1e-4)
    few = Spectrum.of(matrix, 3)
    vectors = few.vectors.astype(np.float64)
    gram = (matrix.T @ matrix).toarray()
    np.testing.assert_allclose(few.values, np.linalg.eigvalsh(gram)[:1:-1], rtol=1e-4)
    np.testing.assert_allclose(few.rest, np.diag(gram - (vectors * few.values) @ vectors.T), atol=1e-4)


def test_items_without_positives_take_no_part() -> None:
    apart = UserItems.of_lists([[2 * item for item in items] for items in _USERS])
    table, signs = fit_linear(apart, 12, rank=3, regularization=2.0)
    alone, of_alone = fit_linear(_HISTORIES, 5, rank=3, regularization=2.0)
    assert not table[1::2].any()
    found, expected = (table[:10:2] * signs) @ table[:10:2].T, (alone * of_alone) @ alone.T
    np.testing.assert_allclose(found / np.linalg.norm(found), expected / np.linalg.norm(expected), atol=1e-5)
    none, _ = fit_linear(UserItems.of_lists([[], []]), 4, rank=2, regularization=2.0)
    assert none.shape == (4, 2)
    assert not none.any()


@pytest.mark.parametrize(
    ("rank", "users", "items", "expected"),
    [
        ("auto", 390, 300, 128),  # 300 / 8 = 37 is below 128
        ("auto", 390, 100, 100),  # never a higher rank than items
        ("auto", 2_000, 3_746, 250),
        ("auto", 9_000, 5_000, 512),
        ("auto", 9_000, 6_000, 512),
        ("auto", 9_000, 6_001, 0),
        (64, 9_000, 19_000, 64),
        (0, 390, 300, 0),
    ],
)
def test_the_rank_follows_users_and_items(rank: int | str, users: int, items: int, expected: int) -> None:
    assert linear_rank(LinearConfig.model_validate({"rank": rank}), users, items) == expected


def test_large_catalogues_are_cut_to_their_largest_directions() -> None:
    chosen = _groups(900)
    matrix = np.zeros((900, 720))
    for user, items in enumerate(chosen):
        matrix[user, items] = 1.0
    inverse = np.linalg.inv(matrix.T @ matrix + 100.0 * np.eye(720))
    similarity = -inverse / np.sqrt(np.outer(np.diag(inverse), np.diag(inverse)))
    np.fill_diagonal(similarity, 0.0)
    values, vectors = np.linalg.eigh(similarity)
    kept = np.argsort(-np.abs(values))[:40]
    best = (vectors[:, kept] * values[kept]) @ vectors[:, kept].T
    table, signs = fit_linear(UserItems.of_lists(chosen), 720, rank=40, regularization=100.0)
    found = (table * signs) @ table.T
    found *= np.sum(found * similarity) / np.sum(found * found)
    # What is left of the similarity, in addition to what no approximation of this rank can avoid.
    assert np.linalg.norm(similarity - found) < 1.02 * np.linalg.norm(similarity - best)
