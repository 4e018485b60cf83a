"""The conversion layer against NumPy, one row at a time."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.errors import BabelrecError
from trainer.text.conversion import LanguageConversion

_LANGUAGES = ["en", "ko", "zh"]


def _layer(bottleneck: int = 3, width: int = 6) -> LanguageConversion:
    layer = LanguageConversion(_LANGUAGES, bottleneck, pivot="en")
    layer(tf.zeros([1, width]), tf.constant([0]))
    return layer


def _randomise(layer: LanguageConversion) -> None:
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))


def test_it_starts_as_the_exact_identity_and_can_leave_it() -> None:
    layer = _layer()
    vectors = tf.constant(np.random.default_rng(1).normal(size=(4, 6)), tf.float32)
    source = tf.constant([2, 3, 1, 0])
    with tf.GradientTape() as tape:
        converted = layer(vectors, source)
        loss = tf.reduce_sum(converted)
    np.testing.assert_array_equal(converted, vectors)
    assert np.abs(tape.gradient(loss, layer.up)[1]).sum() > 0


def test_a_batch_of_mixed_languages_follows_the_formula() -> None:
    layer = _layer()
    _randomise(layer)
    vectors = np.random.default_rng(2).normal(size=(6, 6)).astype(np.float32)
    source, target = [2, 3, 1, 0, 2, 3], [1, 2, 1, 1, 0, 1]
    down, up, own, other = (w.numpy() for w in (layer.down, layer.up, layer.source_bias, layer.target_bias))
    expected = vectors.copy()
    for row in (0, 1, 5):  # en -> en, unknown -> en and ko -> unknown are unchanged
        s, t = source[row], target[row]
        inner = np.tanh([vectors[row] @ down[:, s, r] + own[s, r] + other[t, r] for r in range(3)])
        expected[row] += sum(inner[r] * up[t, r] for r in range(3))
    converted = layer(tf.constant(vectors), tf.constant(source), tf.constant(target))
    np.testing.assert_allclose(converted, expected, rtol=1e-4, atol=1e-5)
    pivoted = layer(tf.constant(vectors), tf.constant(source)).numpy()
    np.testing.assert_allclose(pivoted[[0, 5]], expected[[0, 5]], rtol=1e-4, atol=1e-5)


def test_a_rotation_within_the_bottleneck_is_taken_over() -> None:
    layer = _layer(bottleneck=2)
    angle = 0.4
    rotation = np.eye(6)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    layer.set_linear_maps({("ko", "en"): rotation})
    vectors = np.random.default_rng(3).normal(size=(20, 6))
    # Short, and so in tanh's linear range in any direction.
    vectors /= 20 * np.linalg.norm(vectors, axis=1, keepdims=True)
    given = tf.constant(vectors, tf.float32)
    np.testing.assert_allclose(layer(given, tf.fill([20], 2)), vectors @ rotation, atol=1e-5)
    np.testing.assert_array_equal(layer(given, tf.fill([20], 3)), given)  # no map for Chinese


def test_a_map_beyond_the_bottleneck_is_cut_to_its_best_approximation() -> None:
    layer = _layer(bottleneck=1)
    residual = np.diag([0.5, 0.2, 0, 0, 0, 0])
    layer.set_linear_maps({("ko", "en"): np.eye(6) + residual})
    vectors = tf.constant(np.eye(6) / 20, tf.float32)
    np.testing.assert_allclose(
        layer(vectors, tf.fill([6], 2)), (np.eye(6) + np.diag([0.5, 0, 0, 0, 0, 0])) / 20, atol=1e-5
    )
    with pytest.raises(ValueError, match="de"):
        layer.set_linear_maps({("de", "en"): np.eye(6)})


def test_weights_travel_by_language_and_not_by_index() -> None:
    source = _layer()
    _randomise(source)
    target = LanguageConversion(["de", "ko", "en"], 3, pivot="en")
    target(tf.zeros([1, 6]), tf.constant([0]))
    assert target.copy_from(source) == 2
    vectors = tf.constant(np.random.default_rng(4).normal(size=(3, 6)), tf.float32)
    np.testing.assert_allclose(target(vectors, tf.fill([3], 2)), source(vectors, tf.fill([3], 2)), rtol=1e-5)
    wider = LanguageConversion(_LANGUAGES, 5, pivot="en")
    wider(tf.zeros([1, 6]), tf.constant([0]))
    assert wider.copy_from(source) == 0


def test_a_pivot_that_no_text_has_is_refused_by_name() -> None:
    with pytest.raises(BabelrecError, match=r"'fr'.*en, ko, zh"):
        LanguageConversion(_LANGUAGES, 3, pivot="fr")
