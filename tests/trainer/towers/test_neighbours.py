"""Neighbours' weights against loops over pairs, and how the tower uses them."""

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.models.assembly import make_item_table, make_recommender
from trainer.models.settings import NeighboursConfig
from trainer.towers import neighbours
from trainer.towers.neighbours import Content, NeighbourIds, neighbour_weights

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
    found = neighbour_weights(target, source, own, config)
    np.testing.assert_allclose(found, _expected(target, source, own, config), atol=1e-5)
    assert found[1, 2] == found[3, 13] == found[4, 0] == 0.0


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
    found = neighbour_weights(
        content.only(np.array([0])), content.only(np.array([0])), np.array([1]), NeighboursConfig()
    )
    assert found.tolist() == [[0.0]]


def test_too_many_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_LARGEST", 10)
    content = Content.of(*_catalogue(4, 3, ["ko"]), "year")
    with pytest.raises(BabelrecError, match=r"4 x 4 weights.*neighbours\.enabled=false"):
        neighbour_weights(content, content, np.zeros(4, int), NeighboursConfig())


def test_unknown_and_hidden_ids_take_the_mean() -> None:
    layer = NeighbourIds(3, 2, dropout=1.0, name="ids")
    weights = tf.constant([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
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
    nearest = np.argmax(unknown.neighbours, axis=1)
    texts = np.array(catalogue.texts)
    known = catalogue.rows(pl.Series("item_id", vocabulary.items))
    rows = np.flatnonzero(items.ids.numpy() > 0)
    assert rows.size
    assert (texts[known[nearest[rows]]] == texts[rows]).all()
    alone = rows[[list(catalogue.texts).count(text) == 1 for text in texts[rows]]]
    own, found = model.candidate_vectors(items).numpy(), model.candidate_vectors(unknown).numpy()
    np.testing.assert_allclose(found[alone], own[alone], atol=1e-3)
