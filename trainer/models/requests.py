"""Whole requests against a catalogue in memory: retrieve, then rank, then order."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.pipeline import Batch
from trainer.models.ranking import blend
from trainer.models.recommender import Recommender
from trainer.models.text_search import TextSearch
from trainer.towers.items import ItemTable
from trainer.towers.query import QueryFeatures

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
                _batch_signature(model),
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

    def rank(
        self,
        indptr: npt.NDArray[np.int64],
        history: _Ints,
        k: int,
        *,
        users: _Ints | None = None,
    ) -> npt.NDArray[np.int64]:
        """The k best items of each user that are not in the user's history.

        Args:
            indptr: Int64 [U + 1], as of `trainer.data.catalogue.group_by_user`.
            history: Int32 [total] item rows, oldest first.
            k: Length of the lists.
            users: Int32 [U] vocabulary indices; None: unknown users.

        Returns:
            Int64 [U, k] item rows, best first; -1 where a user has fewer.
        """
        total = len(indptr) - 1
        rankings = np.full((total, k), -1, np.int64)
        for start in range(0, total, _BLOCK):
            stop = min(start + _BLOCK, total)
            batch, excluded = self._requests(
                indptr[start : stop + 1], history, None if users is None else users[start:stop]
            )
            rows, retrieval, outputs = self._retrieve_and_rank(batch, excluded, self._allowed)
            best = self._order(rows, retrieval, outputs, k).numpy()
            rankings[start:stop, : best.shape[1]] = best
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

    def parts(self, indptr: npt.NDArray[np.int64], history: _Ints, users: _Ints | None) -> tuple[tf.Tensor, ...]:
        """Retrieved rows [U, C], retrieval logits [U, C] and raw head outputs [U, C, heads] of U users."""
        blocks = []
        for start in range(0, len(indptr) - 1, _BLOCK):
            stop = min(start + _BLOCK, len(indptr) - 1)
            some = None if users is None else users[start:stop]
            requests = self._requests(indptr[start : stop + 1], history, some)
            blocks.append(self._retrieve_and_rank(*requests, self._allowed))
        return tuple(tf.concat(parts, axis=0) for parts in zip(*blocks, strict=True))

    def query_vectors(self, indptr: npt.NDArray[np.int64], history: _Ints, users: _Ints | None) -> tf.Tensor:
        """Query vectors of U users, float32 [U, D]; arguments as of `rank`."""
        batch, _ = self._requests(indptr, history, users)
        return self._model.query_vectors(batch, self._items, self._vectors)

    def outputs(
        self, indptr: npt.NDArray[np.int64], history: _Ints, users: _Ints, pairs: tuple[_Ints, _Ints]
    ) -> npt.NDArray[np.float32]:
        """Raw outputs of the ranking model on given pairs.

        Args:
            indptr, history, users: U users, as of `rank`.
            pairs: Int [E] places among the users, and int [E] item rows.

        Returns:
            Float32 [E, heads].
        """
        if len(indptr) == 1:
            return np.zeros((0, len(self._model.heads)), np.float32)
        queries = tf.concat(
            [
                self.query_vectors(indptr[start : start + _BLOCK + 1], history, users[start : start + _BLOCK])
                for start in range(0, len(indptr) - 1, _BLOCK)
            ],
            axis=0,
        )
        who, rows = pairs
        blocks = [
            self._model.ranking_model(
                tf.gather(queries, who[start : start + _PAIRS]),
                tf.gather(self._vectors, rows[start : start + _PAIRS])[:, tf.newaxis],
            )[:, 0].numpy()
            for start in range(0, len(who), _PAIRS)
        ]
        return np.concatenate([np.zeros((0, len(self._model.heads)), np.float32), *blocks])

    def _requests(self, indptr: npt.NDArray[np.int64], history: _Ints, users: _Ints | None) -> tuple[Batch, tf.Tensor]:
        size = len(indptr) - 1
        excluded = tf.RaggedTensor.from_row_splits(
            tf.constant(history[indptr[0] : indptr[-1]], tf.int32), indptr - indptr[0]
        )
        newest = newest_first(indptr, history, self._model.config.query.history_length)
        absent = tf.zeros([size], tf.int32)
        batch = Batch(
            user=absent if users is None else tf.constant(users, tf.int32),
            language=absent,
            country=absent,
            history=tf.constant(newest),
            item=absent,
            timestamp=tf.zeros([size], tf.int64),
            text=absent - 1,
            labels=tf.zeros([size, len(self._model.heads)]),
        )
        return batch, excluded.to_tensor(-1)

    def _order(self, rows: tf.Tensor, retrieval: tf.Tensor, outputs: tf.Tensor, k: int) -> tf.Tensor:
        scores = blend(retrieval, outputs, self._model.heads, self._weights)
        scores = tf.where(rows >= 0, scores, -np.inf)
        order = tf.math.top_k(scores, min(k, int(scores.shape[1]))).indices
        return tf.cast(tf.gather(rows, order, batch_dims=1), tf.int64)

    def _retrieve_and_rank_eagerly(
        self, batch: Batch, excluded: tf.Tensor, allowed: tf.Tensor
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


def _batch_signature(model: Recommender) -> Batch:
    """Of a batch of requests of any size, so that a ranker is traced once."""
    index, length = tf.TensorSpec([None], tf.int32), model.config.query.history_length
    return Batch(
        user=index,
        language=index,
        country=index,
        history=tf.TensorSpec([None, length], tf.int32),
        item=index,
        timestamp=tf.TensorSpec([None], tf.int64),
        text=index,
        labels=tf.TensorSpec([None, len(model.heads)], tf.float32),
    )


def text_query_vectors(
    model: Recommender,
    sentences: tf.Tensor,
    vectors: tf.Tensor | None = None,
    history: npt.NDArray[np.int32] | None = None,
    users: npt.NDArray[np.int32] | None = None,
) -> tf.Tensor:
    """The query tower's vectors of requests with text, float32 [n, D].

    Args:
        model: The model.
        sentences: Float32 [n, T], vectors of the texts.
        vectors: Candidate vectors float32 [N, D] that ``history`` points into.
        history: Int32 [n, H] item rows, newest first, -1 pads; None: nobody has one.
        users: Int32 [n] vocabulary indices; None: all are unknown.
    """
    size = tf.shape(sentences)[0]
    absent = tf.zeros([size], tf.int32)
    length = model.config.query.history_length
    there = tf.zeros([size, length], tf.bool) if history is None else tf.constant(history >= 0)
    if vectors is None or history is None:
        of_history = tf.zeros([size, length, model.width])
    else:
        of_history = tf.gather(vectors, tf.maximum(history, 0))
    features = QueryFeatures(
        user=absent if users is None else tf.constant(users, tf.int32),
        language=absent,
        country=absent,
        history=of_history,
        history_mask=there,
        text=model.candidate_tower.embed_text(sentences),
        text_mask=tf.ones([size], tf.bool),
        timestamp=tf.zeros([size], tf.int64),
    )
    return model.query_tower(features)


def newest_first(indptr: npt.NDArray[np.int64], history: _Ints, length: int) -> npt.NDArray[np.int32]:
    """The newest ``length`` items of each user, int32 [U, length], newest first, -1 pads."""
    place = indptr[1:, np.newaxis] - 1 - np.arange(length)
    there = place >= indptr[:-1, np.newaxis]
    if not len(history):
        return np.full(place.shape, -1, np.int32)
    return np.where(there, history[np.where(there, place, 0)], -1).astype(np.int32)


def membership(rows: tf.Tensor, size: int) -> tf.Tensor:
    """Bool [B, size]: whether each item stands in int32 ``rows`` [B, E] (-1 is none)."""
    batch = tf.shape(rows)[0]
    where = tf.where(rows >= 0)
    places = tf.stack([tf.cast(where[:, 0], tf.int32), tf.gather_nd(rows, where)], axis=1)
    return tf.scatter_nd(places, tf.ones_like(places[:, 0]), tf.stack([batch, size])) > 0
