"""Scores of impressions' candidates, by a model and by baselines."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import tensorflow as tf

from trainer.data.catalogue import Catalogue, group_by_user
from trainer.data.impressions import Impressions
from trainer.data.requests import Requests
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.models.ranking import blend
from trainer.models.recommender import Recommender
from trainer.text.unit_vectors import unit
from trainer.towers.items import ItemTable

_Floats = npt.NDArray[np.float64]
# Batch sizes: impressions per query batch, candidates per output batch.
_QUERIES = 256
_PAIRS = 65_536
# Prior impressions of every article, at the mean click-through rate, so that an article shown once is not immediately
# the best or the worst.
_PRIOR = 10.0


@dataclass(frozen=True, eq=False)
class Histories:
    """Earlier positives of the impressions' users, by user.

    Attributes:
        index: User id -> row of ``indptr``.
        indptr: Int64 [U + 1].
        items: Int32 [total] catalogue rows, oldest first.
    """

    index: Mapping[str, int]
    indptr: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]

    @classmethod
    def of(cls, positives: pl.DataFrame, catalogue: Catalogue, impressions: Impressions) -> "Histories":
        """The histories of the impressions' users: their rows of ``positives`` (user_id, item_id, timestamp)."""
        users = sorted(set(impressions.users))
        return cls({user: row for row, user in enumerate(users)}, *group_by_user(positives, catalogue, users))

    def only(self, items: npt.NDArray[np.bool_]) -> "Histories":
        """Only the items marked in bool [N]."""
        kept = items[self.items]
        ends = np.concatenate([[0], np.cumsum(kept)])
        return Histories(self.index, ends[self.indptr], self.items[kept])

    def rows(self, impressions: Impressions) -> npt.NDArray[np.int64]:
        """Int64 [I]: the row of each impression's user."""
        return np.array([self.index[user] for user in impressions.users], np.int64)

    def sizes(self, impressions: Impressions) -> npt.NDArray[np.int64]:
        """Int64 [I]: length of each impression's history."""
        return np.diff(self.indptr)[self.rows(impressions)]


class ImpressionScorer:
    """Scores candidates as a request would: the blend of retrieval logit and heads.

    Args:
        model: A recommender.
        vocabulary: The users known to the model.
        histories: Histories of the impressions' users.
    """

    def __init__(self, model: Recommender, vocabulary: Vocabulary, histories: Histories) -> None:
        self._model = model
        known = index_of(vocabulary.users)
        users = np.zeros(len(histories.index), np.int32)
        for user, row in histories.index.items():
            users[row] = known.get(user, UNKNOWN)
        self._requests = Requests.of_histories(histories.indptr, histories.items, users)
        self._histories = histories

    def __call__(
        self,
        impressions: Impressions,
        weights: Mapping[str, float],
        items: ItemTable,
        history_vectors: tf.Tensor,
        candidate_vectors: tf.Tensor,
        *,
        histories: Histories | None = None,
    ) -> _Floats:
        """One score per candidate, [E]; ``weights`` as in `trainer.models.ranking.blend`, the rest as in `parts`."""
        retrieval, outputs = self.parts(impressions, items, history_vectors, candidate_vectors, histories=histories)
        scores = blend(
            tf.constant(retrieval)[:, tf.newaxis], tf.constant(outputs)[:, tf.newaxis], self._model.heads, weights
        )
        return scores.numpy()[:, 0].astype(np.float64)

    def parts(
        self,
        impressions: Impressions,
        items: ItemTable,
        history_vectors: tf.Tensor,
        candidate_vectors: tf.Tensor,
        *,
        histories: Histories | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Retrieval logits [E] and raw outputs of the heads [E, heads].

        Args:
            impressions: E candidates.
            items: The catalogue, N items.
            history_vectors: Float32 [N, D], the items as read in the histories.
            candidate_vectors: Float32 [N, D], the items as ranked, possibly in another language.
            histories: Shorter histories to use instead.
        """
        histories = self._histories if histories is None else histories
        requests = self._requests.with_histories(histories.indptr, histories.items)
        rows, length = histories.rows(impressions), self._model.config.query.history_length
        queries = [
            self._model.query_vectors(requests.batch(length, rows[begin : begin + _QUERIES]), items, history_vectors)
            for begin in range(0, len(rows), _QUERIES)
        ]
        retrieval = np.empty(len(impressions.items), np.float32)
        outputs = np.empty((len(impressions.items), len(self._model.heads)), np.float32)
        if not queries:
            return retrieval, outputs
        vectors, owners = tf.concat(queries, axis=0), impressions.owners
        for begin in range(0, len(owners), _PAIRS):
            part = slice(begin, begin + _PAIRS)
            query = tf.gather(vectors, owners[part])
            candidate = tf.gather(candidate_vectors, impressions.items[part])
            retrieval[part] = tf.reduce_sum(query * candidate, axis=1) / self._model.config.retrieval.temperature
            outputs[part] = self._model.ranking_model(query, candidate[:, tf.newaxis])[:, 0]
        return retrieval, outputs


def mean_history_scores(
    impressions: Impressions,
    histories: Histories,
    history_vectors: npt.NDArray[np.float32],
    candidate_vectors: npt.NDArray[np.float32],
) -> _Floats:
    """Cosine of each candidate and the mean of the history's unit vectors; 0 without a history.

    Args:
        impressions: E candidates.
        histories: Histories of their users.
        history_vectors: [N, T] sentence vectors of the items as read in the histories.
        candidate_vectors: [N, T], the same as ranked.
    """
    history, candidates = unit(history_vectors), unit(candidate_vectors)
    owner = np.repeat(np.arange(len(histories.indptr) - 1), np.diff(histories.indptr))
    sums = np.zeros((len(histories.indptr) - 1, history.shape[1]))
    np.add.at(sums, owner, history[histories.items])
    profiles = unit(sums)[histories.rows(impressions)]
    scores: _Floats = np.einsum("ed,ed->e", profiles[impressions.owners], candidates[impressions.items])
    return scores


def click_through(impressions: Impressions, training: Impressions, size: int) -> _Floats:
    """Click-through rate of each candidate in the training impressions, smoothed towards the mean, [E].

    Args:
        impressions: E candidates.
        training: Impressions to count in.
        size: N, number of catalogue items.
    """
    shown = np.bincount(training.items, minlength=size)
    clicks = np.bincount(training.items[training.clicked], minlength=size)
    mean = clicks.sum() / max(shown.sum(), 1)
    rates: _Floats = (clicks + _PRIOR * mean) / (shown + _PRIOR)
    return rates[impressions.items]
