"""The interface of the parts of the retrieval score."""

import tensorflow as tf

from trainer.data.item_table import ItemFeatures


class Scorer(tf.Module):
    """One part of an item's score for a request: the dot product of a vector of each.

    Vectors of all parts are concatenated (`trainer.scorers.fusion`), so a single index serves the sum (late fusion).

    Attributes:
        width: Size of the two vectors.
        in_training: Whether the towers are trained with this part. A closed form is not: it was fitted to the
            interactions that the towers learn from.
        factor: Weight of the part, a scalar chosen on the validation part after training
            (`trainer.training.factors`).
    """

    width: int
    in_training = False
    factor: tf.Variable

    def items(self, features: ItemFeatures, ids: tf.Tensor) -> tf.Tensor:
        """Vectors of n items, float32 [n, width].

        Args:
            features: The items.
            ids: Int32 [n], their vocabulary indices; 0: unknown, or hidden in training.
        """
        raise NotImplementedError

    def queries(self, towers: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Vectors of B requests, float32 [B, width].

        Args:
            towers: Float32 [B, D], the query tower's output before it is normalised.
            history: Float32 [B, H, width], this part's vectors of the history's items, newest first.
            mask: Bool [B, H], which of them are present.
        """
        raise NotImplementedError
