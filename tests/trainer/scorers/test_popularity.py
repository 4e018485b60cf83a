"""Popularity as the last vector component: its values, items without any, and saved models."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.scorers.features import with_neighbours
from tests.trainer.tiny import tiny_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.models.assembly import make_item_table, make_recommender
from trainer.scorers.popularity import Popularity


def test_logs_are_relative_to_the_average_item() -> None:
    layer = Popularity(3, name="popularity")
    layer.fit(np.array([50.0, 0.0, 3.0, 7.0]))
    logs = np.log([1.0, 4.0, 8.0])
    expected = [0.0, *(logs - logs.mean())]
    found = layer.items(with_neighbours(np.zeros((4, 0))), tf.constant([0, 1, 2, 3]))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_an_unknown_item_inherits_from_its_neighbours() -> None:
    layer = Popularity(2, name="popularity")
    layer.fit(np.array([0.0, 1.0, 99.0]))
    found = layer.items(with_neighbours([[0.25, 0.75], [1.0, 0.0]]), tf.constant([0, 2]))
    logs = np.log([2.0, 100.0]) - np.log([2.0, 100.0]).mean()
    np.testing.assert_allclose(found[:, 0], [0.25 * logs[0] + 0.75 * logs[1], logs[1]], rtol=1e-5)


def test_a_request_starts_with_weight_one() -> None:
    layer = Popularity(2, name="popularity")
    history, mask = tf.random.normal([4, 5, 1]), tf.ones([4, 5], tf.bool)
    np.testing.assert_array_equal(layer.queries(tf.random.normal([4, 3]), history, mask), np.ones((4, 1)))
    layer.factor.assign(0.25)
    np.testing.assert_array_equal(layer.queries(tf.random.normal([4, 3]), history, mask), np.full((4, 1), 0.25))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_score_is_dot_product_plus_popularity(tiny: Dataset, tmp_path: Path, similarity: str) -> None:
    config = tiny_config(
        tiny.path,
        model={"dimension": 8, "candidate": {"popularity": True}, "retrieval": {"similarity": similarity}},
    )
    catalogue = Catalogue.from_dataset(tiny)
    parts = split(tiny, config.data)
    vocabulary = Vocabulary.from_training(tiny, catalogue, parts, config)
    items = make_item_table(config, catalogue, vocabulary)
    counts = np.bincount(catalogue.rows(parts.train["item_id"]), minlength=len(catalogue)).astype(np.float32)
    model = make_recommender(config, vocabulary, items, counts)
    vectors = model.candidate_vectors(items).numpy()
    assert vectors.shape == (len(catalogue), 9)
    known = items.ids.numpy() > 0
    logs = np.log(counts + 1.0)
    np.testing.assert_allclose(vectors[known, -1], (logs - logs[known].mean())[known], atol=1e-5)
    history = tf.constant([[0, 1, -1], [2, -1, -1]])
    batch = {
        "user": tf.zeros([2], tf.int32),
        "features": {name: tf.zeros([2], tf.int32) for name in ("language", "country")},
        "history": history,
        "item": tf.zeros([2], tf.int32),
        "timestamp": tf.zeros([2], tf.int64),
        "text": tf.constant([-1, -1]),
        "labels": tf.zeros([2, len(model.heads)]),
    }
    queries = model.query_vectors(batch, items, vectors).numpy()  # type: ignore[arg-type]
    np.testing.assert_array_equal(queries[:, -1], 1.0)
    # An item's representation in a history does not depend on its popularity.
    flat = np.concatenate([vectors[:, :-1], np.zeros_like(vectors[:, -1:])], axis=1)
    np.testing.assert_array_equal(model.query_vectors(batch, items, flat).numpy(), queries)  # type: ignore[arg-type]
    model.save_weights(str(tmp_path / "weights"))
    again = make_recommender(config, vocabulary, items)
    again.load_weights(str(tmp_path / "weights")).expect_partial()
    np.testing.assert_allclose(again.candidate_vectors(items), vectors, atol=1e-6)
