"""Partitioned search in TensorFlow's own ops, for servers without others."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.export.index import IndexSettings
from trainer.export.partitions import partition

# Candidate weights of a leaf's spread; see `PortableIndex`.
_SPREAD_WEIGHTS = (0.0, 1.0, 2.0, 3.0)
# Copying all leaves this many times takes as long as multiplying by all of them (100,000 x 64, two cores).
_COPIES = 1.5


class PortableIndex(tf.Module):
    """Searches the leaves of the catalogue with the largest estimated dot products, exactly within each leaf.

    A leaf's estimate is the score of its centre plus ``spread_weight`` standard deviations of its items' scores, since
    the maximum of many scores is above their mean. All ops are TensorFlow's own.

    Scores are computed in one of two ways, whichever is cheaper for the batch. Few queries gather the leaves that each
    searches. Many queries are grouped by leaf and scored in place by one batched product of small matrices: no item
    vector is copied, and a leaf is read once for all its queries. At worst, if all queries search the same leaves, this
    equals the product of exact search.

    Args:
        vectors: The catalogue, float32 [N, D].
        settings: From `choose_index`, with leaves.
        usual: Usual number of requested results.
        seed: Seed of the partitions.
    """

    def __init__(self, vectors: npt.NDArray[np.float32], settings: IndexSettings, usual: int, *, seed: int) -> None:
        super().__init__(name="portable_index")
        if settings.leaves is None:
            raise ValueError("settings.leaves is None; BruteForceIndex searches without leaves")
        parts = partition(vectors, settings.leaves, seed=seed)
        self._size = len(vectors)
        self._usual = usual
        self._leaves, self._width = parts.rows.shape
        self.settings = replace(
            settings,
            leaves=self._leaves,
            leaf_size=self._width,
            leaves_to_search=min(settings.leaves_to_search or 1, self._leaves),
        )
        members = np.where(parts.rows[..., np.newaxis] >= 0, vectors[np.maximum(parts.rows, 0)], 0.0)
        self._rows = tf.Variable(parts.rows, trainable=False, name="rows")
        # [L, D, M]: products of few rows with [D, M] matrices run several times faster than with transposed [M, D].
        self._members = tf.Variable(members.transpose(0, 2, 1), trainable=False, dtype=tf.float32, name="members")
        self._centres = tf.Variable(parts.centres.T, trainable=False, name="centres")
        self._spreads = tf.Variable(parts.spreads, trainable=False, name="spreads")

    def search(self, queries: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Index.search`; for more results than usual, more leaves are searched, up to all."""
        leaves = self._leaves_for(count)
        promises = self._promises(queries, self.settings.spread_weight or 0.0)
        chosen = tf.math.top_k(promises, leaves, sorted=False).indices
        scores = tf.cond(
            tf.size(chosen) <= int(_COPIES * self._leaves),
            lambda: self._score_by_query(queries, chosen),
            lambda: self._score_by_leaf(queries, chosen),
        )
        width = leaves * self._width
        rows = tf.reshape(tf.gather(self._rows, chosen), tf.stack([tf.shape(queries)[0], width]))
        found = tf.math.top_k(tf.where(rows >= 0, scores, -math.inf), tf.minimum(count, width))
        short = [[0, 0], [0, tf.maximum(count - width, 0)]]
        return (
            tf.pad(found.values, short, constant_values=-math.inf),
            tf.pad(tf.gather(rows, found.indices, batch_dims=1), short, constant_values=-1),
        )

    def tune(self, queries: tf.Tensor, vectors: tf.Tensor, *, count: int, target: float) -> float:
        """Chooses the spread weight, and the smallest number of leaves for which recall@count reaches ``target``.

        The leaf of every true neighbour is known, so recalls for all numbers of leaves are computed without searching.

        Args:
            queries: Float32 [Q, D], the model's own query vectors.
            vectors: Float32 [N, D], the catalogue.
            count: k of the recall.
            target: Recall to reach, with all leaves at most; 0 keeps the number of leaves.

        Returns:
            The recall reached; `settings` has the chosen values.
        """
        count = min(count, self._size)
        homes = self._homes(queries, vectors, count)
        least = int(self._leaves_holding(tf.constant(count)))
        outcomes = []
        for weight in _SPREAD_WEIGHTS:
            order = np.argsort(-self._promises(queries, weight).numpy(), axis=1, kind="stable")
            ranks = np.empty_like(order)
            np.put_along_axis(ranks, order, np.arange(self._leaves)[np.newaxis], axis=1)
            # recalls[p]: share of the true neighbours in the p + 1 leaves with the highest estimates.
            found = np.bincount(np.take_along_axis(ranks, homes, axis=1).ravel(), minlength=self._leaves)
            recalls = np.cumsum(found) / homes.size
            leaves = int(np.argmax(recalls >= target)) + 1 if target > 0 else self.settings.leaves_to_search or 1
            leaves = max(leaves, least)
            outcomes.append((leaves, -float(recalls[leaves - 1]), weight))
        leaves, missed, weight = min(outcomes)
        self.settings = replace(self.settings, leaves_to_search=leaves, spread_weight=weight)
        return -missed

    def _homes(self, queries: tf.Tensor, vectors: tf.Tensor, count: int) -> npt.NDArray[np.int32]:
        """Leaf of each item of the exact top ``count``, int32 [Q, count]."""
        rows = self._rows.numpy()
        leaves, places = np.nonzero(rows >= 0)
        homes = np.empty(self._size, np.int32)
        homes[rows[leaves, places]] = leaves
        exact = [
            tf.math.top_k(tf.matmul(queries[start : start + 64], vectors, transpose_b=True), count).indices.numpy()
            for start in range(0, queries.shape[0], 64)
        ]
        found: npt.NDArray[np.int32] = homes[np.concatenate(exact)]
        return found

    def _leaves_for(self, count: tf.Tensor) -> tf.Tensor:
        """Number of leaves to search for ``count`` results, int32."""
        growth = tf.maximum(1.0, tf.cast(count, tf.float32) / self._usual)
        leaves = tf.cast(tf.math.ceil(growth * (self.settings.leaves_to_search or 1)), tf.int32)
        return tf.maximum(tf.minimum(leaves, self._leaves), self._leaves_holding(count))

    def _leaves_holding(self, count: tf.Tensor) -> tf.Tensor:
        """Number of leaves that hold twice as many items on average, int32; all leaves if all items are requested."""
        leaves = tf.math.ceil(tf.cast(count, tf.float32) * (2.0 * self._leaves / self._size))
        return tf.minimum(tf.cast(leaves, tf.int32), self._leaves)

    def _promises(self, queries: tf.Tensor, weight: float) -> tf.Tensor:
        """Estimate of each leaf for each query, float32 [B, L]."""
        centres = tf.matmul(queries, self._centres)
        return centres + weight * tf.norm(queries, axis=1, keepdims=True) * self._spreads[tf.newaxis]

    def _score_by_query(self, queries: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """Dot products with the items of the chosen leaves [B, P], float32 [B, P * M]."""
        products = tf.matmul(queries[:, tf.newaxis, tf.newaxis], tf.gather(self._members, chosen))
        return tf.reshape(products, tf.stack([tf.shape(queries)[0], tf.shape(chosen)[1] * self._width]))

    def _score_by_leaf(self, queries: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """The same scores, with the queries grouped by leaf."""
        batch, leaves = tf.shape(chosen)[0], tf.shape(chosen)[1]
        owners = tf.repeat(tf.range(batch), leaves)
        pairs = tf.stack([owners, tf.reshape(chosen, [-1])], axis=1)
        wants = tf.scatter_nd(pairs, tf.ones_like(owners), tf.stack([batch, self._leaves]))
        # Position of a query among those that search the same leaf.
        places = tf.gather(tf.cumsum(wants, axis=0, exclusive=True), chosen, batch_dims=1)
        room = tf.reduce_max(places) + 1
        slots = tf.reshape(chosen * room + places, [-1])
        # Query + 1 in each slot; 0 where a leaf has fewer queries than the busiest one.
        guests = tf.scatter_nd(slots[:, tf.newaxis], owners + 1, [self._leaves * room])
        grouped = tf.gather(tf.pad(queries, [[1, 0], [0, 0]]), guests)
        grouped = tf.reshape(grouped, tf.stack([self._leaves, room, tf.shape(queries)[1]]))
        products = tf.reshape(tf.matmul(grouped, self._members), tf.stack([self._leaves * room, self._width]))
        return tf.reshape(tf.gather(products, slots), tf.stack([batch, leaves * self._width]))
