"""The scores of text search against NumPy, and the bound on what the towers may change."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from trainer.models.settings import SearchConfig
from trainer.models.text_search import (
    SearchFeatures,
    SearchWeights,
    TextQueries,
    TextSearch,
    TowerMoments,
    TowerScale,
    default_weights,
    names_no_item,
    standard_popularity,
)
from trainer.text.language_means import LanguageMeans
from trainer.text.lexical import LexicalIndex

_ITEMS, _WIDTH, _LABELS = 40, 24, 5
_WEIGHTS = SearchWeights(categories=1.5, lexical=0.4, popularity=0.1, towers=0.2)

_Floats = npt.NDArray[np.float32]


def _unit(matrix: npt.NDArray[np.float64]) -> _Floats:
    unit: _Floats = (matrix / np.linalg.norm(matrix, axis=-1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def features() -> SearchFeatures:
    rng = np.random.default_rng(0)
    categories = rng.integers(-1, _LABELS, (_ITEMS, 3)).astype(np.int32)
    # No label twice in an item.
    for row in categories:
        for place in (1, 2):
            if row[place] in row[:place]:
                row[place] = -1
    return SearchFeatures(
        text=_unit(rng.normal(size=(_ITEMS, _WIDTH))) * rng.uniform(0.2, 1.0, (_ITEMS, 1)).astype(np.float32),
        labels=_unit(rng.normal(size=(_LABELS, _WIDTH))),
        categories=categories,
        popularity=rng.normal(size=_ITEMS).astype(np.float32),
        lexical=LexicalIndex([f"item {number} of kind {number % 7}" for number in range(_ITEMS)]),
        means=LanguageMeans([], np.zeros((1, _WIDTH), np.float32)),
        common=np.zeros(_WIDTH, np.float32),
        spread=(0.0, 1.0),
    )


@pytest.fixture(scope="module")
def towers() -> _Floats:
    return np.random.default_rng(1).normal(size=(_ITEMS, 6)).astype(np.float32)


def _search(features: SearchFeatures, towers: _Floats, weights: SearchWeights = _WEIGHTS) -> TextSearch:
    return TextSearch(features, weights, _WIDTH, tf.constant(towers))


def _queries(search: TextSearch) -> tuple[_Floats, list[str], TextQueries]:
    sentences = _unit(np.random.default_rng(2).normal(size=(4, _WIDTH)))
    texts = ["item 3 of kind 3", "kind 5", "", "무엇이든"]
    return sentences, texts, search.read(tf.constant(2.0 * sentences), tf.constant(texts))


def _expected(features: SearchFeatures, sentences: _Floats, texts: list[str]) -> _Floats:
    named = sentences @ features.text.T + 0.4 * features.lexical(tf.constant(texts)).numpy() ** 2
    described = np.zeros_like(named)
    for query, sentence in enumerate(sentences):
        share = min(1.0, max(0.0, (0.45 - named[query].max()) / 0.2))
        for item, labels in enumerate(features.categories):
            own = [label for label in labels if label >= 0]
            similar = sum(max(0.0, float(sentence @ features.labels[label])) for label in own)
            described[query, item] = share * similar / max(1, len(own)) ** 0.5
    fit: _Floats = named + 1.5 * described + 0.1 * features.popularity
    return fit


def test_the_fit_is_the_sum_of_its_parts(features: SearchFeatures, towers: _Floats) -> None:
    search = _search(features, towers)
    sentences, texts, queries = _queries(search)
    np.testing.assert_allclose(search.scores(queries).numpy(), _expected(features, sentences, texts), atol=1e-5)


def test_some_items_are_scored_as_among_all(features: SearchFeatures, towers: _Floats) -> None:
    search = _search(features, towers)
    _, _, queries = _queries(search)
    every = search.scores(queries).numpy()
    rows = np.argsort(-every, axis=1)[:, 5:9].astype(np.int32)
    lexical = search.lexical(queries.texts)
    meaning = tf.matmul(queries.vectors, search.vectors, transpose_b=True)
    best = tf.reduce_max(meaning + lexical, axis=1)
    found = search.scores_of(queries, tf.constant(rows), tf.gather(lexical, rows, batch_dims=1), best).numpy()
    np.testing.assert_allclose(found, np.take_along_axis(every, rows, axis=1), atol=1e-5)


def test_index_vectors_give_meaning_and_popularity(features: SearchFeatures, towers: _Floats) -> None:
    search = _search(features, towers)
    sentences, _, queries = _queries(search)
    products = tf.matmul(search.index_query(queries), search.index_vectors(), transpose_b=True).numpy()
    np.testing.assert_allclose(products, sentences @ features.text.T + 0.1 * features.popularity, atol=1e-5)


def test_fewer_directions_keep_the_most_of_the_products(features: SearchFeatures, towers: _Floats) -> None:
    projection = features.principal_directions(8)
    vectors = features.text @ projection
    assert vectors.shape == (_ITEMS, 8)
    _, _, directions = np.linalg.svd(features.text.astype(np.float64))
    kept = features.text @ directions[:8].T
    np.testing.assert_allclose(vectors @ projection.T, kept @ directions[:8], atol=1e-4)


def test_towers_are_counted_in_deviations_over_the_whole_catalogue(towers: _Floats) -> None:
    queries = np.random.default_rng(3).normal(size=(5, 6)).astype(np.float32)
    products = queries @ towers.T
    expected = (products - products.mean(axis=1, keepdims=True)) / products.std(axis=1, keepdims=True)
    found = TowerScale(TowerMoments.of(tf.constant(towers)))(tf.constant(queries), tf.constant(products))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    nothing = TowerScale(TowerMoments.of(tf.constant(towers)))(tf.zeros([1, 6]), tf.zeros([1, 3]))
    assert not nothing.numpy().any()


def test_towers_move_an_item_within_their_weight_and_in_their_order(features: SearchFeatures, towers: _Floats) -> None:
    search = _search(features, towers)
    fit = np.random.default_rng(4).normal(size=(2, 7)).astype(np.float32)
    queries = 100.0 * np.random.default_rng(5).normal(size=(2, 6)).astype(np.float32)
    candidates = towers[:14].reshape(2, 7, 6)
    moved = search.reorder(tf.constant(fit), tf.constant(queries), tf.constant(candidates)).numpy() - fit
    assert np.abs(moved).max() <= 0.2 + 1e-6
    products = np.einsum("bd,bcd->bc", queries, candidates)
    assert (np.argsort(moved, axis=1) == np.argsort(products, axis=1)).all()
    off = _search(features, towers, SearchWeights(1.0, 0.4, 0.1, 0.0))
    np.testing.assert_array_equal(off.reorder(tf.constant(fit), tf.constant(queries), tf.constant(candidates)), fit)


def test_parts_without_weight_do_not_count(features: SearchFeatures, towers: _Floats) -> None:
    search = _search(features, towers, SearchWeights(0.0, 0.0, 0.0, 0.0))
    sentences, _, queries = _queries(search)
    np.testing.assert_allclose(search.scores(queries).numpy(), sentences @ features.text.T, atol=1e-5)


def test_descriptions_fade_where_an_item_is_reported() -> None:
    np.testing.assert_allclose(names_no_item(tf.constant([0.0, 0.25, 0.35, 0.45, 0.9])), [1, 1, 0.5, 0, 0], atol=1e-6)


def test_popularity_is_standardised_over_the_items_that_anybody_chose() -> None:
    counts = np.array([0, 1, 10, 100, 0])
    logarithms = np.log([1, 10, 100])
    expected = (logarithms - logarithms.mean()) / logarithms.std()
    found = standard_popularity(counts)
    np.testing.assert_allclose(found, [0.0, *expected, 0.0], atol=1e-6)
    for alike in ([0, 0, 0], [0, 7, 7]):
        assert not standard_popularity(np.array(alike)).any()


def test_defaults_are_the_first_choices() -> None:
    config = SearchConfig(lexical_weights=[0.7, 0.1], tower_weights=[0.3])
    assert default_weights(config) == SearchWeights(
        categories=config.category_weights[0], lexical=0.7, popularity=config.popularity_weights[0], towers=0.3
    )
