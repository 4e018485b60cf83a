"""Building blocks against independent NumPy code."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.towers.layers import HistoryAttention, IdEmbedding, PiecewiseLinearEncoding, TimeFeatures
from trainer.towers.pooling import weighted_sums


def test_unknown_ids_are_zero_and_dropout_hides_about_its_share() -> None:
    layer = IdEmbedding(5, 4, dropout=0.3, name="ids")
    vectors = layer(tf.constant([0, 1, 5])).numpy()
    assert (vectors[0] == 0).all()
    assert (np.abs(vectors[1:]).sum(axis=1) > 0).all()
    hidden = (layer(tf.ones([4000], tf.int32), training=True).numpy() == 0).all(axis=1).mean()
    assert 0.27 < hidden < 0.33


def test_piecewise_linear_encoding_follows_the_paper() -> None:
    layer = PiecewiseLinearEncoding([[0.0, 1.0, 3.0]], 3, name="numbers")
    values = np.array([[-1.0], [0.5], [2.0], [9.0], [np.nan]], np.float32)
    projected = layer(tf.constant(values)).numpy()
    # Bins [0, 1) and [1, 3), then "there is a value": Gorishniy et al. 2022, eq. 1, by hand.
    encoded = np.array([[0, 0, 1], [0.5, 0, 1], [1, 0.5, 1], [1, 1, 1], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(projected, encoded @ layer.weights[0].numpy(), rtol=1e-5)


def test_attention_is_a_softmax_over_the_items_that_are_there() -> None:
    rng = np.random.default_rng(0)
    layer = HistoryAttention(4, name="attention")
    items = rng.normal(size=(2, 3, 4)).astype(np.float32)
    mask = np.array([[True, False, True], [False, False, False]])
    layer(tf.constant(items), mask=tf.constant(mask))
    named = {weight.name.split(":")[0].rsplit("attention/", 1)[-1]: weight for weight in layer.weights}
    named["recency"].assign(0.7)
    pooled = layer(tf.constant(items), mask=tf.constant(mask)).numpy()
    hidden = np.tanh(items[0] @ named["hidden/kernel"].numpy() + named["hidden/bias"].numpy())
    logits = (hidden @ named["score/kernel"].numpy())[:, 0]
    # The item at position 2 is the second newest, because the one at position 1 is absent.
    present = np.array([logits[0], logits[2] - 0.7 * np.log(2.0)])
    weights = np.exp(present) / np.exp(present).sum()
    np.testing.assert_allclose(pooled[0], weights @ items[0][[0, 2]], rtol=1e-4)
    assert (pooled[1] == 0).all()


def test_attention_over_shared_items_is_that_over_each_historys_own() -> None:
    """Values and gradients are the same, whether items are gathered before or looked up by the layer."""
    rng = np.random.default_rng(1)
    layer = HistoryAttention(4, name="attention")
    items = tf.constant(rng.normal(size=(6, 4)), tf.float32)
    positions = tf.constant(rng.integers(0, 5, (3, 7)), tf.int32)
    mask = tf.constant(np.arange(7) < np.array([[7], [3], [0]]))
    layer(tf.gather(items, positions), mask=mask)
    next(weight for weight in layer.weights if "recency" in weight.name).assign(0.4)
    results = []
    for shared in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(items)
            if shared:
                pooled = layer(items, mask=mask, positions=positions)
            else:
                pooled = layer(tf.gather(items, positions), mask=mask)
            loss = tf.reduce_sum(pooled**3)
        results.append([pooled, *map(tf.convert_to_tensor, tape.gradient(loss, [items, *layer.trainable_weights]))])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-4, atol=1e-6)


def test_weighted_sums_and_their_gradients_by_hand() -> None:
    vectors = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    positions = np.array([[0, 2, 2], [1, 0, 0]])
    weights = np.array([[0.5, 2.0, 3.0], [4.0, 7.0, 7.0]], np.float32)
    mask = np.array([[True, True, True], [True, False, False]])
    given, heavy = tf.constant(vectors), tf.constant(weights)
    with tf.GradientTape() as tape:
        tape.watch([given, heavy])
        sums = weighted_sums(given, tf.constant(positions), heavy, tf.constant(mask))
        loss = tf.reduce_sum(sums * [[1.0, 0.0], [0.0, 10.0]])
    of_vectors, of_weights = map(tf.convert_to_tensor, tape.gradient(loss, [given, heavy]))
    np.testing.assert_allclose(sums, [[0.5 * 1 + 5 * 5, 0.5 * 2 + 5 * 6], [12.0, 16.0]])
    np.testing.assert_allclose(of_vectors, [[0.5, 0.0], [0.0, 40.0], [5.0, 0.0]])
    np.testing.assert_allclose(of_weights, [[1.0, 5.0, 5.0], [40.0, 0.0, 0.0]])


@pytest.mark.parametrize(("timestamp", "hour", "weekday"), [(0, 0, 0), (1_700_000_000, 22.2222222, 5)])
def test_time_of_day_and_week_as_angles(timestamp: int, hour: float, weekday: int) -> None:
    # 1970-01-01 was a Thursday (day 0 here); 2023-11-14 22:13:20 UTC a Tuesday, five days later in its week.
    features = TimeFeatures()(tf.constant([timestamp], tf.int64)).numpy()[0]
    day = 2 * np.pi * hour / 24
    week = 2 * np.pi * (weekday + hour / 24) / 7
    np.testing.assert_allclose(features[:4], [np.sin(day), np.cos(day), np.sin(week), np.cos(week)], atol=1e-4)
