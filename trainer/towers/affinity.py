"""Language co-occurrence as an item feature."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf


class LanguageAffinity(tf.keras.layers.Layer):
    """Fixed vectors of L languages through a linear layer: int32 [n] -> float32 [n, dimension].

    Languages that the same users consume have vectors near each other, so what is learned for one
    carries over to its neighbours; independently learned vectors can't do that. The vectors are part
    of the model's weights, since a served model has no co-occurrence counts.

    Args:
        size: L; index 0 is an unknown language, whose vector is zero.
        width: Size of the fixed vectors.
        dimension: Size of the output.
    """

    def __init__(self, size: int, width: int, dimension: int, *, name: str) -> None:
        super().__init__(name=name)
        self.table = self.add_weight(name="table", shape=(size + 1, width), initializer="zeros", trainable=False)
        self._dense = tf.keras.layers.Dense(dimension, use_bias=False, name="projection")

    def set_vectors(self, vectors: npt.NDArray[np.floating]) -> None:
        """Takes float [L, width], scaled so that the longest has length 1."""
        longest = max(float(np.linalg.norm(vectors, axis=1).max(initial=0.0)), 1e-12)
        self.table.assign(np.concatenate([np.zeros((1, vectors.shape[1])), vectors / longest]))

    def call(self, languages: tf.Tensor) -> tf.Tensor:
        """Vectors of the languages."""
        return self._dense(tf.gather(self.table, languages))
