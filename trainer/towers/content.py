"""Similarity of an item's content to that of the history, next to the towers, in the same vectors.

What the towers and the linear model know of an item that training never showed is a mean over items that are like it,
and a mean blurs: the sequel of a film that was just watched, or the next part of a story, is no longer the nearest one.
So items carry their content itself as further numbers, sentence vector and category labels, and a request carries that
of its history: their dot product is added to the towers' (late fusion).
"""

import tensorflow as tf


class ContentHistory(tf.keras.layers.Layer):
    """What a history looks for by its content: a factor times the unit vector of its items' weighted sum.

    Args:
        recency: An item before n newer ones weighs (1 + n)^-recency; 0: all alike.
    """

    def __init__(self, recency: float, *, name: str) -> None:
        super().__init__(name=name)
        self._recency = recency
        # Chosen when the towers are trained: `trainer.training.factors`.
        self.factor = self.add_weight(name="factor", shape=(), initializer="zeros", trainable=False)

    def call(self, items: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Vectors float32 [B, H, C], newest first, and mask bool [B, H] -> float32 [B, C]; zero without history."""
        there = tf.cast(mask, tf.float32)
        newer = tf.cumsum(there, axis=1, exclusive=True)
        total = tf.einsum("bh,bhc->bc", there * (1.0 + newer) ** -self._recency, items)
        return self.factor * tf.math.l2_normalize(total, axis=1)
