"""Text queries by candidate lists: the answers of exact search, where the lists hold them."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from trainer.export.index import BruteForceIndex
from trainer.export.text_search import ExactTextRetrieval, IndexedTextRetrieval
from trainer.models.text_search import SearchFeatures, SearchWeights, TextQueries, TextSearch
from trainer.text.language_means import LanguageMeans
from trainer.text.lexical import LexicalIndex

_ITEMS, _WIDTH, _LABELS = 2_000, 16, 6
_COUNT = 20

# Rows -> which of them are allowed.
Keep = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]


def _unit(matrix: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = (matrix / np.linalg.norm(matrix, axis=-1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def search() -> TextSearch:
    rng = np.random.default_rng(0)
    features = SearchFeatures(
        # Short vectors: no query names an item by its meaning.
        text=(0.2 * _unit(rng.normal(size=(_ITEMS, _WIDTH)))).astype(np.float32),
        labels=_unit(rng.normal(size=(_LABELS, _WIDTH))),
        categories=rng.integers(-1, _LABELS, (_ITEMS, 1)).astype(np.int32),
        popularity=rng.normal(size=_ITEMS).astype(np.float32),
        lexical=LexicalIndex([f"model {number * 7919 % 99991:05d}" for number in range(_ITEMS)]),
        means=LanguageMeans([], np.zeros((1, _WIDTH), np.float32)),
        common=np.zeros(_WIDTH, np.float32),
        spread=(0.0, 1.0),
    )
    weights = SearchWeights(categories=1.0, lexical=0.8, popularity=0.01, towers=0.1)
    return TextSearch(features, weights, _WIDTH, tf.constant(rng.normal(size=(_ITEMS, 4)).astype(np.float32)))


@pytest.fixture(scope="module")
def indexed(search: TextSearch) -> IndexedTextRetrieval:
    index = BruteForceIndex(tf.Variable(search.index_vectors()))
    return IndexedTextRetrieval(search, index, exact_limit=1, least=200)


@pytest.fixture(scope="module")
def queries(search: TextSearch) -> TextQueries:
    sentences = _unit(np.random.default_rng(1).normal(size=(4, _WIDTH)))
    # The second names an item by its number alone.
    texts = ["", f"model {5 * 7919 % 99991:05d}", f"modle {9 * 7919 % 99991:05d}", "무엇이든"]
    return search.read(tf.constant(sentences), tf.constant(texts))


def _some(keep: Keep) -> Callable[[tf.Tensor], tf.Tensor]:
    mask = tf.constant(keep(np.arange(_ITEMS)))
    return lambda lines: tf.tile(mask[tf.newaxis], [tf.size(lines), 1])


@pytest.mark.parametrize(
    "keep",
    [
        lambda rows: rows >= 0,
        lambda rows: rows % 3 == 0,
        lambda rows: rows % 100 == 0,
        lambda rows: rows == 5,
        lambda rows: rows < 0,
    ],
    ids=["all", "a third", "few", "one", "none"],
)
def test_lists_bring_up_what_exact_search_answers(
    search: TextSearch, indexed: IndexedTextRetrieval, queries: TextQueries, keep: Keep
) -> None:
    allowed = _some(keep)
    rows, _ = ExactTextRetrieval(search).search(queries, tf.constant(_COUNT), allowed)
    found, fit = tf.function(lambda: indexed.search(queries, tf.constant(_COUNT), allowed))()
    every = search.scores(queries).numpy()
    for line, (own, exact) in enumerate(zip(found.numpy(), rows.numpy(), strict=True)):
        there = own >= 0
        assert there.sum() == (exact >= 0).sum()
        assert len(set(own[there])) == there.sum()
        np.testing.assert_allclose(fit.numpy()[line][there], every[line][own[there]], atol=1e-5)
        # No list holds what is middling in all respects.
        assert len(set(own[there]) & set(exact)) >= 0.8 * there.sum()
        np.testing.assert_array_equal(own[:5], exact[:5])


def test_a_number_is_found_by_its_letters(indexed: IndexedTextRetrieval, queries: TextQueries) -> None:
    found, _ = indexed.search(queries, tf.constant(1), _some(lambda rows: rows >= 0))
    assert found.numpy()[1, 0] == 5


def test_given_items_score_the_same_whoever_else_is_given(
    search: TextSearch, indexed: IndexedTextRetrieval, queries: TextQueries
) -> None:
    every = search.scores(queries).numpy()
    for given in ([[7], [5], [8], [0]], [[7, 3, 5], [1, 2, 3], [9, 8, 7], [5, 5, 5]]):
        rows = tf.constant(given, tf.int32)
        expected = np.take_along_axis(every, np.array(given), axis=1)
        for retrieval in (indexed, ExactTextRetrieval(search)):
            np.testing.assert_allclose(retrieval.scores_of(queries, rows).numpy(), expected, atol=1e-5)


def test_no_queries_have_no_answers(search: TextSearch, indexed: IndexedTextRetrieval) -> None:
    nothing = search.read(tf.zeros([0, _WIDTH]), tf.constant([], tf.string))
    nobody, none = tf.constant(3), tf.zeros([0, 2], tf.int32)
    for retrieval in (indexed, ExactTextRetrieval(search)):
        every = tf.function(retrieval.search)(nothing, nobody, _some(lambda rows: rows >= 0))
        assert [part.shape for part in every] == [(0, 3), (0, 3)]
        assert tf.function(retrieval.scores_of)(nothing, none).shape == (0, 2)
