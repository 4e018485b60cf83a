"""An encoder whose vectors are known by hand."""

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from trainer.text.settings import TextConfig


class _Letters(tf.Module):
    """How often a text has each of a to z."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        letters = tf.constant([chr(code) for code in range(ord("a"), ord("z") + 1)])
        there = tf.strings.unicode_split(texts, "UTF-8")[:, :, tf.newaxis] == letters
        return tf.reduce_sum(tf.cast(there, tf.float32), axis=1) + 1e-3


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextConfig:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    module: Any = _Letters()
    module.variables_, module.regularization_losses = [], []
    tf.saved_model.save(module, str(tmp_path / "letters"))
    return TextConfig(encoder=str(tmp_path / "letters"))
