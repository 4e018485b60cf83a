"""The candidate tower, which maps an item's id and content to a vector."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer.data.item_table import ItemFeatures
from trainer.data.vocabulary import Vocabulary
from trainer.models.settings import CandidateTowerConfig, ConversionConfig
from trainer.scorers.fusion import Fusion
from trainer.text.conversion import LanguageConversion
from trainer.towers.affinity import LanguageAffinity
from trainer.towers.layers import Adapter, IdEmbedding, PiecewiseLinearEncoding
from trainer.towers.neighbours import NeighbourIds


class CandidateTower(tf.keras.layers.Layer):
    """Item features [n] -> vectors float32 [n, dimension], and what the fusion appends.

    Content (text, categories, language, numbers, embedding columns) determines the item's position; the
    id adds a learned offset to it. In training the offset is hidden for a share of the items, so
    that an item without one (cold, or of another catalogue) is still placed correctly.

    Args:
        vocabulary: Vocabulary of the training part.
        config: Which features are used.
        dimension: Size of the shared space.
        fusion: Appends the vectors of the other scorers.
        normalize: Whether the vectors have unit length.
        encoder: The text encoder's trained part, the features' texts -> float32 [n, T]; None when
            the features are vectors already.
        conversion: Conversion of sentence vectors between languages.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: CandidateTowerConfig,
        dimension: int,
        fusion: Fusion,
        *,
        normalize: bool,
        encoder: tf.keras.layers.Layer | None = None,
        conversion: ConversionConfig | None = None,
    ) -> None:
        super().__init__(name="candidate_tower")
        self._config = config
        self._fusion = fusion
        self._normalize = normalize
        self.encoder = encoder
        self.conversion = (
            LanguageConversion(vocabulary.languages, conversion.bottleneck, pivot=conversion.pivot)
            if conversion is not None and conversion.bottleneck is not None
            else None
        )
        self.affinity = (
            LanguageAffinity(len(vocabulary.languages), config.language_affinity, dimension, name="affinity")
            if config.language_affinity
            else None
        )
        dense = tf.keras.layers.Dense
        self._text = dense(dimension, use_bias=False, name="text")
        self._category_text = dense(dimension, use_bias=False, name="category_text") if config.categories else None
        self._category = (
            IdEmbedding(len(vocabulary.categories), dimension, dropout=config.id_dropout, name="category")
            if config.categories
            else None
        )
        self._language = (
            IdEmbedding(len(vocabulary.languages), dimension, dropout=config.id_dropout, name="language")
            if config.language
            else None
        )
        self._numeric = (
            PiecewiseLinearEncoding(list(vocabulary.numeric.values()), dimension, name="numeric")
            if vocabulary.numeric
            else None
        )
        self._embeddings = dense(dimension, use_bias=False, name="embeddings") if vocabulary.embeddings else None
        self._adapter = Adapter(dimension, name="adapter")
        ids = NeighbourIds if config.neighbours.enabled else IdEmbedding
        # Hidden in `call`, popularity and the linear model together with the id.
        self._id = ids(len(vocabulary.items), dimension, dropout=0.0, name="item") if config.item_id else None

    def call(self, features: ItemFeatures, training: bool = False) -> tf.Tensor:
        """Vectors of n items."""
        vector = self.content(features, training)
        ids = features["id"]
        if training and self._config.id_dropout > 0.0:
            ids = tf.where(tf.random.uniform(tf.shape(ids)) >= self._config.id_dropout, ids, 0)
        if self._id is not None:
            vector += self._id(ids, features) if isinstance(self._id, NeighbourIds) else self._id(ids)
        vector = tf.math.l2_normalize(vector, axis=-1) if self._normalize else vector
        return self._fusion.items(vector, features, ids, training)

    def content(self, features: ItemFeatures, training: bool = False) -> tf.Tensor:
        """Vectors of the items' content, without ids: float32 [n, dimension], not normalised."""
        text = self.convert(self.text_vectors(features["text"]), features["language"])
        noise = self._noise(text, training)
        vector = self._hide(self._text(_sum(text, noise)), training)
        if self._category_text is not None and self._category is not None:
            # Another item's noise is as good as a draw of its own.
            noise = None if noise is None else tf.roll(noise, 1, axis=0)
            labels = self._category_text(_sum(features["category_text"], noise))
            labels += tf.reduce_sum(self._category(features["categories"], training=training), axis=1)
            vector += self._hide(labels, training)
        if self._language is not None:
            vector += self._language(features["language"], training=training)
        if self.affinity is not None:
            vector += self.affinity(features["language"])
        if self._numeric is not None:
            vector += self._hide(self._numeric(features["numeric"]), training)
        if self._embeddings is not None:
            vector += self._hide(self._embeddings(features["embeddings"]), training)
        return self._adapter(vector)

    def text_vectors(self, text: tf.Tensor) -> tf.Tensor:
        """The item table's texts [n, ...] -> sentence vectors float32 [n, T]."""
        return text if self.encoder is None else self.encoder(text)

    def forget_languages(self, indices: Sequence[int]) -> None:
        """Zeroes the learned vectors of the given languages: those of no training item."""
        if self._language is not None and len(indices):
            self._language.table.scatter_update(
                tf.IndexedSlices(tf.zeros([len(indices), self._language.table.shape[1]]), tf.constant(indices))
            )

    def read(self, text: tf.Tensor, language: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The item table's texts [n, ...] and languages int32 [n] -> float32 [n, dimension]."""
        return self.embed_text(self.convert(self.text_vectors(text), language), training)

    def convert(self, vectors: tf.Tensor, language: tf.Tensor) -> tf.Tensor:
        """Sentence vectors [n, T] of int32 languages [n], 0 unknown -> the pivot's, [n, T]."""
        return vectors if self.conversion is None else self.conversion(vectors, language)

    def embed_text(self, vectors: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Sentence vectors [n, T] -> float32 [n, dimension]."""
        return self._text(_sum(vectors, self._noise(vectors, training)))

    def _hide(self, part: tf.Tensor, training: bool) -> tf.Tensor:
        """Drops the feature of some items, so that the model doesn't rely on a single feature."""
        if not training or self._config.feature_dropout == 0.0:
            return part
        kept = tf.random.uniform([tf.shape(part)[0], 1]) >= self._config.feature_dropout
        return part * tf.cast(kept, tf.float32)

    def _noise(self, vectors: tf.Tensor, training: bool) -> tf.Tensor | None:
        """Noise for sentence vectors [n, T], of about the distance between translations of a sentence; None: none.

        What remains is shared by all languages, as a model trained on one of them needs.
        """
        scale = self._config.text_noise
        if not training or scale == 0.0:
            return None
        # Uniform numbers of the same variance: the layer that follows sums hundreds of them, which makes them Gaussian,
        # and Gaussian ones take more than twice as long to draw.
        most = scale * np.sqrt(3.0 / vectors.shape[-1])
        return tf.random.uniform(tf.shape(vectors), -most, most)


def _sum(vectors: tf.Tensor, noise: tf.Tensor | None) -> tf.Tensor:
    return vectors if noise is None else vectors + noise
