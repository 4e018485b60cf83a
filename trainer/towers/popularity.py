"""Item popularity as an additional component of the compared vectors.

In a softmax over items, log p(item) is the best score when nothing else is known. It is the last component of an
item's vector, matched by the query's weight for it, which starts at 1: the rest of the vectors then learns how a
request differs from the average one, for which few interactions suffice. An item not seen in training inherits its
neighbours' popularity (`trainer.towers.neighbours`) if they are known, else it counts as average.
"""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

# Added to every count, so that an item never chosen before can still be.
_PSEUDO_COUNT = 1.0


class ItemPopularity(tf.keras.layers.Layer):
    """Logarithm of an item's number of training positives, relative to the average item's.

    Args:
        size: Number of known items V; index 0 is "unknown".
    """

    def __init__(self, size: int, *, name: str) -> None:
        super().__init__(name=name)
        # Saved with the model, so that they need not be counted again.
        self.logs = self.add_weight(name="logs", shape=(size + 1,), initializer="zeros", trainable=False)

    def set_counts(self, counts: npt.NDArray[np.floating]) -> None:
        """Sets the number of training positives of each vocabulary index, [V + 1]; the first is ignored."""
        logs = np.log(np.asarray(counts, np.float64)[1:] + _PSEUDO_COUNT)
        self.logs.assign(np.concatenate([[0.0], logs - logs.mean()]) if logs.size else [0.0])

    def call(self, indices: tf.Tensor, neighbours: tf.Tensor) -> tf.Tensor:
        """Int32 [n] and neighbours' weights float32 [n, V] or [n, 0] -> float32 [n, 1]."""
        known = tf.gather(self.logs, indices)
        if neighbours.shape[-1]:
            known = tf.where(indices > 0, known, tf.linalg.matvec(neighbours, self.logs[1:]))
        return known[:, tf.newaxis]


class PopularityWeight(tf.keras.layers.Layer):
    """A request's weight of popularity: a factor times (1 + v . x), with v learned from a zero start.

    The factor is 1 in training and may be chosen after it (`trainer.training.factors`).
    """

    def __init__(self, *, name: str) -> None:
        super().__init__(name=name)
        self._weight = tf.keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones", name="weight")
        self.factor = self.add_weight(name="factor", shape=(), initializer="ones", trainable=False)

    def call(self, queries: tf.Tensor) -> tf.Tensor:
        """Float32 [B, D] -> float32 [B, 1]."""
        return self.factor * self._weight(queries)
