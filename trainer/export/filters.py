"""Filters of a request (languages, categories, exclusions), as rows of the catalogue."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.catalogue import Catalogue
from trainer.export.bounds import rare

# Maximum items of labels to mark for all requests at once, at some 25 bytes each.
_AT_ONCE = 1 << 22


class Postings(tf.Module):
    """Item rows by label, for instance by category.

    Args:
        labels: P labels; a request's labels are matched after lower-casing.
        rows: Item rows of each label.
        size: N, number of items.
    """

    def __init__(self, labels: list[str], rows: list[npt.NDArray[np.int32]], size: int, *, name: str) -> None:
        super().__init__(name=name)
        self._size = size
        self._count = max(len(labels), 1)
        self._table = string_table([label.lower() for label in labels])
        lengths = np.array([len(part) for part in rows], np.int64)
        self._splits = tf.Variable(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), trainable=False)
        self._rows = tf.Variable(
            np.concatenate([*rows, np.zeros(0, np.int32)]).astype(np.int32), trainable=False, validate_shape=False
        )

    def masks(self, labels: tf.Tensor) -> tf.Tensor:
        """Items that have any of each request's labels.

        Args:
            labels: String [B, L]; empty strings are padding. A row without labels allows every item,
                a row of unknown labels none.

        Returns:
            Bool [B, N].
        """
        found = self._lookup(labels)
        place = tf.where(found >= 0)
        # Otherwise a repeated label would add its items again.
        pairs = tf.unique(place[:, 0] * self._count + tf.cast(tf.gather_nd(found, place), tf.int64)).y
        requests, known = pairs // self._count, pairs % self._count
        total = tf.reduce_sum(tf.gather(self._splits, known + 1) - tf.gather(self._splits, known))

        def at_once() -> tf.Tensor:
            places = self._places(known)
            owners = tf.repeat(tf.cast(requests, tf.int32), places.row_lengths())
            pairs = tf.stack([owners, tf.gather(self._rows, places.values)], axis=1)
            flags = tf.scatter_nd(pairs, tf.ones_like(owners, tf.bool), tf.stack([tf.shape(labels)[0], self._size]))
            return flags | self._asks_nothing(labels)

        @rare
        def by_row() -> tf.Tensor:
            signature = tf.TensorSpec([self._size], tf.bool)
            return tf.map_fn(self.mask, labels, fn_output_signature=signature, parallel_iterations=1)

        return tf.cond(total <= _AT_ONCE, at_once, by_row)

    def mask(self, labels: tf.Tensor) -> tf.Tensor:
        """Like `masks`, for the labels of one request, string [L]: bool [N]."""
        found = self._lookup(labels)
        known = tf.unique(tf.boolean_mask(found, found >= 0)).y
        items = tf.gather(self._rows, self._places(known).values)
        flags = tf.scatter_nd(items[:, tf.newaxis], tf.ones_like(items, tf.bool), [self._size])
        return flags | self._asks_nothing(labels)

    def _lookup(self, labels: tf.Tensor) -> tf.Tensor:
        """The index of each label, -1 if unknown."""
        return self._table.lookup(tf.strings.lower(labels, encoding="utf-8"))

    def _places(self, known: tf.Tensor) -> tf.RaggedTensor:
        """Positions of the items of labels [n]: int64 [n, items]."""
        return tf.ragged.range(tf.gather(self._splits, known), tf.gather(self._splits, known + 1))

    @staticmethod
    def _asks_nothing(labels: tf.Tensor) -> tf.Tensor:
        """Whether a request has no labels, bool [..., 1]."""
        return ~tf.reduce_any(tf.strings.length(labels) > 0, axis=-1, keepdims=True)


def language_postings(catalogue: Catalogue) -> Postings:
    """Items by language range: ``zh`` allows ``zh``, ``zh-TW`` and ``zh-Hans`` (RFC 4647, basic filtering)."""
    ranges: dict[str, list[int]] = {}
    for row, language in enumerate(catalogue.languages):
        for label in language_ranges(language):
            ranges.setdefault(label, []).append(row)
    labels = sorted(ranges)
    return Postings(labels, [np.array(ranges[label], np.int32) for label in labels], len(catalogue), name="languages")


def language_ranges(language: str) -> list[str]:
    """The ranges that allow a language, in lower case: ``zh`` and ``zh-tw`` for ``zh-TW``."""
    parts = language.lower().split("-")
    return ["-".join(parts[:length]) for length in range(1, len(parts) + 1)]


def category_postings(catalogue: Catalogue) -> Postings:
    """Items by category label, ignoring case."""
    labels = sorted({label.lower() for label in catalogue.category_labels})
    place = {label: number for number, label in enumerate(labels)}
    of_label = np.array([place[label.lower()] for label in catalogue.category_labels], np.int64)
    items, columns = np.nonzero(catalogue.categories >= 0)
    size = len(catalogue)
    # All pairs at once: a pass over the catalogue for each label would grow with the product of both.
    pairs = np.unique(of_label[catalogue.categories[items, columns]] * size + items)
    bounds = np.searchsorted(pairs, np.arange(1, len(labels)) * size)
    rows = np.split((pairs % size).astype(np.int32), bounds) if labels else []
    return Postings(labels, rows, size, name="categories")


def string_table(values: list[str]) -> tf.lookup.StaticHashTable:
    """String -> position in ``values``, -1 for others."""
    # TensorFlow refuses an empty table; its one key then means "not found".
    keys = tf.constant(values or [""], tf.string)
    places = tf.range(len(values), dtype=tf.int32) if values else tf.constant([-1])
    initializer = tf.lookup.KeyValueTensorInitializer(keys, places)
    return tf.lookup.StaticHashTable(initializer, default_value=-1)


def contains(rows: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Whether each of int32 ``rows`` [B, C] is in its row of ``wanted`` [B, E]; -1 never is.

    Returns:
        Bool [B, C].
    """
    # Sorted search: C log E comparisons a line instead of C times E.
    ordered = tf.sort(wanted, axis=1)
    width = tf.shape(ordered)[1]
    padded = tf.concat([ordered, tf.fill([tf.shape(ordered)[0], 1], tf.int32.max)], axis=1)
    place = tf.minimum(tf.searchsorted(padded, rows), width)
    return (tf.gather(padded, place, batch_dims=1) == rows) & (rows >= 0)


def best_rows(rows: tf.Tensor, scores: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The ``count`` highest scores among rows >= 0, padded with -1 and -inf."""
    width = tf.shape(scores)[1]
    best = tf.math.top_k(tf.where(rows >= 0, scores, -np.inf), tf.minimum(count, width))
    rows = tf.gather(rows, best.indices, batch_dims=1)
    missing = [[0, 0], [0, count - tf.minimum(count, width)]]
    return tf.pad(rows, missing, constant_values=-1), tf.pad(best.values, missing, constant_values=-np.inf)
