"""The interface of the parts of the retrieval score."""

import tensorflow as tf

from trainer.data.item_table import ItemFeatures
from trainer.data.neighbours import means_of_neighbours


def known_or_means(
    table: tf.Tensor, features: ItemFeatures, ids: tf.Tensor, scale: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Vectors of n items from those of the known: their own, or for unknown items their neighbours' mean.

    Args:
        table: Float32 [V + 1, D]; line 0 is for unknown items if the model doesn't look at neighbours.
        features: The items.
        ids: Int32 [n], their vocabulary indices, 0 unknown.
        scale: Factor of the means.

    Returns:
        Float32 [n, D].
    """
    vectors = tf.gather(table, ids)
    if not features["neighbours"].shape[-1]:
        return vectors
    # Known items, most of a catalogue, need no mean.
    unknown = tf.where(ids == 0)
    near, weights = (tf.gather_nd(features[name], unknown) for name in ("neighbours", "neighbour_weights"))
    # Without gradient: each vector is learned from its own item. The means' gradients are dense and similar, and
    # an optimizer that scales them row by row drives all vectors in one direction.
    means = means_of_neighbours(near, weights, tf.stop_gradient(table[1:]))
    return tf.tensor_scatter_nd_update(vectors, unknown, scale * means)


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
