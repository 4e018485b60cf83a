"""Inference on indices: from history, text and features to query vector, scores, blend and order.

Validation, evaluation and the exported graph all use this code; the graph adds strings, lookups, filters, an
index and signatures (`trainer.export.servable`).
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from serving.contract import LOWEST_SCORE
from trainer.data.requests import RequestFeatures
from trainer.models.calibration import Calibration
from trainer.models.ranking import RETRIEVAL, blend
from trainer.models.recommender import Recommender
from trainer.models.text_search import TextSearch
from trainer.towers.query import query_features


class Engine(tf.Module):
    """The trained towers, ranking heads and text search, without optimiser and tasks.

    Args:
        model: The trained model.
        weights: Weights of the blend, see `trainer.models.ranking.blend`.
        text_search: Answers text queries; None leaves them to the towers.
        ids: Int32 [N], the vocabulary index of each row of the catalogue, 0 unknown; None: no item is known.
    """

    def __init__(
        self,
        model: Recommender,
        weights: Mapping[str, float],
        text_search: TextSearch | None = None,
        *,
        ids: tf.Variable | None = None,
    ) -> None:
        super().__init__(name="engine")
        self.history_length = int(model.config.query.history_length)
        self.text_search = text_search
        self._weights = dict(weights)
        self._temperature = model.config.retrieval.temperature
        self._signals = model.signals
        self._transitions = model.transitions
        self._ids = ids
        self._query_tower = model.query_tower
        self._candidate_tower = model.candidate_tower
        self._ranking_model = model.ranking_model

    def sentences(self, vectors: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
        """Sentence vectors [T, S] of texts in int32 languages [T] (0 unknown) -> after language conversion, [T, S]."""
        return self._candidate_tower.convert(vectors, languages)

    def queries(
        self,
        request: RequestFeatures,
        vectors: tf.Tensor,
        typed: tf.Tensor,
        sentences: tf.Tensor,
        positions: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Query vectors of B requests, float32 [B, D].

        Args:
            request: The requests.
            vectors: Float32 [n, D], candidate vectors that histories point into.
            typed: Bool [B], which requests have text.
            sentences: Float32 [T, S], from `sentences`, of the T requests with text.
            positions: Int32 [B, H], where each history item is in ``vectors``; None: at its row.
        """
        text = self._candidate_tower.embed_text(sentences)
        shape = tf.stack([tf.size(typed, out_type=tf.int64), tf.shape(text, out_type=tf.int64)[1]])
        features = query_features(request, vectors, tf.scatter_nd(tf.where(typed), text, shape), typed, positions)
        return self._query_tower(features)

    def logits(self, products: tf.Tensor) -> tf.Tensor:
        """Dot products of query and candidate vectors -> retrieval logits, the scale on which the blend is chosen."""
        return products / self._temperature

    def outputs(
        self,
        queries: tf.Tensor,
        vectors: tf.Tensor,
        history: tf.Tensor | None = None,
        rows: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Signals of the ranking stage, float32 [B, C, signals]: the heads' raw outputs come first.

        Args:
            queries: Float32 [B, D].
            vectors: Float32 [B, C, D], candidate vectors.
            history: Int32 [B, H], rows of the histories, newest first; -1 pads, N and above are not in the catalogue.
                None: nobody has one.
            rows: Int32 [B, C], rows of the candidates, -1 pads; None: none is in the catalogue.
        """
        outputs = self._ranking_model(queries, vectors)
        if self._transitions is None:
            return outputs
        if history is None or rows is None or self._ids is None:
            following = tf.zeros(tf.shape(vectors)[:2])
        else:
            following = self._transitions(tf.where(history >= 0, self._known(history), -1), self._known(rows))
        return tf.concat([outputs, following[..., tf.newaxis]], axis=2)

    def _known(self, rows: tf.Tensor) -> tf.Tensor:
        """Vocabulary indices of items of the catalogue, 0 for others."""
        size = int(self._ids.shape[0])  # type: ignore[union-attr]
        inside = (rows >= 0) & (rows < size)
        return tf.where(inside, tf.gather(self._ids, tf.where(inside, rows, 0)), 0)

    def scores(self, logits: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The blended score, float32 [B, C]."""
        return blend(logits, outputs, self._signals, self._weights)

    def reorder_found_by_text(
        self,
        scores: tf.Tensor,
        typed: tf.Tensor,
        fit: Callable[[], tf.Tensor],
        queries: tf.Tensor,
        vectors: tf.Tensor,
    ) -> tf.Tensor:
        """Final scores, float32 [B, C]; for requests with text, the items' fit adjusted by the towers.

        Args:
            scores: Float32 [B, C], from `scores`.
            typed: Bool [B], which requests have text.
            fit: Returns float32 [B, C], how well the items fit the text; used where ``typed``.
            queries: Float32 [B, D].
            vectors: Float32 [B, C, D], candidate vectors.
        """
        search = self.text_search
        if search is None:
            return scores
        return tf.cond(
            tf.reduce_any(typed),
            lambda: tf.where(typed[:, tf.newaxis], search.reorder(fit(), queries, vectors), scores),
            lambda: scores,
        )

    def least_found(self, scores: tf.Tensor, typed: tf.Tensor) -> tf.Tensor:
        """What retrieval must give an item so that its final score can exceed the given one.

        Args:
            scores: Float32 [B], final scores.
            typed: Bool [B], which requests have text.

        Returns:
            Float32 [B], dot products, or for requests with text fits; the lowest finite float32 where ranking decides.
        """
        weight = self._weights.get(RETRIEVAL, 0.0)
        decided = weight <= 0.0 or any(self._weights.get(name) for name in self._signals)
        least = tf.fill(tf.shape(scores), LOWEST_SCORE) if decided else scores * (self._temperature / weight)
        if self.text_search is not None:
            least = tf.where(typed, scores - self.text_search.largest_influence, least)
        # The lowest score means that there is none.
        return tf.where(scores > LOWEST_SCORE, least, LOWEST_SCORE)

    def predictions(self, outputs: tf.Tensor, calibrations: Mapping[str, Calibration]) -> dict[str, tf.Tensor]:
        """Head -> probability or value float32 [B, C]: see `trainer.models.ranking.RankingModel.predictions`."""
        return self._ranking_model.predictions(outputs, calibrations)


def membership(rows: tf.Tensor, size: int) -> tf.Tensor:
    """Bool [B, size]: whether each item is in int32 ``rows`` [B, E] (-1: none)."""
    batch = tf.shape(rows)[0]
    where = tf.where(rows >= 0)
    places = tf.stack([tf.cast(where[:, 0], tf.int32), tf.gather_nd(rows, where)], axis=1)
    return tf.scatter_nd(places, tf.ones_like(places[:, 0]), tf.stack([batch, size])) > 0
