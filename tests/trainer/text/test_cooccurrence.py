"""Counts, PPMI and maps worked by hand."""

import io
import math

import numpy as np
import polars as pl
from matplotlib.image import imread
from scipy import sparse

from trainer.data.catalogue import Catalogue
from trainer.text.cooccurrence import (
    CoOccurrence,
    affinity_plot,
    anchored_procrustes,
    factorise,
    ppmi,
    procrustes,
)


def _catalogue(languages: list[str]) -> Catalogue:
    ids = [f"i{n}" for n in range(len(languages))]
    none = np.full((len(ids), 1), -1, np.int32)
    return Catalogue(ids, ids, ids, languages, [], none, {}, {})


def _positives(sets: dict[str, list[int]]) -> pl.DataFrame:
    rows = [(user, f"i{item}") for user, items in sets.items() for item in items]
    return pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")


def _three_users() -> CoOccurrence:
    # i0, i1 English; i2, i3 Korean; i4 Thai, which nobody touches. The pair (a, i0) occurs twice.
    sets = {"a": [0, 0, 1, 2], "b": [0, 2], "c": [3]}
    return CoOccurrence.from_training(_positives(sets), _catalogue(["en", "en", "ko", "ko", "th"]))


def test_items_and_languages_are_counted_by_users() -> None:
    found = _three_users()
    assert found.languages == ["en", "ko", "th"]
    expected = np.zeros((5, 5), int)
    for own, other, users in ((0, 1, 1), (0, 2, 2), (1, 2, 1)):
        expected[own, other] = expected[other, own] = users
    np.testing.assert_array_equal(found.items.toarray(), expected)
    # en-en: i0 with i1 and i1 with i0; en-ko: i0-i2 twice and i1-i2 once; Korean's i2, i3 never met.
    np.testing.assert_array_equal(found.counts, [[2, 3, 0], [3, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(found.affinities(), np.array([[0.4, 0.6, 0], [1, 0, 0], [0, 0, 0]]))


def test_ppmi_is_the_positive_logarithm_of_lift() -> None:
    weights = ppmi(sparse.csr_array(np.array([[2, 3], [3, 0]]))).toarray()
    # en-en: 2 * 8 / 25 < 1 gives 0; en-ko: 3 * 8 / 15.
    np.testing.assert_allclose(weights, [[0, math.log(1.6)], [math.log(1.6), 0]])
    assert ppmi(sparse.csr_array((3, 3), dtype=np.int64)).nnz == 0


def test_vectors_rebuild_a_positive_matrix_and_are_zero_beyond_its_rank() -> None:
    base = np.random.default_rng(0).normal(size=(7, 2))
    matrix = base @ base.T
    for dimension in (2, 4, 9):
        vectors = factorise(sparse.csr_array(matrix), dimension)
        assert vectors.shape == (7, dimension)
        np.testing.assert_allclose(vectors @ vectors.T, matrix, atol=1e-5)
        assert np.abs(vectors[:, 2:]).max(initial=0) < 1e-3
    assert not factorise(sparse.csr_array((4, 4)), 3).any()
    vectors = _three_users().language_vectors(2)
    assert not vectors[2].any(), "a language without pairs has no place"
    np.testing.assert_allclose(np.linalg.norm(vectors[:2], axis=1) ** 2, math.log(1.6))


def test_cold_items_have_zero_vectors() -> None:
    vectors = _three_users().item_vectors(3)
    assert np.abs(vectors[[0, 1, 2]]).sum(axis=1).min() > 0
    assert not vectors[[3, 4]].any()


def test_pairs_across_languages_choose_each_other() -> None:
    # i0 (en) and i2 (ko) share two users, i1 (en) and i3 (ko) two others; i4 (th) meets i0 once.
    sets = {"a": [0, 2], "b": [0, 2, 4], "c": [1, 3], "d": [1, 3]}
    found = CoOccurrence.from_training(_positives(sets), _catalogue(["en", "en", "ko", "ko", "th"]))
    assert found.cross_language_pairs(2).tolist() == [[0, 2], [1, 3]]
    assert found.cross_language_pairs(3).shape == (0, 2)


def test_procrustes_finds_the_rotation_between_two_spaces() -> None:
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    source = rng.normal(size=(40, 5))
    np.testing.assert_allclose(procrustes(source, source @ rotation), rotation, atol=1e-8)


def test_anchored_procrustes_leaves_unconstrained_directions_alone() -> None:
    # One pair in six dimensions turns the first axis to the second; the other four axes are not constrained.
    source, target = np.eye(6)[:1], np.eye(6)[1:2]
    found = anchored_procrustes(source, target, anchor=0.01)
    np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-8)
    np.testing.assert_allclose(source @ found, target, atol=0.02)
    np.testing.assert_allclose(found[2:, 2:], np.eye(4), atol=1e-8)
    np.testing.assert_allclose(anchored_procrustes(source, target, anchor=1e6), np.eye(6), atol=1e-5)


def test_the_plot_is_a_picture() -> None:
    found = _three_users()
    picture = imread(io.BytesIO(affinity_plot(found.languages, found.affinities(), found.counts)), format="png")
    assert picture.shape[0] > 200
    assert picture.shape[1] > 200
    assert len(np.unique(picture[..., 2].round(2))) > 5
