"""A model whose signatures declare defaults for inputs, and its expected answers, computed without TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

PREFIX = "ค่าเริ่มต้น 🎬"


_ROWS = [
    tf.TensorSpec([None], tf.string, name="query"),
    tf.TensorSpec([None], tf.string, name="prefix"),
    tf.TensorSpec([None, None], tf.string, name="history"),
    tf.TensorSpec([None, 2], tf.float32, name="weights"),
    tf.TensorSpec([None], tf.int64, name="k"),
    tf.TensorSpec([None], tf.bool, name="flag"),
]
_SCALED = [
    tf.TensorSpec([None], tf.float32, name="x"),
    tf.TensorSpec([], tf.float32, name="factor"),
    tf.TensorSpec([None], tf.float32, name="table"),
]


def export_declared(directory: Path) -> Path:
    """Writes a SavedModel like TensorFlow 2.14 and later: argument defaults become the signature's.

    They have to be tensors, of a ``tf.function``; those of its concrete functions are lost. ``serving_default`` takes
    rows, of which all inputs but ``query`` may be left out; the defaults of ``scaled`` are not rows.
    """

    start, words, pair = tf.constant([PREFIX]), tf.constant([], tf.string, shape=[1, 0]), tf.constant([[0.5, 0.25]])
    twenty, yes, two, ones = tf.constant([20], tf.int64), tf.constant([True]), tf.constant(2.0), tf.constant([1.0, 2.0])

    def rows(
        query: Any, prefix: Any = start, history: Any = words, weights: Any = pair, k: Any = twenty, flag: Any = yes
    ) -> dict[str, Any]:
        text = tf.strings.join([prefix, tf.strings.reduce_join(history, -1, separator=","), query], "|")
        total = tf.cast(k, tf.float32) * weights[:, 0] + weights[:, 1]
        together = tf.fill(tf.shape(query), tf.size(query))
        return {"text": text, "total": tf.where(flag, total, -total), "together": together}

    def scaled(x: Any, factor: Any = two, table: Any = ones) -> dict[str, Any]:
        return {"y": x * factor + tf.reduce_sum(table)}

    signatures = {
        "serving_default": tf.function(rows, input_signature=_ROWS),
        "scaled": tf.function(scaled, input_signature=_SCALED),
    }
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures)
    return directory


def expected(inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The answer of ``serving_default`` to Python lists, of which any except ``query`` may be missing."""
    count = len(inputs["query"])
    prefix = inputs.get("prefix", [PREFIX] * count)
    history = inputs.get("history", [[]] * count)
    weights = inputs.get("weights", [[0.5, 0.25]] * count)
    k = inputs.get("k", [20] * count)
    flag = inputs.get("flag", [True] * count)
    text = [
        "|".join([start, ",".join(words), query])
        for start, words, query in zip(prefix, history, inputs["query"], strict=True)
    ]
    total = [(n * a + b) * (1 if yes else -1) for n, (a, b), yes in zip(k, weights, flag, strict=True)]
    return {"text": text, "total": total}
