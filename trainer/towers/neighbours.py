"""Vectors for items without a learned one, from similar known items.

The vector of an item's id captures what interactions say about it. An item not seen in training, because it is new
or from another catalogue, has none; but similar known items (the same film under another title, its sequel, others
of its kind and time) indicate what to expect. It gets the mean of their vectors, weighted by a fixed kernel over
content that holds in every language and market: kernel regression (Nadaraya, 1964, doi 10.1137/1109020).
"""

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.item_table import ItemFeatures
from trainer.data.neighbours import Neighbours
from trainer.models.settings import NeighboursConfig
from trainer.scorers.base import known_or_means
from trainer.towers.content import Content
from trainer.towers.layers import IdEmbedding
from trainer.towers.nearby import pairs_to_compare

_Floats = npt.NDArray[np.float32]
# Number of nearest items that measure how crowded an item's neighbourhood is.
CROWD: Final = 10
# Eigenvalue of a direction that no category vector has, relative to the largest.
_NOTHING: Final = 1e-9


class NeighbourIds(IdEmbedding):
    """Embedding of item ids in which an unknown item has the weighted mean of its neighbours' vectors.

    In training an id is hidden for the share ``dropout`` of the items, which are then also placed by their neighbours:
    so the layers above learn to use such means, and a factor compensates for their shorter length.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the table and the factor."""
        self.factor = self.add_weight(name="factor", shape=(), initializer="ones")
        super().build(input_shape)

    def call(self, indices: tf.Tensor, features: ItemFeatures, training: bool = False) -> tf.Tensor:  # type: ignore[override]
        """Int32 [n] and the items' neighbours -> float32 [n, dimension]."""
        if training and self._dropout > 0.0:
            indices = tf.where(tf.random.uniform(tf.shape(indices)) >= self._dropout, indices, 0)
        return known_or_means(self.table, features, indices, self.factor)


def nearest_known(
    content: Content,
    known: Content,
    own: npt.NDArray[np.integer],
    config: NeighboursConfig,
    crowding: _Floats | None = None,
) -> Neighbours:
    """The most similar known items of each item, weighted by the softmax of similarity / temperature over them.

    The similarity is the cosine of the sentence vectors, plus ``category_weight`` times the cosine of the category
    labels' mean vectors, minus ``year_weight`` for each year between the two, up to ``year_limit``. The mean similarity
    to an item's ten nearest is subtracted, half for each side: in high-dimensional spaces some items are near to
    everything (CSLS, Conneau et al., 2018, arXiv 1710.04087, eq. 3).

    Args:
        content: Content of N items.
        known: Content of the V vocabulary items, in order.
        own: [N] vocabulary index of each item, 0 unknown; an item is not its own neighbour.
        config: The kernel and K = min(``nearest``, V).
        crowding: Float32 [V], the known items' mean similarity to their nearest (`crowding_of_known`); None: to those
            of ``content``.

    Returns:
        K neighbours of each of the N items, most similar first. In a large catalogue each is compared with a part of
        the known items only (`trainer.towers.nearby.pairs_to_compare`).
    """
    count = min(config.nearest, len(known))
    found = Neighbours(np.zeros((len(content), count), np.int32), np.zeros((len(content), count), np.float32))
    if not count:
        return found
    content, known = _compact(content, known)
    of_known = crowding_of_known(content, known, own, config) if crowding is None else crowding
    for rows, columns in pairs_to_compare(content, known, config, least=count):
        similarity = _similarity(content.only(rows), known.only(columns), own[rows], columns, config)
        similarity -= 0.5 * (of_known[columns] + _crowding(similarity)[:, np.newaxis])
        places, weights = softmax_of_nearest(tf.constant(similarity), count, config.temperature)
        found.items[rows] = columns[places.numpy()]
        found.weights[rows] = weights.numpy()
    return found


def crowding_of_known(
    content: Content, known: Content, own: npt.NDArray[np.integer], config: NeighboursConfig
) -> _Floats:
    """Mean similarity of each known item to its ten nearest of a catalogue, float32 [V]; see `nearest_known`."""
    found = np.zeros(len(known), np.float32)
    content, known = _compact(content, known)
    for rows, columns in pairs_to_compare(known, content, config, least=CROWD):
        found[rows] = _crowding(_similarity(content.only(columns), known.only(rows), own[columns], rows, config).T)
    return found


def softmax_of_nearest(similarity: tf.Tensor, count: int, temperature: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The best columns of each row and their weights.

    Args:
        similarity: Float32 [n, V], -inf for what is no neighbour.
        count: K, at most V.
        temperature: Of the softmax.

    Returns:
        Int32 [n, K] columns, best first, and float32 [n, K]; a row without finite similarity has weights of 0.
    """
    best, columns = tf.math.top_k(similarity, count)
    first = tf.where(tf.math.is_finite(best[:, :1]), best[:, :1], 0.0)
    weights = tf.exp((best - first) / temperature)
    return columns, weights / tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 1e-9)


def _compact(content: Content, known: Content) -> tuple[Content, Content]:
    """The same with shorter category vectors: few labels span few directions, and only the known items' count."""
    values, directions = np.linalg.eigh((known.categories.T @ known.categories).astype(np.float64))
    basis = directions[:, values > _NOTHING * values.max(initial=_NOTHING)].astype(np.float32)
    return replace(content, categories=content.categories @ basis), replace(known, categories=known.categories @ basis)


def _similarity(
    content: Content,
    known: Content,
    own: npt.NDArray[np.integer],
    columns: npt.NDArray[np.integer],
    config: NeighboursConfig,
) -> _Floats:
    """Similarity of items to known ones, float32 [n, m]; an item is not similar to itself (-inf).

    Args:
        content, own: Of n items.
        known: Of m of the vocabulary's items.
        columns: [m], their places in the vocabulary from 0, ascending.
        config: The kernel.
    """
    similarity: _Floats = content.text @ known.text.T
    similarity += config.category_weight * (content.categories @ known.categories.T)
    if config.year_weight:
        apart = np.abs(content.year[:, np.newaxis] - known.year)
        np.minimum(apart, np.float32(config.year_limit), out=apart)
        if np.isnan(content.year).any() or np.isnan(known.year).any():
            apart[np.isnan(apart)] = 0.0
        apart *= np.float32(config.year_weight)
        similarity -= apart
    places = np.minimum(np.searchsorted(columns, own - 1), len(columns) - 1)
    there = np.flatnonzero(columns[places] == own - 1)
    similarity[there, places[there]] = -np.inf
    return similarity


def _crowding(similarity: _Floats) -> _Floats:
    """Mean of the largest entries of each row, [n], ignoring hidden entries (-inf)."""
    nearest = tf.math.top_k(similarity, min(CROWD, similarity.shape[1])).values.numpy()
    there = np.isfinite(nearest)
    sums = np.where(there, nearest, 0.0).sum(axis=1)
    means: _Floats = (sums / np.maximum(there.sum(axis=1), 1)).astype(np.float32)
    return means
