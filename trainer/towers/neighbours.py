"""Vectors for items without a learned one, from similar known items.

The vector of an item's id captures what interactions say about it. An item not seen in training, because it is new
or from another catalogue, has none; but similar known items (the same film under another title, its sequel, others
of its kind and time) indicate what to expect. It gets the mean of their vectors, weighted by a fixed kernel over
content that holds in every language and market: kernel regression (Nadaraya, 1964, doi 10.1137/1109020).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.catalogue import Catalogue
from trainer.errors import BabelrecError
from trainer.models.settings import NeighboursConfig
from trainer.text.language_means import LanguageMeans
from trainer.text.unit_vectors import unit
from trainer.towers.layers import IdEmbedding

_Floats = npt.NDArray[np.float32]
# Number of nearest items that measure how crowded an item's neighbourhood is.
CROWD: Final = 10
# Maximum number of float32 weights, 2 GiB.
_LARGEST: Final = 1 << 29


class NeighbourIds(IdEmbedding):
    """Embedding of item ids in which an unknown item has the weighted mean of its neighbours' vectors.

    In training an id is hidden for the share ``dropout`` of the items, which are then also placed by their neighbours:
    so the layers above learn to use such means, and a factor compensates for their shorter length.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the table and the factor."""
        self.factor = self.add_weight(name="factor", shape=(), initializer="ones")
        super().build(input_shape)

    def call(self, indices: tf.Tensor, neighbours: tf.Tensor, training: bool = False) -> tf.Tensor:  # type: ignore[override]
        """Int32 [n] and neighbours' weights float32 [n, V] -> float32 [n, dimension]."""
        known = indices > 0
        if training and self._dropout > 0.0:
            known &= tf.random.uniform(tf.shape(indices)) >= self._dropout
        # Without gradient: each vector is learned from its own item. The means' gradients are dense and similar, and
        # an optimizer that scales them row by row drives all vectors in one direction.
        mean = self.factor * tf.matmul(neighbours, tf.stop_gradient(self.table[1:]))
        return tf.where(known[:, tf.newaxis], tf.gather(self.table, indices), mean)


def neighbour_weights(
    content: "Content",
    known: "Content",
    own: npt.NDArray[np.integer],
    config: NeighboursConfig,
    crowding: _Floats | None = None,
) -> _Floats:
    """Weights of the known items' vectors for each item: softmax of similarity / temperature.

    The similarity is the cosine of the sentence vectors, plus ``category_weight`` times the cosine of the category
    labels' mean vectors, minus ``year_weight`` for each year between the two, up to ``year_limit``. The mean similarity
    to an item's ten nearest is subtracted, half for each side: in high-dimensional spaces some items are near to
    everything (CSLS, Conneau et al., 2018, arXiv 1710.04087, eq. 3).

    Args:
        content: Content of N items.
        known: Content of the V vocabulary items, in order.
        own: [N] vocabulary index of each item, 0 unknown; an item is not its own neighbour.
        config: The kernel.
        crowding: Float32 [V], the known items' mean similarity to their nearest (`crowding_of_known`); None: to those
            of ``content``.

    Returns:
        Float32 [N, V], rows sum to 1.

    Raises:
        BabelrecError: the weights would take more than 2 GiB.
    """
    if len(content.text) * len(known.text) > _LARGEST:
        raise BabelrecError(
            f"model.candidate.neighbours needs {len(content.text)} x {len(known.text)} weights, more than 2 GiB. "
            "Disable it (model.candidate.neighbours.enabled=false) for catalogues as large as these."
        )
    if not len(known.text):
        return np.zeros((len(content.text), 0), np.float32)
    similarity = _similarity(content, known, own, config)
    of_known = _crowding(similarity.T) if crowding is None else crowding
    similarity -= 0.5 * (of_known + _crowding(similarity)[:, np.newaxis])
    best = similarity.max(axis=1, keepdims=True)
    weights = np.exp((similarity - np.where(np.isfinite(best), best, 0.0)) / config.temperature)
    # The only known item has no neighbour.
    shares: _Floats = (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return shares


def crowding_of_known(
    content: "Content", known: "Content", own: npt.NDArray[np.integer], config: NeighboursConfig
) -> _Floats:
    """Mean similarity of each known item to its ten nearest of a catalogue, float32 [V]; see `neighbour_weights`."""
    return _crowding(_similarity(content, known, own, config).T)


def _similarity(
    content: "Content", known: "Content", own: npt.NDArray[np.integer], config: NeighboursConfig
) -> _Floats:
    """Similarity of items to the known ones, float32 [N, V]; an item is not similar to itself (-inf)."""
    similarity: _Floats = content.text @ known.text.T
    similarity += config.category_weight * (content.categories @ known.categories.T)
    if config.year_weight:
        apart = np.abs(content.year[:, np.newaxis] - known.year)
        similarity -= config.year_weight * np.where(np.isfinite(apart), np.minimum(apart, config.year_limit), 0.0)
    rows = np.flatnonzero(own > 0)
    similarity[rows, own[rows] - 1] = -np.inf
    return similarity


@dataclass(frozen=True, slots=True, eq=False)
class ContentSpace:
    """What a catalogue's content vectors are centred by.

    Attributes:
        languages: Mean sentence vectors.
        categories: Float32 [T], the mean of the items' category vectors.
    """

    languages: LanguageMeans
    categories: _Floats


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Catalogue content comparable across catalogues: for N items, unit vectors and the year.

    Vectors are centred first: what all titles of a language share only indicates the language, and what all labels
    share carries no information.

    Attributes:
        space: What the vectors were centred by.
        text, categories: float32 [N, T].
        year: float32 [N], NaN if unknown.
    """

    space: ContentSpace
    text: _Floats
    categories: _Floats
    year: _Floats

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        text_vectors: _Floats,
        category_vectors: _Floats,
        year_column: str,
        space: ContentSpace | None = None,
    ) -> "Content":
        """Content of a catalogue.

        Args:
            catalogue: The items.
            text_vectors: Float32 [N, T], sentence vectors.
            category_vectors: Float32 [K, T], vectors of ``catalogue.category_labels``.
            year_column: Numeric column with each item's year; if the catalogue lacks it, all years are unknown.
            space: Centres the vectors; None: the catalogue's own means.
        """
        texts = unit(text_vectors)
        labels = np.concatenate([np.zeros((1, text_vectors.shape[1]), np.float32), category_vectors])
        mean = unit(labels[catalogue.categories + 1].sum(axis=1))
        there: npt.NDArray[np.bool_] = np.any(catalogue.categories >= 0, axis=1)
        if space is None:
            centre = mean[there].mean(axis=0) if there.any() else np.zeros(mean.shape[1], np.float32)
            space = ContentSpace(LanguageMeans.of(texts, catalogue.languages), centre)
        return cls(
            space=space,
            text=unit(space.languages.centred(texts, catalogue.languages)),
            categories=np.where(there[:, np.newaxis], unit(mean - space.categories), np.float32(0.0)),
            year=catalogue.numeric.get(year_column, np.full(len(catalogue), np.nan, np.float32)),
        )

    def only(self, rows: npt.NDArray[np.integer]) -> "Content":
        """The items at some rows; their vectors keep their centring."""
        return Content(self.space, self.text[rows], self.categories[rows], self.year[rows])


def _crowding(similarity: _Floats) -> _Floats:
    """Mean of the largest entries of each row, [n], ignoring hidden entries (-inf)."""
    count = min(CROWD, similarity.shape[1])
    nearest = np.partition(similarity, similarity.shape[1] - count, axis=1)[:, -count:]
    there = np.isfinite(nearest)
    sums = np.where(there, nearest, 0.0).sum(axis=1)
    means: _Floats = (sums / np.maximum(there.sum(axis=1), 1)).astype(np.float32)
    return means
