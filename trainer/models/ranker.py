"""Requests against a catalogue in memory: exact retrieval, then ranking, then order."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.item_table import ItemTable
from trainer.data.requests import RequestBatch, Requests, request_batch_signature
from trainer.models.engine import Engine
from trainer.models.exact_search import best_products
from trainer.models.recommender import Recommender
from trainer.models.text_search import TextSearch

_Ints = npt.NDArray[np.integer]
_Floats = npt.NDArray[np.float32]
# Requests per batch.
_BLOCK = 256
# Maximum scores of text queries and all items at once: 64 MiB for each part of the score.
_TEXT_SCORES = 1 << 24
# Query-item pairs ranked at once.
_PAIRS = 65_536


class CatalogueRanker:
    """Answers requests of known histories by exact retrieval, ranking and blending.

    Args:
        model: Trained towers and ranking model.
        items: The catalogue, N items.
        weights: Blend of the final score, see `trainer.models.ranking.blend`.
        candidates: Number of items that retrieval passes to ranking.
        allowed: Bool [N], the items to rank; None: all.
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
        self._engine = Engine(model, weights, text_search, ids=items.ids)
        self._items = items
        self._candidates = candidates
        self._allowed = tf.constant(np.ones(items.size, bool) if allowed is None else allowed)
        self._vectors = tf.Variable(model.candidate_vectors(items), trainable=False)
        # Stored in the object instead of decorating the method: `blended` and `restricted` share one trace.
        self._retrieve_and_rank = tf.function(
            self._retrieve_and_rank_eagerly,
            input_signature=[
                request_batch_signature(self._engine.history_length),
                tf.TensorSpec([None, 2], tf.int32, "excluded"),
                tf.TensorSpec([items.size], tf.bool, "allowed"),
            ],
        )

    @property
    def model(self) -> Recommender:
        """The model."""
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
        """Recomputes the candidate vectors with the model's current weights."""
        self._vectors.assign(self._model.candidate_vectors(self._items))

    def blended(self, weights: Mapping[str, float]) -> "CatalogueRanker":
        """The same ranker with another blend; candidate vectors and traced graph are shared."""
        other = copy.copy(self)
        other._engine = Engine(self._model, weights, self._engine.text_search, ids=self._items.ids)
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
        blocks = [np.zeros((0, k), np.int64)]
        for block in _blocks(len(requests), _BLOCK):
            rows, logits, outputs = self._answer(requests[block])
            blocks.append(_best(rows, self._engine.scores(logits, outputs), k))
        return np.concatenate(blocks)

    def rank_texts(self, sentences: tf.Tensor, texts: Sequence[str], k: int) -> npt.NDArray[np.int64]:
        """The k best items for text queries of unknown users.

        Args:
            sentences: Float32 [n, T], their sentence vectors.
            texts: The n texts.
            k: Length of the lists.

        Returns:
            Int64 [n, k] item rows, best first; -1 pads.
        """
        size = max(1, min(_BLOCK, _TEXT_SCORES // max(self._items.size, 1)))
        blocks = [self._rank_texts(sentences[block], texts[block], k) for block in _blocks(len(texts), size)]
        return np.concatenate([np.zeros((0, k), np.int64), *blocks])

    def parts(self, requests: Requests) -> tuple[tf.Tensor, ...]:
        """Retrieved rows [U, C], retrieval logits [U, C] and signals of ranking [U, C, signals] of U requests."""
        blocks = [self._answer(requests[block]) for block in _blocks(len(requests), _BLOCK)]
        return tuple(tf.concat(parts, axis=0) for parts in zip(*blocks, strict=True))

    def query_vectors(self, requests: Requests, sentences: tf.Tensor | None = None) -> tf.Tensor:
        """Query vectors of U requests, float32 [U, D].

        Args:
            requests: The requests.
            sentences: Float32 [U, T], converted sentence vectors of what each types; None: they type nothing.
        """
        return query_vectors(self._model, self._items, self._vectors, requests, sentences)

    def score_pairs(self, requests: Requests, pairs: tuple[_Ints, _Ints]) -> tuple[_Floats, _Floats]:
        """Retrieval logits [E] and signals of ranking [E, signals] of given pairs: see the function."""
        return score_pairs(self._model, self._items, requests, pairs, self._vectors, self._vectors)

    def _answer(self, requests: Requests) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        batch = requests.batch(self._engine.history_length)
        return self._retrieve_and_rank(batch, _pairs(requests), self._allowed)  # type: ignore[no-any-return]

    def _retrieve_and_rank_eagerly(
        self, batch: RequestBatch, excluded: tf.Tensor, allowed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        queries = self._model.query_vectors(batch, self._items, self._vectors)
        rows, products = self._search(queries, excluded, allowed)
        vectors = tf.gather(self._vectors, tf.maximum(rows, 0))
        return rows, self._engine.logits(products), self._engine.outputs(queries, vectors, batch["history"], rows)

    def _search(self, queries: tf.Tensor, excluded: tf.Tensor, allowed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The best rows [B, C], -1 pads, and dot products of query vectors; ``excluded`` as in `best_products`."""
        return best_products(
            queries, self._vectors, min(self._candidates, self._items.size), excluded=excluded, allowed=allowed
        )

    def _top(self, scores: tf.Tensor, allowed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows [B, C], -1 pads, of the best allowed scores [B, N], and these scores."""
        top = tf.math.top_k(tf.where(allowed, scores, -np.inf), min(self._candidates, self._items.size))
        return tf.where(tf.math.is_finite(top.values), top.indices, -1), top.values

    def _rank_texts(self, sentences: tf.Tensor, texts: Sequence[str], k: int) -> npt.NDArray[np.int64]:
        sentences = self._engine.sentences(sentences, tf.zeros([len(texts)], tf.int32))
        queries = self.query_vectors(Requests.of_nobody(len(texts)), sentences)
        search = self._engine.text_search
        if search is not None:
            rows, fit = self._top(search.scores(search.read(sentences, tf.constant(list(texts)))), self._allowed)
            return _best(rows, search.reorder(fit, queries, tf.gather(self._vectors, tf.maximum(rows, 0))), k)
        rows, products = self._search(queries, tf.zeros([0, 2], tf.int32), self._allowed)
        outputs = self._engine.outputs(queries, tf.gather(self._vectors, tf.maximum(rows, 0)))
        return _best(rows, self._engine.scores(self._engine.logits(products), outputs), k)


def query_vectors(
    model: Recommender, items: ItemTable, vectors: tf.Tensor, requests: Requests, sentences: tf.Tensor | None = None
) -> tf.Tensor:
    """Query vectors of U requests, float32 [U, D].

    Args:
        model: The model.
        items: The catalogue, N items.
        vectors: Float32 [N, D], candidate vectors that histories point into.
        requests: The requests.
        sentences: Float32 [U, T], converted sentence vectors of what each types; None: they type nothing.
    """
    text = None if sentences is None else model.candidate_tower.embed_text(sentences)
    length = model.config.query.history_length
    blocks = [
        model.query_vectors(requests[block].batch(length), items, vectors, text=None if text is None else text[block])
        for block in _blocks(len(requests), _BLOCK)
    ]
    return tf.concat([tf.zeros([0, model.fusion.width]), *blocks], axis=0)


def score_pairs(
    model: Recommender,
    items: ItemTable,
    requests: Requests,
    pairs: tuple[_Ints, _Ints],
    history_vectors: tf.Tensor,
    candidate_vectors: tf.Tensor,
) -> tuple[_Floats, _Floats]:
    """Retrieval logits [E] and signals of ranking [E, signals] of given pairs of a request and an item.

    Args:
        model: The model.
        items: The catalogue, N items.
        requests: U requests.
        pairs: Int [E] positions of requests, and int [E] item rows.
        history_vectors: Float32 [N, D], the items' vectors in histories.
        candidate_vectors: Float32 [N, D], their vectors as candidates, possibly in another language.
    """
    engine = Engine(model, {}, ids=items.ids)
    queries = query_vectors(model, items, history_vectors, requests)
    histories = requests.histories.newest(engine.history_length)
    who, rows = pairs
    logits, outputs = np.empty(len(who), np.float32), np.empty((len(who), len(model.signals)), np.float32)
    for block in _blocks(len(who), _PAIRS):
        query, candidate = tf.gather(queries, who[block]), tf.gather(candidate_vectors, rows[block])
        logits[block] = engine.logits(tf.reduce_sum(query * candidate, axis=1))
        own = tf.constant(rows[block, np.newaxis], tf.int32)
        outputs[block] = engine.outputs(query, candidate[:, tf.newaxis], tf.constant(histories[who[block]]), own)[:, 0]
    return logits, outputs


def _pairs(requests: Requests) -> npt.NDArray[np.int32]:
    """Each request with each item of its history, int32 [P, 2]."""
    histories = requests.histories
    return np.stack([histories.users(), histories.items], axis=1).astype(np.int32)


def _best(rows: tf.Tensor, scores: tf.Tensor, k: int) -> npt.NDArray[np.int64]:
    """Rows [B, C] in the order of their scores, -1 last: int64 [B, k]."""
    scores = tf.where(rows >= 0, scores, -np.inf)
    order = tf.math.top_k(scores, min(k, int(scores.shape[1]))).indices
    best = tf.gather(rows, order, batch_dims=1).numpy().astype(np.int64)
    return np.pad(best, [(0, 0), (0, k - best.shape[1])], constant_values=-1)


def _blocks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
