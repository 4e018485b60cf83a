"""Similarity of an item's content to the history's.

For an item not seen in training, the towers and the linear model only have a mean over similar items, and a mean
blurs: the sequel of a film just watched, or the next part of a story, is no longer the nearest one. So item vectors
also include the content itself, sentence vector and category labels, and the request's vector includes that of its
history.
"""

import tensorflow as tf

from trainer.data.item_table import ItemFeatures
from trainer.scorers.base import Scorer


class ContentSimilarity(Scorer):
    """Items: their content. Requests: a factor times the unit vector of the weighted sum over the history.

    Args:
        width: C, size of the content vectors.
        recency: An item with n newer ones has weight (1 + n)^-recency; 0: equal weights.
    """

    def __init__(self, width: int, recency: float, *, name: str) -> None:
        super().__init__(name=name)
        self.width = width
        self._recency = recency
        self.factor = self.add_weight(name="factor", shape=(), initializer="zeros", trainable=False)

    def items(self, features: ItemFeatures, ids: tf.Tensor) -> tf.Tensor:
        """See `Scorer.items`."""
        return features["content"]

    def queries(self, towers: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """See `Scorer.queries`; zero without history."""
        there = tf.cast(mask, tf.float32)
        newer = tf.cumsum(there, axis=1, exclusive=True)
        total = tf.einsum("bh,bhc->bc", there * (1.0 + newer) ** -self._recency, history)
        return self.factor * tf.math.l2_normalize(total, axis=1)
