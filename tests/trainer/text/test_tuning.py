"""Adapters, LoRA and last layers: the exact identity before training, small, and equal when merged for serving."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.text.conftest import SENTENCES
from trainer.config.loading import parse_config
from trainer.errors import BabelrecError
from trainer.text.encoder import trunk_handle
from trainer.text.muse import Muse
from trainer.text.settings import TextConfig
from trainer.text.tuning import MuseHead, parameter_counts, serving_encoder, text_features, trained_part
from trainer.text.vectors import Vectors
from trainer.text.weights import MuseWeights

PARTIAL = ("adapters", "lora", "last")


def _text(mode: str, **settings: object) -> TextConfig:
    return parse_config({"text": {"tuning": {"mode": mode, **settings}}}, "test").text


@pytest.fixture(scope="module")
def pooled(cache: Path) -> Vectors:
    features = text_features(SENTENCES, _text("lora"))
    assert features is not None
    return features


def _move(part: tf.keras.layers.Layer, seed: int = 3) -> None:
    rng = np.random.default_rng(seed)
    for weight in part.trainable_weights:
        weight.assign_add(rng.normal(scale=0.05, size=weight.shape).astype(np.float32))


def test_before_training_every_mode_gives_the_frozen_vectors(pooled: Vectors, google_muse: Muse) -> None:
    part = trained_part(_text("last", layers=4))
    assert isinstance(part, MuseHead)
    frozen = part(tf.constant(pooled)).numpy()
    np.testing.assert_allclose(frozen, google_muse(tf.constant(SENTENCES)).numpy(), atol=2e-6)
    for mode in ("adapters", "lora"):
        tuned = trained_part(_text(mode))
        assert tuned is not None
        np.testing.assert_array_equal(tuned(tf.constant(pooled)).numpy(), frozen)


def test_the_head_is_the_network_of_the_documentation(pooled: Vectors, weights: MuseWeights) -> None:
    """By hand in NumPy, LoRA's update as W + alpha / r A B."""
    part = trained_part(_text("lora", rank=2, alpha=3.0))
    assert isinstance(part, MuseHead)
    part(tf.constant(pooled))
    _move(part)
    factors = {weight.name.split("/")[-1].split(":")[0]: weight.numpy() for weight in part.trainable_weights}
    kernel = {
        name: weights.dense[name] + 3.0 / 2 * factors[f"{name}_a"] @ factors[f"{name}_b"]
        for name in ("d0", "d1", "d2", "d3", "p1", "p3")
    }
    hidden = np.maximum(pooled @ kernel["d0"], 0)
    first = np.maximum(pooled @ kernel["p1"] + hidden @ kernel["d1"], 0)
    last = np.tanh(first @ kernel["p3"] + np.maximum(first @ kernel["d2"], 0) @ kernel["d3"])
    expected = last / np.linalg.norm(last, axis=1, keepdims=True)
    np.testing.assert_allclose(part(tf.constant(pooled)).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "settings", "trained"),
    [
        # Three bottlenecks after 512, 320 and 512 values: two kernels and two biases each.
        ("adapters", {"bottleneck": 16}, 2 * 16 * (512 + 320 + 512) + (512 + 320 + 512) + 3 * 16),
        # Six kernels: 512x320 twice, 320x320, 320x512 twice, 512x512.
        ("lora", {"rank": 4}, 4 * (2 * (512 + 320) + 2 * 320 + 2 * (320 + 512) + 2 * 512)),
        ("last", {"layers": 1}, 320 * 512 + 512 * 512),
        ("last", {"layers": 2}, 2 * 320 * 512 + 512 * 512),
    ],
)
def test_trained_parameters(mode: str, settings: dict[str, int], trained: int, weights: MuseWeights) -> None:
    text = _text(mode, **settings)
    part = trained_part(text)
    assert part is not None
    part(tf.zeros([1, 512]))
    counts = parameter_counts(part, text)
    everything = weights.codes.size + sum(array.size for array in weights.dense.values())
    assert counts == {"total": everything, "trained": trained, "share": trained / everything}
    assert counts["share"] < 0.05


def test_frozen_trains_nothing() -> None:
    text = _text("frozen")
    assert trained_part(text) is None
    assert parameter_counts(None, text)["trained"] == 0


@pytest.mark.parametrize("mode", PARTIAL)
def test_gradients_reach_what_is_trained_and_nothing_else(mode: str, pooled: Vectors) -> None:
    part = trained_part(_text(mode))
    assert part is not None
    part(tf.constant(pooled))
    _move(part)
    before = {id(weight): weight.numpy() for weight in part.weights}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(part(tf.constant(pooled))[:, 0])
    gradients = tape.gradient(loss, part.trainable_weights)
    assert all(gradient is not None and float(tf.norm(gradient)) > 0 for gradient in gradients)
    tf.keras.optimizers.SGD(0.1).apply_gradients(zip(gradients, part.trainable_weights, strict=True))
    moved = [weight for weight in part.weights if not np.array_equal(before[id(weight)], weight.numpy())]
    assert {id(weight) for weight in moved} == {id(weight) for weight in part.trainable_weights}


@pytest.mark.parametrize("mode", PARTIAL)
def test_the_served_encoder_reads_strings_as_the_trained_part_reads_features(mode: str, pooled: Vectors) -> None:
    text = _text(mode)
    part = trained_part(text)
    assert isinstance(part, MuseHead)
    wanted = part(tf.constant(pooled)).numpy()
    _move(part)
    moved = part(tf.constant(pooled)).numpy()
    assert np.abs(moved - wanted).max() > 1e-3
    served = serving_encoder(text, part, table="quantized")
    np.testing.assert_allclose(served(tf.constant(SENTENCES)).numpy(), moved, atol=1e-5)


def test_merging_lora_leaves_no_factors(pooled: Vectors) -> None:
    part = trained_part(_text("lora"))
    assert isinstance(part, MuseHead)
    part(tf.constant(pooled))
    _move(part)
    merged = part.merged()
    np.testing.assert_allclose(merged(tf.constant(pooled)).numpy(), part(tf.constant(pooled)).numpy(), atol=1e-5)
    assert len(merged.weights) == 6
    assert not merged.trainable_weights


def test_another_encoder_takes_adapters_behind_its_vectors(toy_encoder: str) -> None:
    text = TextConfig(encoder=toy_encoder, tuning=_text("adapters", bottleneck=2).tuning)
    assert trunk_handle(text) == toy_encoder
    features = text_features(["one", "두"], text)
    part = trained_part(text)
    assert part is not None
    np.testing.assert_array_equal(part(tf.constant(features)).numpy(), features)
    # 3 -> 2 -> 3 with biases, after the toy's single weight.
    assert parameter_counts(part, text) == {"total": 1, "trained": 3 * 2 + 2 + 2 * 3 + 3, "share": 17.0}


@pytest.mark.parametrize("mode", ["lora", "last"])
def test_layers_inside_another_encoder_are_not_known(mode: str, toy_encoder: str) -> None:
    text = TextConfig(encoder=toy_encoder, tuning=_text(mode).tuning)
    with pytest.raises(BabelrecError, match="Remedy: `adapters` or `full`"):
        trained_part(text)


@pytest.mark.parametrize(("trainable", "mode"), [(True, "full"), (False, "frozen")])
def test_the_setting_of_earlier_versions_is_read(trainable: bool, mode: str) -> None:
    assert parse_config({"text": {"trainable": trainable}}, "old").text.tuning.mode == mode
