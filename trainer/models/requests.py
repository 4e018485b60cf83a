"""Whole requests against a catalogue in memory: retrieve, then rank, then order."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.item_table import ItemTable
from trainer.data.requests import RequestBatch, Requests, request_batch_signature
from trainer.models.ranking import blend
from trainer.models.recommender import Recommender
from trainer.models.text_search import TextSearch

_Ints = npt.NDArray[np.integer]
# Users answered at once.
_BLOCK = 256
# Pairs of a query and an item ranked at once.
_PAIRS = 65_536


class CatalogueRanker:
    """Answers requests of known histories by exact retrieval, ranking and blending.

    Args:
        model: Trained towers and ranking model.
        items: The catalogue, N items.
        weights: Blend of the final score, see `trainer.models.ranking.blend`.
        candidates: Items that retrieval hands to ranking.
        allowed: Bool [N], the items that may be answered; None: all.
        text_search: Answers text queries; None leaves them to the towers.
    """

    def __init__(
        self,
        model: Recommender,
        items: ItemTable,
        weights: Mapping[str, float],
        *,
        candidates: int,
        allowed: npt.NDArray[np.bool_] | None = None,
        text_search: TextSearch | None = None,
    ) -> None:
        self._model = model
        self._text_search = text_search
        self._items = items
        self._weights = dict(weights)
        self._candidates = candidates
        self._allowed = tf.constant(np.ones(items.size, bool) if allowed is None else allowed)
        self._vectors = tf.Variable(model.candidate_vectors(items), trainable=False)
        # Held by the object, not decorated: `blended` and `restricted` share one trace.
        self._retrieve_and_rank = tf.function(
            self._retrieve_and_rank_eagerly,
            input_signature=[
                request_batch_signature(model.config.query.history_length),
                tf.TensorSpec([None, None], tf.int32, "excluded"),
                tf.TensorSpec([items.size], tf.bool, "allowed"),
            ],
        )

    @property
    def model(self) -> Recommender:
        """What answers."""
        return self._model

    @property
    def items(self) -> ItemTable:
        """The catalogue."""
        return self._items

    @property
    def vectors(self) -> tf.Variable:
        """Candidate vectors float32 [N, D], as of the last `refresh`."""
        return self._vectors

    def refresh(self) -> None:
        """Takes in the model's weights as they are now."""
        self._vectors.assign(self._model.candidate_vectors(self._items))

    def blended(self, weights: Mapping[str, float]) -> "CatalogueRanker":
        """The same ranker with another blend; candidate vectors and traced graph are shared."""
        other = copy.copy(self)
        other._weights = dict(weights)
        return other

    def restricted(self, allowed: npt.NDArray[np.bool_]) -> "CatalogueRanker":
        """The same ranker over the items that bool ``allowed`` [N] marks; vectors and traced graph are shared."""
        other = copy.copy(self)
        other._allowed = tf.constant(allowed)
        return other

    def rank(self, requests: Requests, k: int) -> npt.NDArray[np.int64]:
        """The k best items of each request that are not in its history.

        Returns:
            Int64 [U, k] item rows, best first; -1 where a request has fewer.
        """
        rankings = np.full((len(requests), k), -1, np.int64)
        for block in _blocks(len(requests)):
            rows, retrieval, outputs = self._answer(requests[block])
            best = self._order(rows, retrieval, outputs, k).numpy()
            rankings[block, : best.shape[1]] = best
        return rankings

    def rank_texts(self, sentences: tf.Tensor, texts: Sequence[str], k: int) -> npt.NDArray[np.int64]:
        """The k best items for text queries of unknown users.

        Args:
            sentences: Float32 [n, T], their sentence vectors.
            texts: The n texts.
            k: Length of the lists.

        Returns:
            Int64 [n, k] item rows, best first; -1 pads.
        """
        blocks = [
            self._rank_texts(sentences[start : start + _BLOCK], texts[start : start + _BLOCK], k)
            for start in range(0, len(texts), _BLOCK)
        ]
        return np.concatenate([np.zeros((0, k), np.int64), *blocks])

    def _rank_texts(self, sentences: tf.Tensor, texts: Sequence[str], k: int) -> npt.NDArray[np.int64]:
        sentences = self._model.candidate_tower.convert(sentences, tf.zeros([len(texts)], tf.int32))
        queries = text_query_vectors(self._model, sentences)
        if self._text_search is None:
            nothing = tf.fill([len(texts), 1], -1)
            rows = self._order(*self._search(queries, nothing, self._allowed), k).numpy()
        else:
            fit = self._text_search.scores(self._text_search.read(sentences, tf.constant(list(texts), tf.string)))
            top = tf.math.top_k(tf.where(self._allowed, fit, -np.inf), min(self._candidates, self._items.size))
            scores = self._text_search.reorder(top.values, queries, tf.gather(self._vectors, top.indices))
            scores = tf.where(tf.math.is_finite(top.values), scores, -np.inf)
            best = tf.math.top_k(scores, min(k, int(scores.shape[1])))
            rows = tf.gather(top.indices, best.indices, batch_dims=1).numpy()
            rows = np.where(np.isfinite(best.values.numpy()), rows, -1).astype(np.int64)
        return np.pad(rows, [(0, 0), (0, k - rows.shape[1])], constant_values=-1)

    def parts(self, requests: Requests) -> tuple[tf.Tensor, ...]:
        """Retrieved rows [U, C], retrieval logits [U, C] and raw head outputs [U, C, heads] of U requests."""
        blocks = [self._answer(requests[block]) for block in _blocks(len(requests))]
        return tuple(tf.concat(parts, axis=0) for parts in zip(*blocks, strict=True))

    def query_vectors(self, requests: Requests) -> tf.Tensor:
        """Query vectors of U requests, float32 [U, D]."""
        return self._model.query_vectors(requests.batch(self._history_length), self._items, self._vectors)

    def outputs(self, requests: Requests, pairs: tuple[_Ints, _Ints]) -> npt.NDArray[np.float32]:
        """Raw outputs of the ranking model on given pairs.

        Args:
            requests: U requests.
            pairs: Int [E] places among the requests, and int [E] item rows.

        Returns:
            Float32 [E, heads].
        """
        if not len(requests):
            return np.zeros((0, len(self._model.heads)), np.float32)
        queries = tf.concat([self.query_vectors(requests[block]) for block in _blocks(len(requests))], axis=0)
        who, rows = pairs
        blocks = [
            self._model.ranking_model(
                tf.gather(queries, who[start : start + _PAIRS]),
                tf.gather(self._vectors, rows[start : start + _PAIRS])[:, tf.newaxis],
            )[:, 0].numpy()
            for start in range(0, len(who), _PAIRS)
        ]
        return np.concatenate([np.zeros((0, len(self._model.heads)), np.float32), *blocks])

    @property
    def _history_length(self) -> int:
        return int(self._model.config.query.history_length)

    def _answer(self, requests: Requests) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        batch = requests.batch(self._history_length)
        return self._retrieve_and_rank(batch, tf.constant(requests.histories.padded()), self._allowed)  # type: ignore[no-any-return]

    def _order(self, rows: tf.Tensor, retrieval: tf.Tensor, outputs: tf.Tensor, k: int) -> tf.Tensor:
        scores = blend(retrieval, outputs, self._model.heads, self._weights)
        scores = tf.where(rows >= 0, scores, -np.inf)
        order = tf.math.top_k(scores, min(k, int(scores.shape[1]))).indices
        return tf.cast(tf.gather(rows, order, batch_dims=1), tf.int64)

    def _retrieve_and_rank_eagerly(
        self, batch: RequestBatch, excluded: tf.Tensor, allowed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return self._search(self._model.query_vectors(batch, self._items, self._vectors), excluded, allowed)

    def _search(
        self, queries: tf.Tensor, excluded: tf.Tensor, allowed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        model = self._model
        scores = tf.matmul(queries, self._vectors, transpose_b=True) / model.config.retrieval.temperature
        barred = membership(excluded, self._items.size) | ~allowed
        top = tf.math.top_k(tf.where(barred, -np.inf, scores), min(self._candidates, self._items.size))
        rows = tf.where(tf.math.is_finite(top.values), top.indices, -1)
        outputs = model.ranking_model(queries, tf.gather(self._vectors, top.indices))
        return rows, top.values, outputs


def _blocks(total: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, total)) for start in range(0, total, _BLOCK))


def text_query_vectors(
    model: Recommender,
    sentences: tf.Tensor,
    vectors: tf.Tensor | None = None,
    requests: Requests | None = None,
) -> tf.Tensor:
    """The query tower's vectors of requests with text, float32 [n, D].

    Args:
        model: The model.
        sentences: Float32 [n, T], vectors of the texts.
        vectors: Candidate vectors float32 [N, D] that histories point into.
        requests: Who asks, n; None: unknown users without a history.
    """
    if requests is None or vectors is None:
        size = int(sentences.shape[0])
        requests = Requests.of_nobody(size)
        vectors = tf.zeros([1, model.fusion.width])
    batch = requests.batch(model.config.query.history_length)
    return model.query_vectors(batch, model.items, vectors, text=model.candidate_tower.embed_text(sentences))


def membership(rows: tf.Tensor, size: int) -> tf.Tensor:
    """Bool [B, size]: whether each item is in int32 ``rows`` [B, E] (-1: none)."""
    batch = tf.shape(rows)[0]
    where = tf.where(rows >= 0)
    places = tf.stack([tf.cast(where[:, 0], tf.int32), tf.gather_nd(rows, where)], axis=1)
    return tf.scatter_nd(places, tf.ones_like(places[:, 0]), tf.stack([batch, size])) > 0
