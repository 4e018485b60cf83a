"""Text queries inside the exported graph: exact over small catalogues, by two candidate lists over large ones."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from trainer.export.filters import best_rows
from trainer.export.index import Index
from trainer.models.text_search import TextQueries, TextSearch

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
    """Scores what an index of the sentence vectors and the n-grams' own list bring up, a query at a time.

    Filters that leave few items are answered exactly; else the index is asked for more, as for other requests.

    Args:
        search: The scores.
        index: Of ``search.index_vectors``.
        exact_limit: Filters that let through at most so many items are searched exactly.
    """

    def __init__(self, search: TextSearch, index: Index, exact_limit: int) -> None:
        super().__init__(name="indexed_text_retrieval")
        self._search = search
        self._index = index
        self._exact_limit = exact_limit

    def search(self, queries: TextQueries, count: tf.Tensor, allowed: Allowed) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TextRetrieval.search`."""

        def line(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # One line's N numbers at a time, and not T times N.
            own = TextQueries(*(part[place : place + 1] for part in queries))
            mask = allowed(place[tf.newaxis])[0]
            total = tf.reduce_sum(tf.cast(mask, tf.int32))
            lexical = self._lexical(own)
            rows = tf.cond(
                total <= self._exact_limit,
                lambda: tf.cast(tf.where(mask)[:, 0], tf.int32),
                lambda: self._candidates(own, lexical, mask, total, count),
            )
            scores = self._search.scores_of(own, rows[tf.newaxis], tf.gather(lexical, rows)[tf.newaxis])
            found, best = best_rows(rows[tf.newaxis], scores, count)
            return found[0], best[0]

        rows = tf.TensorSpec([None], tf.int32)
        scores = tf.TensorSpec([None], tf.float32)
        lines = tf.range(tf.size(queries.texts))
        found: tuple[tf.Tensor, tf.Tensor] = tf.map_fn(line, lines, fn_output_signature=(rows, scores))
        return tf.ensure_shape(found[0], [None, None]), tf.ensure_shape(found[1], [None, None])

    def scores_of(self, queries: TextQueries, rows: tf.Tensor) -> tf.Tensor:
        """See `TextRetrieval.scores_of`."""

        def line(place: tf.Tensor) -> tf.Tensor:
            own = TextQueries(*(part[place : place + 1] for part in queries))
            lexical = tf.gather(self._lexical(own), rows[place])
            return self._search.scores_of(own, rows[place : place + 1], lexical[tf.newaxis])[0]

        lines = tf.range(tf.size(queries.texts))
        return tf.map_fn(line, lines, fn_output_signature=tf.TensorSpec([None], tf.float32))

    def _lexical(self, query: TextQueries) -> tf.Tensor:
        """What spelling adds to every item's score for one query, float32 [N]."""
        scores = self._search.lexical(query.texts)
        return tf.zeros([self._search.size]) + tf.reshape(scores, [-1])

    def _candidates(
        self, query: TextQueries, lexical: tf.Tensor, mask: tf.Tensor, total: tf.Tensor, count: tf.Tensor
    ) -> tf.Tensor:
        """Allowed rows that are near in meaning or in letters, each once, int32 [C]."""
        size = self._search.size
        # Twice what would do if allowed items were spread evenly over the ranking.
        share = tf.cast(size, tf.float32) / tf.cast(total, tf.float32)
        spread = tf.where(share > 1.0, 2.0 * share, 1.0)
        fetch = tf.cast(tf.minimum(spread * tf.cast(count, tf.float32), float(size)), tf.int32)
        _, near = self._index.search(self._search.index_query(query), fetch)
        spelled = tf.math.top_k(tf.where(mask, lexical, -np.inf), tf.minimum(count, size))
        spelled_alike = tf.where(spelled.values > 0.0, spelled.indices, -1)
        rows = tf.unique(tf.concat([near[0], spelled_alike], axis=0)).y
        rows = tf.boolean_mask(rows, (rows >= 0) & tf.gather(mask, tf.maximum(rows, 0)))
        # An index that finds too few of a filter's items leaves the request short: then all of them are scored.
        return tf.cond(
            tf.size(rows) >= tf.minimum(count, total), lambda: rows, lambda: tf.cast(tf.where(mask)[:, 0], tf.int32)
        )
