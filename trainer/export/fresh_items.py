"""Signatures by which a service adds items to a served model that joined the catalogue after the export.

The items of a SavedModel's index are sealed. A service keeps later ones: `embed_items` gives them the vectors that
they would have in the index, `recommend_for_merge` answers like `recommend` and also gives the request's own vectors,
which the service compares with those of its items, and `score_embeddings` ranks what it found by the same heads. Scores
are those of a new export of the larger catalogue (`trainer.task export --catalogue`).
"""

import numpy as np
import tensorflow as tf

from serving import contract
from trainer.data.catalogue import Catalogue
from trainer.export.filters import string_table
from trainer.export.item_encoder import Centring, ItemEncoder
from trainer.export.text_search import TextRetrieval
from trainer.export.users import variable
from trainer.models.recommender import Recommender
from trainer.models.text_search import TextQueries, TextSearch

Tensors = dict[str, tf.Tensor]
# Largest difference in a component of two vectors of the same item, encoded by the trainer and in the graph.
_SAME = 1e-3


class FreshItems(tf.Module):
    """Vectors of further items, and of requests to compare them with.

    Args:
        model: The trained model.
        encoder: Computes the items' features.
        catalogue: The N items of the index.
        vectors: Float32 [N, D], their vectors.
        item_rows: Id -> row, -1 for others.
        text_search: What text queries are answered by, and how their items are found; None: the towers do.
    """

    def __init__(
        self,
        model: Recommender,
        encoder: ItemEncoder,
        catalogue: Catalogue,
        vectors: tf.Variable,
        item_rows: tf.lookup.StaticHashTable,
        text_search: tuple[TextSearch, TextRetrieval] | None,
    ) -> None:
        super().__init__(name="fresh_items")
        self._tower = model.candidate_tower
        self._fusion = model.fusion
        self._encoder = encoder
        self._vectors = vectors
        self._item_rows = item_rows
        self._titles = variable(catalogue.titles, tf.string)
        self._languages = variable(catalogue.languages, tf.string)
        labels = np.array(["", *catalogue.category_labels], dtype=object)[catalogue.categories + 1]
        self._labels = variable(_digest(tf.constant(labels, tf.string)), tf.int64)
        self._search = None if text_search is None else _FreshText(text_search[0], text_search[1], catalogue)

    @property
    def columns(self) -> dict[str, int | None]:
        """Inputs of `embed` for the model's item columns -> width of an embedding, None for a number."""
        return self._encoder.columns

    def embed(self, inputs: Tensors) -> Tensors:
        """Answers `embed_items`: what the index would hold of n items, and whether it holds the same already."""
        texts = self._encoder.texts(inputs)
        features = self._encoder(inputs, texts)
        vectors = self._tower(features)
        rows = self._item_rows.lookup(inputs["item_id"])
        there = tf.maximum(rows, 0)
        sealed = (
            (rows >= 0)
            & (tf.gather(self._titles, there) == inputs["title"])
            & (tf.gather(self._languages, there) == inputs["language"])
            & (tf.gather(self._labels, there) == _digest(inputs["categories"]))
            & (tf.reduce_max(tf.abs(tf.gather(self._vectors, there) - vectors), axis=1) <= _SAME)
        )
        outputs = {contract.EMBEDDINGS: vectors, contract.SEALED: sealed}
        if self._search is not None:
            sentences = self._tower.convert(self._tower.text_vectors(features["text"]), features["language"])
            outputs |= self._search.items(sentences, texts, inputs["language"], inputs["categories"], rows)
        return outputs

    def places(self, rows: tf.Tensor) -> tf.Tensor:
        """Where items of the index are in the towers' space, float32 [B, C, D]: rows int32 [B, C], -1 pads.

        By these vectors a service sees which items of a list are alike.
        """
        return self._fusion.of_towers(tf.gather(self._vectors, tf.maximum(rows, 0)))

    def requests(
        self, queries: tf.Tensor, informed: tf.Tensor, cutoffs: tf.Tensor, typed: tf.Tensor, text: TextQueries | None
    ) -> Tensors:
        """What `recommend_for_merge` says of B requests besides their items.

        Args:
            queries: Float32 [B, D], query vectors.
            informed: Bool [B], whether anything is known of the request.
            cutoffs: Float32 [B], scores before ranking that an item must exceed to change the answer; may be -inf.
            typed: Bool [B], which requests have text.
            text: Those T requests; None without text search.
        """
        # JSON has no infinity.
        cutoffs = tf.maximum(cutoffs, contract.LOWEST_SCORE)
        outputs = {contract.QUERY_EMBEDDINGS: queries, contract.CUTOFFS: cutoffs, contract.INFORMED: informed}
        if self._search is not None and text is not None:
            outputs |= self._search.requests(text, typed)
        return outputs


def _digest(labels: tf.Tensor) -> tf.Tensor:
    """String [n, C] -> int64 [n], the same for the same set of labels in any order; empty strings pad."""
    hashes = tf.strings.to_hash_bucket_fast(labels, 1 << 62)
    return tf.reduce_sum(tf.where(tf.strings.length(labels) > 0, hashes, 0), axis=1)


class _FreshText(tf.Module):
    """The parts of `trainer.models.text_search.TextSearch.scores` for items beyond the index."""

    def __init__(self, search: TextSearch, retrieval: TextRetrieval, catalogue: Catalogue) -> None:
        super().__init__(name="fresh_text")
        self._search = search
        self._retrieval = retrieval
        self._centring = Centring(search.statistics.means)
        self._projection = variable(search.statistics.projection, tf.float32)
        self._labels = string_table(catalogue.category_labels if search.reads_categories else [])
        self._no_label = len(catalogue.category_labels) if search.reads_categories else 0

    def items(
        self, sentences: tf.Tensor, texts: tf.Tensor, languages: tf.Tensor, categories: tf.Tensor, rows: tf.Tensor
    ) -> Tensors:
        """Of n items.

        Args:
            sentences: Float32 [n, T], their sentence vectors after conversion.
            texts, languages: String [n].
            categories: String [n, C].
            rows: Int32 [n], in the index; -1: not there.
        """
        search = self._search
        written = tf.cast(tf.strings.length(tf.strings.strip(texts)) > 0, tf.float32)[:, tf.newaxis]
        centred = self._centring(tf.math.l2_normalize(sentences, axis=1), languages) * written
        popularity = tf.where(rows >= 0, tf.gather(search.popularity, tf.maximum(rows, 0)), 0.0)
        found = self._labels.lookup(categories)
        count = tf.reduce_sum(tf.cast(tf.strings.length(categories) > 0, tf.float32), axis=1)
        buckets, scores = search.new_items(texts)
        return {
            contract.TEXT_EMBEDDINGS: tf.concat(
                [tf.matmul(centred, self._projection), popularity[:, tf.newaxis]], axis=1
            ),
            contract.LABELS: tf.where(found >= 0, found, self._no_label),
            contract.LABEL_NORMS: search.weights.categories * tf.math.divide_no_nan(1.0, tf.sqrt(count)),
            contract.GRAM_BUCKETS: buckets,
            contract.GRAM_SCORES: scores,
        }

    def requests(self, text: TextQueries, typed: tf.Tensor) -> Tensors:
        """Of B requests, T of them with text; zeros for the others."""
        search, places = self._search, tf.where(typed)
        batch = tf.size(typed, out_type=tf.int64)

        def of_all(values: tf.Tensor) -> tf.Tensor:
            return tf.scatter_nd(places, values, tf.stack([batch, tf.shape(values, tf.int64)[1]]))

        labels = text.labels if search.reads_categories else tf.zeros_like(text.labels)
        buckets, weights = search.lexical_weights(tf.scatter_nd(places, text.texts, [batch]))
        return {
            contract.TEXT_EMBEDDINGS: of_all(search.index_query(text)),
            contract.NAMED: tf.scatter_nd(places, self._retrieval.best(text), [batch]),
            contract.LABEL_SIMILARITIES: of_all(labels),
            contract.GRAM_BUCKETS: buckets,
            contract.GRAM_WEIGHTS: weights,
            contract.LEXICAL_WEIGHTS: tf.fill([batch], search.weights.lexical),
        }
