"""Similar items of each item, with weights: a sparse matrix of as many entries in every row."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse
import tensorflow as tf


class Neighbours(NamedTuple):
    """For each of N items, K of the V known ones.

    Attributes:
        items: Int32 [N, K], indices of known items, from 0; no index twice in a row.
        weights: Float32 [N, K]; rows sum to 1, or to 0 for an item without neighbours.
    """

    items: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    def at(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Neighbours":
        """Those of some items."""
        return Neighbours(self.items[rows], self.weights[rows])

    def matrix(self, known: int) -> scipy.sparse.csr_array:
        """The same as a matrix [N, V] for V = ``known``: its product with [V, D] are the means of vectors."""
        size, width = self.items.shape
        bounds = np.arange(0, size * width + 1, max(width, 1))[: size + 1] if width else np.zeros(size + 1, np.int64)
        return scipy.sparse.csr_array((self.weights.ravel(), self.items.ravel(), bounds), shape=(size, known))


def means_of_neighbours(items: tf.Tensor, weights: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Weighted means of vectors in the graph, without [n, K, D] in memory.

    Args:
        items: Int32 [n, K], as of `Neighbours`.
        weights: Float32 [n, K].
        table: Float32 [V, D], vectors of the known items.

    Returns:
        Float32 [n, D].
    """
    size, width = tf.shape(items)[0], tf.shape(items)[1]
    rows = tf.repeat(tf.range(size, dtype=tf.int64), width)
    places = tf.stack([rows, tf.reshape(tf.cast(items, tf.int64), [-1])], axis=1)
    shape = tf.stack([size, tf.shape(table)[0]])
    matrix = tf.SparseTensor(places, tf.reshape(weights, [-1]), tf.cast(shape, tf.int64))
    return tf.sparse.sparse_dense_matmul(matrix, table)
