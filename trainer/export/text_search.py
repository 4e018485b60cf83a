"""Text queries inside the exported graph: exact over small catalogues, by two candidate lists over large ones."""

from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from trainer.export.filters import best_rows
from trainer.export.index import Index
from trainer.models.text_search import TextQueries, TextSearch, names_no_item

# Nearest items among which the item that a query names is looked for.
_NEAREST = 32
# Int32 lines [n] of the T queries -> bool [n, N], the items that may answer them.
Allowed = Callable[[tf.Tensor], tf.Tensor]


class TextRetrieval(Protocol):
    """Finds the rows of the catalogue that fit text queries best."""

    def search(self, queries: TextQueries, count: tf.Tensor, allowed: Allowed) -> tuple[tf.Tensor, tf.Tensor]:
        """T queries -> int32 rows [T, count] (-1 pads) and their fit [T, count] (-inf pads), best first."""
        ...

    def scores_of(self, queries: TextQueries, rows: tf.Tensor) -> tf.Tensor:
        """The fit of int32 ``rows`` [T, C], float32 [T, C]."""
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


class IndexedTextRetrieval(tf.Module):
    """Scores candidates from an index of the sentence vectors and from the n-grams' own list, a query at a time.

    Filters that leave few items are answered exactly; otherwise more candidates are taken from the index, as for other
    requests.

    Args:
        search: The scores.
        index: Of ``search.index_vectors``.
        exact_limit: Filters that leave at most this many items are answered exactly.
        least: Minimum number of candidates of each list, even where fewer items are requested.
    """

    def __init__(self, search: TextSearch, index: Index, exact_limit: int, *, least: int) -> None:
        super().__init__(name="indexed_text_retrieval")
        self._least = min(least, search.size)
        self._search = search
        self._index = index
        self._exact_limit = exact_limit

    def search(self, queries: TextQueries, count: tf.Tensor, allowed: Allowed) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TextRetrieval.search`."""

        def line(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            own = TextQueries(*(part[place : place + 1] for part in queries))
            mask = allowed(place[tf.newaxis])[0]
            total = tf.reduce_sum(tf.cast(mask, tf.int32))
            lexical = self._lexical(own)
            best = self._best(own, lexical)
            rows = tf.cond(
                total <= self._exact_limit,
                lambda: tf.cast(tf.where(mask)[:, 0], tf.int32),
                lambda: self._candidates(own, lexical, best, mask, total, tf.maximum(count, self._least)),
            )
            scores = self._search.scores_of(own, rows[tf.newaxis], tf.gather(lexical, rows)[tf.newaxis], best)
            found, fit = best_rows(rows[tf.newaxis], scores, count)
            return found[0], fit[0]

        signature = (tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32))
        lines = tf.range(tf.size(queries.texts))
        # N numbers of one query at a time, not T times N.
        rows, scores = tf.cond(
            tf.size(lines) > 0,
            lambda: tf.map_fn(line, lines, fn_output_signature=signature, parallel_iterations=1),
            lambda: (tf.zeros([0, count], tf.int32), tf.zeros([0, count])),
        )
        return tf.ensure_shape(rows, [None, None]), tf.ensure_shape(scores, [None, None])

    def scores_of(self, queries: TextQueries, rows: tf.Tensor) -> tf.Tensor:
        """See `TextRetrieval.scores_of`."""

        def line(place: tf.Tensor) -> tf.Tensor:
            own = TextQueries(*(part[place : place + 1] for part in queries))
            lexical = self._lexical(own)
            spelled = tf.gather(lexical, rows[place])[tf.newaxis]
            return self._search.scores_of(own, rows[place : place + 1], spelled, self._best(own, lexical))[0]

        signature = tf.TensorSpec([None], tf.float32)
        lines = tf.range(tf.size(queries.texts))
        return tf.cond(  # type: ignore[no-any-return]
            tf.size(lines) > 0,
            lambda: tf.map_fn(line, lines, fn_output_signature=signature, parallel_iterations=1),
            lambda: tf.zeros([0, tf.shape(rows)[1]]),
        )

    def _lexical(self, query: TextQueries) -> tf.Tensor:
        """What spelling adds to every item's score for one query, float32 [N]."""
        scores = self._search.lexical(query.texts)
        return tf.zeros([self._search.size]) + tf.reshape(scores, [-1])

    def _best(self, query: TextQueries, lexical: tf.Tensor) -> tf.Tensor:
        """The largest `TextSearch.named` of one query over the catalogue, float32 [1]."""
        few = tf.constant(min(_NEAREST, self._search.size))
        _, near = self._index.search(self._search.index_query(query), few)
        rows = tf.concat([tf.maximum(near[0], 0), tf.math.top_k(lexical, few).indices], axis=0)[tf.newaxis]
        return tf.reduce_max(self._search.named(query, rows, tf.gather(lexical, rows)), axis=1)

    def _candidates(
        self,
        query: TextQueries,
        lexical: tf.Tensor,
        best: tf.Tensor,
        mask: tf.Tensor,
        total: tf.Tensor,
        count: tf.Tensor,
    ) -> tf.Tensor:
        """Allowed rows that are close in meaning, spelling or categories, each once, int32 [C]."""
        size = self._search.size
        # Twice what would be enough if allowed items were spread evenly over the ranking.
        share = tf.cast(size, tf.float32) / tf.cast(total, tf.float32)
        spread = tf.where(share > 1.0, 2.0 * share, 1.0)
        fetch = tf.cast(tf.minimum(spread * tf.cast(count, tf.float32), float(size)), tf.int32)
        _, near = self._index.search(self._search.index_query(query), fetch)
        lists = [near[0], self._top(tf.where(mask, lexical, 0.0), count)]
        if self._search.reads_categories:
            lists.append(
                tf.cond(
                    names_no_item(best)[0] > 0.0,
                    lambda: self._top(tf.where(mask, self._described(query), 0.0), count),
                    lambda: tf.zeros([0], tf.int32),
                )
            )
        rows = tf.unique(tf.concat(lists, axis=0)).y
        rows = tf.boolean_mask(rows, (rows >= 0) & tf.gather(mask, tf.maximum(rows, 0)))
        # If the index finds too few of a filter's items, all of them are scored.
        return tf.cond(
            tf.size(rows) >= tf.minimum(count, total), lambda: rows, lambda: tf.cast(tf.where(mask)[:, 0], tf.int32)
        )

    def _described(self, query: TextQueries) -> tf.Tensor:
        """Scores by category, within a category by popularity, float32 [N]; 0 where no category is similar."""
        similar = self._search.described(query)[0]
        return tf.where(similar > 0.0, tf.nn.relu(similar + self._search.popularity), 0.0)

    @staticmethod
    def _top(scores: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """The rows of the largest positive scores of [N], int32 [count]; -1 where there are fewer."""
        found = tf.math.top_k(scores, tf.minimum(count, tf.size(scores)))
        return tf.where(found.values > 0.0, found.indices, -1)
