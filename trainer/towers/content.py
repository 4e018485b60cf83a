"""Similarity of an item's content to the history's, in addition to the towers, in the same vectors.

For an item not seen in training, the towers and the linear model only have a mean over similar items, and a mean
blurs: the sequel of a film just watched, or the next part of a story, is no longer the nearest one. So item vectors
also include the content itself, sentence vector and category labels, and the request's vector includes that of its
history: their dot product is added to the towers' (late fusion).
"""

import tensorflow as tf


class ContentHistory(tf.keras.layers.Layer):
    """Content vector of a history: a factor times the unit vector of its items' weighted sum.

    Args:
        recency: An item with n newer ones has weight (1 + n)^-recency; 0: equal weights.
    """

    def __init__(self, recency: float, *, name: str) -> None:
        super().__init__(name=name)
        self._recency = recency
        # Chosen after the towers are trained: `trainer.training.factors`.
        self.factor = self.add_weight(name="factor", shape=(), initializer="zeros", trainable=False)

    def call(self, items: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Vectors float32 [B, H, C], newest first, and mask bool [B, H] -> float32 [B, C]; zero without history."""
        there = tf.cast(mask, tf.float32)
        newer = tf.cumsum(there, axis=1, exclusive=True)
        total = tf.einsum("bh,bhc->bc", there * (1.0 + newer) ** -self._recency, items)
        return self.factor * tf.math.l2_normalize(total, axis=1)
