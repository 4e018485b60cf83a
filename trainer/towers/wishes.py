"""Typed wishes: the way from a sentence to what people who name a category look for."""

import tensorflow as tf

# Unit vectors differ little from sentence to sentence; so scaled, a softmax over them learns in few steps.
_SHARPNESS = 10.0


class WishReader(tf.keras.layers.Layer):
    """Mixes two readings of typed text by how much it looks like a title.

    ``g x + (1 - g) softmax(A s) M``: ``s`` is the sentence vector, ``x`` its reading as an item's text, the rows
    of ``M`` stand for the catalogue's categories, and ``g`` in (0, 1) is a small network of ``s``. A reading
    through few categories moves little where a translation moves the sentence vector, so a wish is answered
    alike in every language; a title needs the other reading, which tells items apart.

    Trained by `trainer.training.wishes` when the rest of the model is finished, and frozen before.

    Args:
        categories: K, number of category labels.
        dimension: D, size of the towers' space.
    """

    def __init__(self, categories: int, dimension: int) -> None:
        super().__init__(name="wishes")
        self._dimension = dimension
        dense = tf.keras.layers.Dense
        self._category = dense(categories, kernel_initializer="zeros", name="category")
        self._place = dense(dimension, use_bias=False, name="place")
        self._hidden = dense(64, activation="relu", name="gate_hidden")
        self._gate = dense(1, name="gate")
        # Taken off the gate's logit in serving: wishes are more varied than the names that it was trained on.
        self.shift = self.add_weight(name="shift", shape=(), initializer="zeros", trainable=False)

    def call(self, sentences: tf.Tensor, texts: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Sentence vectors [n, T] and their readings as an item's text [n, D] -> float32 [n, D]."""
        wish = self._place(tf.nn.softmax(self._category(_SHARPNESS * sentences)))
        title = tf.sigmoid(self.title_logits(sentences) - (0.0 if training else self.shift))
        return title * texts + (1.0 - title) * wish

    def title_logits(self, sentences: tf.Tensor) -> tf.Tensor:
        """How much sentence vectors [n, T] look like titles, float32 [n, 1], before the shift."""
        return self._gate(self._hidden(sentences))

    @property
    def learned(self) -> list[tf.Variable]:
        """What gradients may change."""
        return [weight for weight in self.weights if weight is not self.shift]

    def penalty(self) -> tf.Tensor:
        """Sum of squares of the weights from sentence to categories: less of it, smoother answers."""
        return tf.reduce_sum(tf.square(_SHARPNESS * self._category.kernel))
