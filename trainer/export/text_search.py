"""Text queries inside the exported graph: exact over small catalogues, by two candidate lists over large ones."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import tensorflow as tf

from trainer.export.filters import best_rows
from trainer.export.index import Index
from trainer.models.text_search import TextQueries, TextSearch, names_no_item

# Number of nearest items among which to look for the item that a query names.
_NEAREST = 32
# Items fetched from the index, relative to the number wanted; and the factor by which a request with some excluded
# items may exceed that without a second search.
_SPARE = 2.0
_FEW_BARRED = 1.05
_T = TypeVar("_T")
# Int32 positions [n] among the T queries -> bool [n, N], the items allowed for them.
Allowed = Callable[[tf.Tensor], tf.Tensor]


class TextRetrieval(Protocol):
    """Finds the rows of the catalogue that fit text queries best."""

    def search(self, queries: TextQueries, count: tf.Tensor, allowed: Allowed) -> tuple[tf.Tensor, tf.Tensor]:
        """T queries -> int32 rows [T, count] (-1 pads) and their fit [T, count] (-inf pads), best first."""
        ...

    def scores_of(self, queries: TextQueries, rows: tf.Tensor) -> tf.Tensor:
        """The fit of int32 ``rows`` [T, C], float32 [T, C]."""
        ...

    def best(self, queries: TextQueries) -> tf.Tensor:
        """How much each query names the item that it names best (`TextSearch.named`), float32 [T]."""
        ...


class ExactTextRetrieval(tf.Module):
    """Scores every item.

    Args:
        search: The scores.
    """

    def __init__(self, search: TextSearch) -> None:
        super().__init__(name="exact_text_retrieval")
        self._search = search

    def search(self, queries: TextQueries, count: tf.Tensor, allowed: Allowed) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TextRetrieval.search`."""
        lines = tf.range(tf.size(queries.texts))
        rows = tf.where(allowed(lines), tf.range(self._search.size)[tf.newaxis], -1)
        return best_rows(rows, self._search.scores(queries), count)

    def scores_of(self, queries: TextQueries, rows: tf.Tensor) -> tf.Tensor:
        """See `TextRetrieval.scores_of`."""
        return tf.gather(self._search.scores(queries), rows, batch_dims=1)

    def best(self, queries: TextQueries) -> tf.Tensor:
        """See `TextRetrieval.best`."""
        return self._search.best(queries)


class _Spelling(NamedTuple):
    """The spelling part of one query's scores.

    Attributes:
        scores: Float32 [N].
        rows: Int32 [E], the items with a non-zero score.
        values: Float32 [E], their scores.
    """

    scores: tf.Tensor
    rows: tf.Tensor
    values: tf.Tensor

    def top(self, values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """The rows of the largest positive ``values`` [E], int32 [at most count]."""
        found = tf.math.top_k(values, tf.minimum(count, tf.size(values)))
        return tf.gather(self.rows, tf.boolean_mask(found.indices, found.values > 0.0))


class _Query(NamedTuple):
    """One query with intermediate results.

    Attributes:
        own: The query alone.
        near: Int32 [F], the nearest items by meaning, -1 pads.
        spelling: The spelling part of its scores.
        best: Float32 [1], the largest `TextSearch.named` over the catalogue.
    """

    own: TextQueries
    near: tf.Tensor
    spelling: _Spelling
    best: tf.Tensor


class IndexedTextRetrieval(tf.Module):
    """Scores candidates from an index of the sentence vectors and from the n-gram scores, one query at a time.

    Filters that leave few items are answered exactly; otherwise more candidates are taken from the index, as for other
    requests.

    Args:
        search: The scores.
        index: Index of ``search.index_vectors``.
        exact_limit: Filters that leave at most this many items are answered exactly.
        least: Minimum number of candidates of each list, even if fewer items are requested.
    """

    def __init__(self, search: TextSearch, index: Index, exact_limit: int, *, least: int) -> None:
        super().__init__(name="indexed_text_retrieval")
        self._least = min(least, search.size)
        self._search = search
        self._index = index
        self._exact_limit = exact_limit

    def search(self, queries: TextQueries, count: tf.Tensor, allowed: Allowed) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TextRetrieval.search`."""
        wanted = tf.maximum(count, self._least)

        def answer(place: tf.Tensor, query: _Query) -> tuple[tf.Tensor, tf.Tensor]:
            mask = allowed(place[tf.newaxis])[0]
            total = tf.math.count_nonzero(mask, dtype=tf.int32)
            rows = tf.cond(
                total <= self._exact_limit,
                lambda: tf.cast(tf.where(mask)[:, 0], tf.int32),
                lambda: self._candidates(query, mask, total, wanted),
            )
            kept, fit = best_rows(rows[tf.newaxis], self._fit(query, rows), count)
            return kept[0], fit[0]

        # If a filter needs more, they are searched for query by query.
        rows, scores = self._each(
            queries,
            self._fetch(_SPARE, wanted),
            answer,
            (tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)),
            lambda: (tf.zeros([0, count], tf.int32), tf.zeros([0, count])),
        )
        return tf.ensure_shape(rows, [None, None]), tf.ensure_shape(scores, [None, None])

    def scores_of(self, queries: TextQueries, rows: tf.Tensor) -> tf.Tensor:
        """See `TextRetrieval.scores_of`."""
        return self._each(
            queries,
            self._fetch(1.0, tf.constant(_NEAREST)),
            lambda place, query: self._fit(query, rows[place])[0],
            tf.TensorSpec([None], tf.float32),
            lambda: tf.zeros([0, tf.shape(rows)[1]]),
        )

    def best(self, queries: TextQueries) -> tf.Tensor:
        """See `TextRetrieval.best`."""
        return self._each(
            queries,
            self._fetch(1.0, tf.constant(_NEAREST)),
            lambda _, query: query.best[0],
            tf.TensorSpec([], tf.float32),
            lambda: tf.zeros([0]),
        )

    def _each(
        self,
        queries: TextQueries,
        fetch: tf.Tensor,
        answer: Callable[[tf.Tensor, _Query], _T],
        signature: tf.TensorSpec | tuple[tf.TensorSpec, ...],
        nothing: Callable[[], _T],
    ) -> _T:
        """Answers the queries one by one, with N scores in memory instead of T x N.

        Args:
            queries: T queries.
            fetch: Number of nearest items for each query, found by a single batched search of the index, which is much
                cheaper.
            answer: A query's position and intermediate results -> its answer.
            signature: Signature of an answer.
            nothing: Returns the result for no queries.
        """

        def answers() -> _T:
            _, near = self._index.search(self._search.index_query(queries), fetch)
            grams = self._search.grams(queries.texts)

            def line(place: tf.Tensor) -> _T:
                own = queries.at(place)
                spelling = self._spelling(grams[place])
                best = own.best(self._best(own, near[place], spelling))
                return answer(place, _Query(own, near[place], spelling, best))

            places = tf.range(tf.size(queries.texts))
            every: _T = tf.map_fn(line, places, fn_output_signature=signature, parallel_iterations=1)
            return every

        found: _T = tf.cond(tf.size(queries.texts) > 0, answers, nothing)
        return found

    def _fit(self, query: _Query, rows: tf.Tensor) -> tf.Tensor:
        """How well int32 rows [C] fit, float32 [1, C]."""
        spelled = tf.gather(query.spelling.scores, rows)[tf.newaxis]
        return self._search.scores_of(query.own, rows[tf.newaxis], spelled, query.best)

    def _spelling(self, buckets: tf.Tensor) -> _Spelling:
        """The spelling part of the items' scores for one query, given the buckets of its n-grams."""
        scores = self._search.lexical_of_one(buckets)
        # Few items share an n-gram with a query: the best of those are found much faster than the best of all.
        rows = tf.cast(tf.where(scores > 0.0)[:, 0], tf.int32)
        return _Spelling(scores, rows, tf.gather(scores, rows))

    def _best(self, query: TextQueries, near: tf.Tensor, spelling: _Spelling) -> tf.Tensor:
        """The largest `TextSearch.named` of one query over the catalogue, float32 [1]; ``near`` are its nearest."""
        rows = tf.concat([tf.maximum(near[:_NEAREST], 0), spelling.top(spelling.values, tf.constant(_NEAREST))], axis=0)
        spelled = tf.gather(spelling.scores, rows)
        return tf.reduce_max(self._search.named(query, rows[tf.newaxis], spelled), axis=1)

    def _fetch(self, spread: tf.Tensor | float, wanted: tf.Tensor) -> tf.Tensor:
        """Number of items to fetch from the index, int32 []."""
        return tf.cast(tf.minimum(spread * tf.cast(wanted, tf.float32), float(self._search.size)), tf.int32)

    def _candidates(self, query: _Query, mask: tf.Tensor, total: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
        """Allowed rows that are close in meaning, spelling or categories, each once, int32 [C]."""
        # Twice the number that would suffice if allowed items were evenly distributed over the ranking.
        spread = 2.0 * float(self._search.size) / tf.cast(total, tf.float32)
        near = tf.cond(
            # The first search has returned enough to spare for a few excluded items.
            spread <= _SPARE * _FEW_BARRED,
            lambda: query.near,
            lambda: self._index.search(self._search.index_query(query.own), self._fetch(spread, wanted))[1][0],
        )
        spelling = query.spelling
        lists = [near, spelling.top(tf.where(tf.gather(mask, spelling.rows), spelling.values, 0.0), wanted)]
        if self._search.reads_categories:
            lists.append(
                tf.cond(
                    names_no_item(query.best)[0] > 0.0,
                    lambda: self._top(tf.where(mask, self._described(query.own), 0.0), wanted),
                    lambda: tf.zeros([0], tf.int32),
                )
            )
        rows = tf.unique(tf.concat(lists, axis=0)).y
        rows = tf.boolean_mask(rows, (rows >= 0) & tf.gather(mask, tf.maximum(rows, 0)))
        # If the index finds too few of a filter's items, all of them are scored.
        return tf.cond(
            tf.size(rows) >= tf.minimum(wanted, total), lambda: rows, lambda: tf.cast(tf.where(mask)[:, 0], tf.int32)
        )

    def _described(self, query: TextQueries) -> tf.Tensor:
        """Scores by category, then by popularity, float32 [N]; 0 if no category is similar."""
        similar = self._search.described(query)[0]
        return tf.where(similar > 0.0, tf.nn.relu(similar + self._search.popularity), 0.0)

    @staticmethod
    def _top(scores: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """The rows of the largest positive scores of [N], int32 [count], padded with -1."""
        found = tf.math.top_k(scores, tf.minimum(count, tf.size(scores)))
        return tf.where(found.values > 0.0, found.indices, -1)
