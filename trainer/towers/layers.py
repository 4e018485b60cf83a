"""Building blocks of both towers."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer.towers.pooling import weighted_sums


class IdEmbedding(tf.keras.layers.Layer):
    """Embedding of vocabulary indices in which index 0 ("unknown") is the zero vector.

    Args:
        size: Number of known values V; indices run from 0 to V.
        dimension: D.
        dropout: Share of the ids that are treated as unknown in training. It teaches the layers
            above it to work without the id, as they must for values that appear after training.
        start_at_zero: For features that training may never see, so that untrained values add nothing.
    """

    def __init__(self, size: int, dimension: int, *, dropout: float, name: str, start_at_zero: bool = False) -> None:
        super().__init__(name=name)
        self._start_at_zero = start_at_zero
        self._size = size
        self._dimension = dimension
        self._dropout = dropout

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the table."""
        self.table = self.add_weight(
            name="embeddings",
            shape=(self._size + 1, self._dimension),
            initializer="zeros"
            if self._start_at_zero
            else tf.keras.initializers.RandomNormal(stddev=0.5 / np.sqrt(self._dimension)),
        )
        super().build(input_shape)

    def call(self, indices: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Integer indices [...] -> float32 [..., dimension]."""
        known = indices > 0
        if training and self._dropout > 0.0:
            known &= tf.random.uniform(tf.shape(indices)) >= self._dropout
        return tf.gather(self.table, indices) * tf.cast(known, tf.float32)[..., tf.newaxis]


class Adapter(tf.keras.layers.Layer):
    """A small residual network: x + W2 gelu(W1 x + b1) + b2, both sizes [n, dimension]."""

    def __init__(self, dimension: int, *, start_as_identity: bool = False, name: str) -> None:
        super().__init__(name=name)
        self._hidden = tf.keras.layers.Dense(2 * dimension, activation="gelu", name="hidden")
        self._out = tf.keras.layers.Dense(
            dimension, kernel_initializer="zeros" if start_as_identity else "glorot_uniform", name="out"
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Float32 [n, dimension] -> float32 [n, dimension]."""
        return inputs + self._out(self._hidden(inputs))


class PiecewiseLinearEncoding(tf.keras.layers.Layer):
    """Numbers to vectors by quantile bins (Gorishniy et al., 2022, arXiv 2203.05556, eq. 1).

    Bin ``b`` of a value is 0 left of it, 1 right of it and rises linearly inside. A missing value
    (NaN) is the zero vector.

    Args:
        edges: Increasing bin edges of each of the F columns.
        dimension: Size of the output.
    """

    def __init__(self, edges: Sequence[Sequence[float]], dimension: int, *, name: str) -> None:
        super().__init__(name=name)
        self._edges = [np.asarray(column, np.float32) for column in edges]
        self._dense = tf.keras.layers.Dense(dimension, use_bias=False, name="projection")

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Float32 [n, F] with NaN for missing -> float32 [n, dimension]."""
        encoded = []
        for column, edges in enumerate(self._edges):
            value = values[:, column, tf.newaxis]
            known = tf.math.is_finite(value)
            share = (tf.where(known, value, 0.0) - edges[:-1]) / (edges[1:] - edges[:-1])
            # The presence of a value is a feature itself.
            bins = tf.concat([tf.clip_by_value(share, 0.0, 1.0), tf.ones_like(value)], axis=1)
            encoded.append(tf.where(known, bins, 0.0))
        return self._dense(tf.concat(encoded, axis=1))


class HistoryAttention(tf.keras.layers.Layer):
    """Weighted mean of the history's item vectors; with weights learned from item and recency.

    weight_j = softmax_j(v . tanh(W x_j) - s log(1 + j)), with j = 0 the newest item and s >= 0
    learned: additive attention (Bahdanau et al., 2015, arXiv 1409.0473) without a query, times a
    power law of recency. An empty history is the zero vector.
    """

    def __init__(self, dimension: int, *, name: str) -> None:
        super().__init__(name=name)
        self._hidden = tf.keras.layers.Dense(dimension, activation="tanh", name="hidden")
        self._score = tf.keras.layers.Dense(1, use_bias=False, name="score")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the recency exponent."""
        self._recency = self.add_weight(
            name="recency", shape=(), initializer="zeros", constraint=tf.keras.constraints.NonNeg()
        )
        super().build(input_shape)

    def call(self, items: tf.Tensor, mask: tf.Tensor, positions: tf.Tensor | None = None) -> tf.Tensor:
        """Weighted means of B histories, float32 [B, D].

        Args:
            items: Float32 [B, H, D], vectors of the histories' items, newest first; with ``positions``, of any items.
            mask: Bool [B, H], which of them are present.
            positions: Int32 [B, H], where each history's items are in ``items``, which is then [n, D]: what depends on
                an item alone is computed once for all histories.
        """
        logits = tf.squeeze(self._score(self._hidden(items)), axis=-1)
        if positions is not None:
            logits = tf.gather(logits, positions)
        # Age is counted over the present items, so padding and dropout don't shift it.
        age = tf.cumsum(tf.cast(mask, tf.float32), axis=1, exclusive=True)
        logits -= self._recency * tf.math.log1p(age)
        weights = tf.nn.softmax(tf.where(mask, logits, -1e9), axis=1) * tf.cast(mask, tf.float32)
        if positions is not None:
            return weighted_sums(items, positions, weights, mask)
        return tf.einsum("bh,bhd->bd", weights, items)


class TimeFeatures(tf.keras.layers.Layer):
    """Encodes unix seconds as hour of day, day of week and time of year on circles (UTC)."""

    _PERIODS = (86_400.0, 604_800.0, 31_556_952.0)

    def call(self, timestamps: tf.Tensor) -> tf.Tensor:
        """Int64 [B] -> float32 [B, 6]."""
        parts = []
        for period in self._PERIODS:
            # The remainder is computed in integers: float32 is too imprecise for unix seconds.
            phase = tf.cast(tf.math.floormod(timestamps, tf.constant(int(period), tf.int64)), tf.float32)
            angle = phase * (2.0 * np.pi / period)
            parts += [tf.sin(angle), tf.cos(angle)]
        return tf.stack(parts, axis=1)
