"""Text queries inside the exported graph: exact over small catalogues, by two candidate lists over large ones."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import tensorflow as tf

from trainer.export.filters import best_rows
from trainer.export.index import Index
from trainer.models.text_search import TextQueries, TextSearch, names_no_item

# Nearest items among which the item that a query names is looked for.
_NEAREST = 32
# As many times the wanted number of items are taken from the index, and how many times more a request may need that
# bars some items: not enough to look again.
_SPARE = 2.0
_FEW_BARRED = 1.05
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


class _Spelling(NamedTuple):
    """The spelling part of one query's scores.

    Attributes:
        scores: Float32 [N].
        rows: Int32 [E], the items for which it is not 0.
        values: Float32 [E], theirs.
    """

    scores: tf.Tensor
    rows: tf.Tensor
    values: tf.Tensor

    def top(self, values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """The rows of the largest positive ``values`` [E], int32 [at most count]."""
        found = tf.math.top_k(values, tf.minimum(count, tf.size(values)))
        return tf.gather(self.rows, tf.boolean_mask(found.indices, found.values > 0.0))


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
        wanted = tf.maximum(count, self._least)

        def found() -> tuple[tf.Tensor, tf.Tensor]:
            # All at once, which costs the index much less. What a filter needs beyond is looked for line by line.
            _, near = self._index.search(self._search.index_query(queries), self._fetch(_SPARE, wanted))
            grams = self._search.grams(queries.texts)

            def line(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                own = TextQueries(*(part[place : place + 1] for part in queries))
                mask = allowed(place[tf.newaxis])[0]
                total = tf.math.count_nonzero(mask, dtype=tf.int32)
                lexical = self._spelling(grams[place])
                best = self._best(own, near[place], lexical)
                rows = tf.cond(
                    total <= self._exact_limit,
                    lambda: tf.cast(tf.where(mask)[:, 0], tf.int32),
                    lambda: self._candidates(own, near[place], lexical, best, mask, total, wanted),
                )
                spelled = tf.gather(lexical.scores, rows)[tf.newaxis]
                scores = self._search.scores_of(own, rows[tf.newaxis], spelled, best)
                kept, fit = best_rows(rows[tf.newaxis], scores, count)
                return kept[0], fit[0]

            signature = (tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32))
            # N numbers of one query at a time, not T times N.
            places = tf.range(tf.size(queries.texts))
            return tf.map_fn(line, places, fn_output_signature=signature, parallel_iterations=1)

        rows, scores = tf.cond(
            tf.size(queries.texts) > 0, found, lambda: (tf.zeros([0, count], tf.int32), tf.zeros([0, count]))
        )
        return tf.ensure_shape(rows, [None, None]), tf.ensure_shape(scores, [None, None])

    def scores_of(self, queries: TextQueries, rows: tf.Tensor) -> tf.Tensor:
        """See `TextRetrieval.scores_of`."""

        def found() -> tf.Tensor:
            few = self._fetch(1.0, tf.constant(_NEAREST))
            _, near = self._index.search(self._search.index_query(queries), few)
            grams = self._search.grams(queries.texts)

            def line(place: tf.Tensor) -> tf.Tensor:
                own = TextQueries(*(part[place : place + 1] for part in queries))
                lexical = self._spelling(grams[place])
                spelled = tf.gather(lexical.scores, rows[place])[tf.newaxis]
                best = self._best(own, near[place], lexical)
                return self._search.scores_of(own, rows[place : place + 1], spelled, best)[0]

            places = tf.range(tf.size(queries.texts))
            signature = tf.TensorSpec([None], tf.float32)
            return tf.map_fn(line, places, fn_output_signature=signature, parallel_iterations=1)

        return tf.cond(  # type: ignore[no-any-return]
            tf.size(queries.texts) > 0, found, lambda: tf.zeros([0, tf.shape(rows)[1]])
        )

    def _spelling(self, buckets: tf.Tensor) -> "_Spelling":
        """What spelling adds to the items' scores for one query, by the buckets of its n-grams."""
        scores = self._search.lexical_of_one(buckets)
        # Few items share an n-gram with a query: the best of those are found much sooner than the best of all.
        rows = tf.cast(tf.where(scores > 0.0)[:, 0], tf.int32)
        return _Spelling(scores, rows, tf.gather(scores, rows))

    def _best(self, query: TextQueries, near: tf.Tensor, lexical: "_Spelling") -> tf.Tensor:
        """The largest `TextSearch.named` of one query over the catalogue, float32 [1]; ``near`` are its nearest."""
        rows = tf.concat([tf.maximum(near[:_NEAREST], 0), lexical.top(lexical.values, tf.constant(_NEAREST))], axis=0)
        spelled = tf.gather(lexical.scores, rows)
        return tf.reduce_max(self._search.named(query, rows[tf.newaxis], spelled), axis=1)

    def _fetch(self, spread: tf.Tensor | float, wanted: tf.Tensor) -> tf.Tensor:
        """How many items to ask the index for, int32 []."""
        return tf.cast(tf.minimum(spread * tf.cast(wanted, tf.float32), float(self._search.size)), tf.int32)

    def _candidates(
        self,
        query: TextQueries,
        near: tf.Tensor,
        lexical: "_Spelling",
        best: tf.Tensor,
        mask: tf.Tensor,
        total: tf.Tensor,
        wanted: tf.Tensor,
    ) -> tf.Tensor:
        """Allowed rows that are close in meaning, spelling or categories, each once, int32 [C]."""
        # Twice what would be enough if allowed items were spread evenly over the ranking.
        spread = 2.0 * float(self._search.size) / tf.cast(total, tf.float32)
        near = tf.cond(
            # Some items fewer are not worth another search: what the first one brought has them to spare.
            spread <= _SPARE * _FEW_BARRED,
            lambda: near,
            lambda: self._index.search(self._search.index_query(query), self._fetch(spread, wanted))[1][0],
        )
        lists = [near, lexical.top(tf.where(tf.gather(mask, lexical.rows), lexical.values, 0.0), wanted)]
        if self._search.reads_categories:
            lists.append(
                tf.cond(
                    names_no_item(best)[0] > 0.0,
                    lambda: self._top(tf.where(mask, self._described(query), 0.0), wanted),
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
        """Scores by category, within a category by popularity, float32 [N]; 0 where no category is similar."""
        similar = self._search.described(query)[0]
        return tf.where(similar > 0.0, tf.nn.relu(similar + self._search.popularity), 0.0)

    @staticmethod
    def _top(scores: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """The rows of the largest positive scores of [N], int32 [count]; -1 where there are fewer."""
        found = tf.math.top_k(scores, tf.minimum(count, tf.size(scores)))
        return tf.where(found.values > 0.0, found.indices, -1)
