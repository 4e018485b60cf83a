"""Neighbours' weights against loops over pairs, and how the tower uses them."""

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import tensorflow as tf

from tests.trainer.scorers.features import with_neighbours
from tests.trainer.tiny import tiny_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.neighbours import Neighbours
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.models.assembly import make_item_table, make_recommender
from trainer.models.settings import NeighboursConfig
from trainer.towers import nearby
from trainer.towers.content import Content
from trainer.towers.neighbours import NeighbourIds, crowding_of_known, nearest_known

_Floats = npt.NDArray[np.float32]


def _catalogue(size: int, seed: int, languages: list[str]) -> tuple[Catalogue, _Floats, _Floats]:
    random = np.random.default_rng(seed)
    labels = ["Drama", "코미디", "SF"]
    categories = np.full((size, 2), -1, np.int32)
    categories[:, 0] = random.integers(0, 3, size)
    categories[0] = -1
    years = random.integers(1960, 2000, size).astype(np.float32)
    years[1] = np.nan
    catalogue = Catalogue(
        item_ids=[f"{place:03d}" for place in range(size)],
        titles=["제목"] * size,
        texts=["제목"] * size,
        languages=[languages[place % len(languages)] for place in range(size)],
        category_labels=labels,
        categories=categories,
        numeric={"year": years},
        embeddings={},
    )
    vectors = random.normal(size=(size, 6)).astype(np.float32) + 0.5
    return catalogue, vectors, random.normal(size=(3, 6)).astype(np.float32)


def _cosine(first: _Floats, second: _Floats) -> float:
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / norms) if norms else 0.0


def _dense(found: Neighbours, known: int) -> _Floats:
    weights = np.zeros((len(found.items), known), np.float32)
    for row, (items, shares) in enumerate(zip(*found, strict=True)):
        weights[row, items] += shares
    return weights


def _expected(
    target: Content, source: Content, own: npt.NDArray[np.int32], config: NeighboursConfig
) -> npt.NDArray[np.float64]:
    size, known = len(target.text), len(source.text)
    similarity = np.full((size, known), -np.inf)
    for row in range(size):
        for column in range(known):
            if own[row] == column + 1:
                continue
            years = abs(float(target.year[row]) - float(source.year[column]))
            similarity[row, column] = _cosine(target.text[row], source.text[column])
            similarity[row, column] += config.category_weight * _cosine(
                target.categories[row], source.categories[column]
            )
            if not np.isnan(years):
                similarity[row, column] -= config.year_weight * min(years, config.year_limit)
    finite = np.isfinite(similarity)
    by_row = [np.mean(sorted(line[there])[-10:]) for line, there in zip(similarity, finite, strict=True)]
    by_column = [np.mean(sorted(line[there])[-10:]) for line, there in zip(similarity.T, finite.T, strict=True)]
    logits = (similarity - np.array(by_row)[:, None] / 2 - np.array(by_column) / 2) / config.temperature
    exponentials = np.exp(logits)
    shares: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def test_weights_are_a_softmax_over_content() -> None:
    config = NeighboursConfig(enabled=True, temperature=0.3, category_weight=0.4, year_weight=0.05, year_limit=4.0)
    target, source = (Content.of(*_catalogue(size, size, ["ko", "en"]), "year") for size in (9, 14))
    own = np.array([0, 3, 0, 14, 1, 0, 0, 0, 0])
    found = nearest_known(target, source, own, config)
    expected = _expected(target, source, own, config)
    np.testing.assert_allclose(_dense(found, 14), expected, atol=1e-5)
    assert (np.diff(found.weights, axis=1) <= 0.0).all()
    assert _dense(found, 14)[[1, 3, 4], [2, 13, 0]].tolist() == [0.0] * 3
    few = nearest_known(target, source, own, config.model_copy(update={"nearest": 3}))
    assert few.items.shape == few.weights.shape == (9, 3)
    best = np.sort(expected, axis=1)[:, -3:, np.newaxis]
    kept = np.where(expected >= best[:, 0], expected, 0.0)
    np.testing.assert_allclose(_dense(few, 14), kept / kept.sum(axis=1, keepdims=True), atol=1e-5)


def test_vectors_are_centred_by_language() -> None:
    catalogue, vectors, labels = _catalogue(40, 1, ["ko"])
    catalogue.languages[:] = ["ko"] * 20 + ["en"] * 20
    apart = vectors.copy()
    apart[:20] += np.array([3.0, -2.0, 0.0, 0.0, 0.0, 0.0], np.float32)
    content = Content.of(catalogue, apart, labels, "year")
    unit = apart / np.linalg.norm(apart, axis=1, keepdims=True)
    mean = (unit[:20].sum(axis=0) + 20 * unit.mean(axis=0)) / 40
    assert _cosine(content.text[5], unit[5] - mean) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(np.linalg.norm(content.text, axis=1), 1.0, rtol=1e-5)
    assert not content.categories[0].any()


def test_an_only_item_has_no_neighbour() -> None:
    content = Content.of(*_catalogue(3, 2, ["ko"]), "year")
    found = nearest_known(content.only(np.array([0])), content.only(np.array([0])), np.array([1]), NeighboursConfig())
    assert found.weights.tolist() == [[0.0]]


def test_a_large_catalogue_is_compared_by_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    # 40 stories, each told 15 times with small differences.
    random = np.random.default_rng(4)
    catalogue = _catalogue(600, 4, ["ko"])[0]
    story = np.arange(600) % 40
    vectors = random.normal(size=(40, 16))[story] + 0.1 * random.normal(size=(600, 16))
    content = Content.of(catalogue, vectors.astype(np.float32), random.normal(size=(3, 16)).astype(np.float32), "year")
    config = NeighboursConfig(nearest=10, category_weight=0.0, year_weight=0.0)
    own = np.arange(1, 601)
    exact, crowded = nearest_known(content, content, own, config), crowding_of_known(content, content, own, config)
    monkeypatch.setattr(nearby, "_ALL_PAIRS", 10)
    monkeypatch.setattr(nearby, "_NEAR_CLUSTERS", 4)
    monkeypatch.setattr(nearby, "_BLOCK", 2_000)
    found = nearest_known(content, content, own, config)
    np.testing.assert_allclose(crowding_of_known(content, content, own, config), crowded, atol=0.02)
    assert (story[found.items] == story[:, np.newaxis]).mean() > 0.97
    same = [np.isin(one, other).mean() for one, other in zip(found.items, exact.items, strict=True)]
    assert np.mean(same) > 0.95
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, rtol=1e-5)
    assert not (found.items == np.arange(600)[:, np.newaxis]).any()
    again = nearest_known(content, content, own, config)
    np.testing.assert_array_equal(found.items, again.items)


def test_pairs_cover_every_item_once(monkeypatch: pytest.MonkeyPatch) -> None:
    content = Content.of(*_catalogue(100, 5, ["ko", "en"]), "year")
    monkeypatch.setattr(nearby, "_BLOCK", 300)
    for limit in (10, 10_000):
        monkeypatch.setattr(nearby, "_ALL_PAIRS", limit)
        blocks = list(nearby.pairs_to_compare(content, content, NeighboursConfig(), least=2))
        assert len(blocks) > 10
        assert sorted(np.concatenate([rows for rows, _ in blocks])) == list(range(100))
        assert all((np.diff(columns) > 0).all() and len(columns) >= 32 for _, columns in blocks)


def test_unknown_and_hidden_ids_take_the_mean() -> None:
    layer = NeighbourIds(3, 2, dropout=1.0, name="ids")
    weights = with_neighbours([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    layer(tf.constant([0, 1]), weights)
    layer.table.assign([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0], [5.0, 8.0]])
    np.testing.assert_allclose(layer(tf.constant([0, 1]), weights), [[3.0, 5.0], [1.0, 2.0]])
    np.testing.assert_allclose(layer(tf.constant([0, 1]), weights, training=True), [[3.0, 5.0], [3.0, 4.0]])
    layer.factor.assign(2.0)
    np.testing.assert_allclose(layer(tf.constant([0, 1]), weights), [[6.0, 10.0], [1.0, 2.0]])


@pytest.mark.usefixtures("cache")
def test_another_catalogue_inherits_from_the_training_one(tiny: Dataset) -> None:
    config = tiny_config(
        tiny.path, model={"dimension": 8, "candidate": {"neighbours": {"enabled": True, "temperature": 0.001}}}
    )
    catalogue = Catalogue.from_dataset(tiny)
    parts = split(tiny, config.data)
    vocabulary = Vocabulary.from_training(tiny, catalogue, parts, config)
    items = make_item_table(config, catalogue, vocabulary)
    model = make_recommender(config, vocabulary, items)
    # The same items as unknown ones find themselves, and so their own vectors.
    unknown = make_item_table(config, catalogue, vocabulary, known_ids=False)
    nearest = unknown.neighbours.items[:, 0]
    texts = np.array(catalogue.texts)
    known = catalogue.rows(pl.Series("item_id", vocabulary.items))
    rows = np.flatnonzero(items.ids.numpy() > 0)
    assert rows.size
    assert (texts[known[nearest[rows]]] == texts[rows]).all()
    alone = rows[[list(catalogue.texts).count(text) == 1 for text in texts[rows]]]
    own, found = model.candidate_vectors(items).numpy(), model.candidate_vectors(unknown).numpy()
    np.testing.assert_allclose(found[alone], own[alone], atol=1e-3)
