"""Item popularity as a part of the score.

In a softmax over items, log p(item) is the best score when nothing else is known. It is the last component of an
item's vector, matched by the query's weight for it, which starts at 1: the rest of the vectors then learns how a
request differs from the average one, for which few interactions suffice. An item not seen in training inherits its
neighbours' popularity (`trainer.towers.neighbours`) if they are known, else it counts as average.
"""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.item_table import ItemFeatures
from trainer.scorers.base import Scorer, known_or_means

# Added to every count, so that an item never chosen before can still be.
_PSEUDO_COUNT = 1.0


class Popularity(Scorer):
    """Items: the logarithm of their training positives. Requests: a factor times (1 + v . x), v learned from zero.

    The logarithm is relative to the average item's. The factor is 1 in training.

    Args:
        size: Number of known items V; index 0 is "unknown".
    """

    width = 1
    in_training = True

    def __init__(self, size: int, *, name: str) -> None:
        super().__init__(name=name)
        # Saved with the model, so that they need not be counted again.
        self.logs = tf.Variable(tf.zeros([size + 1]), trainable=False, name="logs")
        self._weight = tf.keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones", name="weight")
        self.factor = tf.Variable(1.0, trainable=False, name="factor")

    def fit(self, counts: npt.NDArray[np.floating]) -> None:
        """Takes the number of training positives of each vocabulary index, [V + 1]; the first is ignored."""
        logs = np.log(np.asarray(counts, np.float64)[1:] + _PSEUDO_COUNT)
        self.logs.assign(np.concatenate([[0.0], logs - logs.mean()]) if logs.size else [0.0])

    def items(self, features: ItemFeatures, ids: tf.Tensor) -> tf.Tensor:
        """See `Scorer.items`."""
        return known_or_means(self.logs[:, tf.newaxis], features, ids)

    def queries(self, towers: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """See `Scorer.queries`."""
        return self.factor * self._weight(towers)
