"""Limits on requests to the exported graph: texts, filters and histories are bounded before they are processed.

An entry of a request is a few bytes, but the tensors derived from it can be a thousand times as large. The bounds are
operations of the graph, in front of its lookups, tokenisers and masks, so every server of the SavedModel enforces them.
They cost an ordinary request only a few comparisons.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from trainer.export.settings import LimitsConfig

# Maximum bytes of texts that are encoded together, and bytes per part if there are more: the encoder needs 5 to 25 KB
# per byte. A part with a longer text has less room for others.
_ENCODED_AT_ONCE = 3_584
_PART = 1_536
# An empty text still has two tokens, the marks of its boundaries.
_BYTES_OF_NOTHING = 4
# Compiled as a separate function: the executor visits each operation of a branch even if it is not taken, but a call is
# a single operation.
rare = tf.function(experimental_attributes={"_noinline": True}, autograph=False)
Encode = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Bounds:
    """The limits of an export, as operations.

    Args:
        limits: The limits.
        history_length: Items of a history that the query tower reads; histories are never cut to fewer.
    """

    def __init__(self, limits: LimitsConfig, history_length: int) -> None:
        self._limits = limits
        self.history = max(limits.history, history_length)

    def rows(self, values: tf.Tensor) -> tf.Tensor:
        """String [B] or [B, C] -> the same.

        Raises:
            InvalidArgumentError: There are more than ``limits.rows`` rows.
        """
        check = _refuse_more("A request", tf.shape(values)[0], self._limits.rows, "rows", "rows")
        with tf.control_dependencies([check]):
            return tf.identity(values)

    def texts(self, texts: tf.Tensor) -> tf.Tensor:
        """String [n] -> the same, each cut like in `text`.

        Raises:
            InvalidArgumentError: There are more than ``limits.texts``.
        """
        check = _refuse_more("A request", tf.size(texts), self._limits.texts, "texts", "texts")
        with tf.control_dependencies([check]):
            return self.text(tf.identity(texts))

    def items(self, count: tf.Tensor, size: int) -> tf.Tensor:
        """Number of items of the longest result in a batch, int32 [], at most ``size`` -> the same.

        Raises:
            InvalidArgumentError: It is more than ``limits.k``.
        """
        if size <= self._limits.k:
            return count
        check = _refuse_more("An answer", count, self._limits.k, "items per row", "k")
        with tf.control_dependencies([check]):
            return tf.identity(count)

    def ranked(self, item_ids: tf.Tensor, candidates: int = 0) -> tf.Tensor:
        """String [B, C] -> the same.

        Args:
            item_ids: Items to rank.
            candidates: That many are always allowed, and ``limits.k``, if it is not 0: they are a request's own.

        Raises:
            InvalidArgumentError: There are more than ``limits.rank_items`` columns.
        """
        most = self._limits.rank_items if not candidates else max(self._limits.rank_items, self._limits.k, candidates)
        check = _refuse_more("Input item_ids", tf.shape(item_ids)[1], most, "items per row", "rank_items")
        with tf.control_dependencies([check]):
            return tf.identity(item_ids)

    def text(self, texts: tf.Tensor) -> tf.Tensor:
        """String [n] -> string [n], each cut to ``limits.text_bytes`` at a character boundary."""
        most = self._limits.text_bytes
        return tf.cond(_longest(texts) > most, rare(lambda: cut_texts(texts, most)), lambda: texts)

    def request(
        self, query: tf.Tensor, history: tf.Tensor, filters: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Cuts texts as `text` does and histories to their newest items, and drops repeated entries of filters.

        Rows are independent, and padding is not counted: a request that a server batches with a wider one, and pads to
        its width, loses nothing.

        Args:
            query: String [B].
            history: String [B, H], the newest item in the last column; empty strings are padding.
            filters: String [B, E] by name, padded likewise; each name is one of the limits.

        Returns:
            The inputs, unchanged if all are within their limits. Otherwise the lists have as many columns as their
            limits, padded in front (``history``) or at the end.

        Raises:
            InvalidArgumentError: A row of a filter has more distinct values than its limit.
        """
        # One condition for all: the time of a small request depends on the number of operations.
        most = {"query": self._limits.text_bytes, "history": self.history}
        most |= {name: getattr(self._limits, name) for name in filters}
        values = [query, history, *filters.values()]
        sizes = tf.stack([_longest(query), *(tf.shape(value)[1] for value in values[1:])])

        @rare
        def bounded() -> list[tf.Tensor]:
            return [
                cut_texts(query, most["query"]),
                _newest(history, most["history"]),
                *(_distinct(value, name, most[name]) for name, value in filters.items()),
            ]

        within = tf.reduce_all(sizes <= tf.constant(list(most.values())))
        query, history, *others = tf.cond(within, lambda: values, bounded)
        return query, history, dict(zip(filters, others, strict=True))


def cut_texts(texts: tf.Tensor, most: int) -> tf.Tensor:
    """Cuts texts to at most ``most`` bytes, at a character boundary.

    Args:
        texts: String [n] in UTF-8; invalid bytes may be cut anywhere.
        most: Maximum bytes, at least 4.

    Returns:
        String [n].
    """

    places = tf.where(tf.strings.length(texts) > most)
    long = tf.gather_nd(texts, places)
    # The last three bytes that fit and the first that doesn't.
    edge = tf.cast(tf.io.decode_raw(tf.strings.substr(long, most - 3, 4), tf.uint8), tf.int32)
    edge = tf.reshape(edge, [-1, 4])
    continues = (edge >= 0x80) & (edge < 0xC0)
    wanted = tf.where(edge >= 0xF0, 4, tf.where(edge >= 0xE0, 3, tf.where(edge >= 0xC0, 2, 0)))
    spare = tf.zeros_like(edge[:, 0])
    inside = continues[:, 3]
    for back in (1, 2, 3):
        # The character that begins this many bytes before the edge extends beyond it.
        spare = tf.where(inside & (wanted[:, 3 - back] > back), back, spare)
        inside &= continues[:, 3 - back]
    short = tf.strings.substr(long, tf.zeros_like(spare), most - spare)
    return tf.tensor_scatter_nd_update(texts, places, short)


def encode_in_parts(encode: Encode, width: int, texts: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
    """Encodes many or long texts part by part, so that working memory does not grow with their number.

    Args:
        encode: String [n] texts and languages -> float32 [n, T].
        width: T.
        texts: String [n]; for none, the encoder is not run.
        languages: String [n].

    Returns:
        Float32 [n, T].
    """
    sizes = tf.strings.length(texts) + _BYTES_OF_NOTHING
    total = tf.reduce_sum(sizes)

    @rare
    def by_parts() -> tf.Tensor:
        parts = (tf.cumsum(sizes) - 1) // _PART
        count = parts[-1] + 1
        starts = tf.searchsorted(parts, tf.range(count + 1))

        def one(place: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            own = slice(starts[place], starts[place + 1])
            return place + 1, done.write(place, tf.ensure_shape(encode(texts[own], languages[own]), [None, width]))

        done = tf.TensorArray(tf.float32, count, element_shape=[None, width], infer_shape=False)
        return tf.while_loop(lambda place, _: place < count, one, (0, done), parallel_iterations=1)[1].concat()

    return tf.switch_case(
        tf.cast(total > 0, tf.int32) + tf.cast(total > _ENCODED_AT_ONCE, tf.int32),
        [lambda: tf.zeros([0, width]), lambda: tf.ensure_shape(encode(texts, languages), [None, width]), by_parts],
    )


def _longest(texts: tf.Tensor) -> tf.Tensor:
    """Bytes of the longest text, int32; negative if there are no texts."""
    return tf.reduce_max(tf.strings.length(texts))


def _newest(history: tf.Tensor, most: int) -> tf.Tensor:
    """The last ``most`` non-empty entries of each row, string [B, most], padded in front."""
    there = tf.strings.length(history) > 0
    # Number of entries from here to the end of the row.
    rank = tf.cumsum(tf.cast(there, tf.int32), axis=1, reverse=True)
    kept = tf.where(there & (rank <= most))
    places = tf.stack([tf.cast(kept[:, 0], tf.int32), most - tf.gather_nd(rank, kept)], axis=1)
    return tf.scatter_nd(places, tf.gather_nd(history, kept), tf.stack([tf.shape(history)[0], most]))


def _distinct(values: tf.Tensor, name: str, most: int) -> tf.Tensor:
    """The distinct values of each row, string [B, most], padded at the end.

    Raises:
        InvalidArgumentError: A row has more than ``most``.
    """

    def one(row: tf.Tensor) -> tf.Tensor:
        # Row by row: values of requests in one batch must never be confused.
        found = tf.unique(tf.boolean_mask(row, tf.strings.length(row) > 0)).y
        count = tf.size(found)
        with tf.control_dependencies([_refuse_more(f"Input {name}", count, most, "different values per row", name)]):
            return tf.concat([found, tf.fill([most - count], "")], axis=0)

    return tf.map_fn(one, values, fn_output_signature=tf.TensorSpec([most], tf.string), parallel_iterations=1)


def _refuse_more(name: str, count: tf.Tensor, most: int, of_what: str, setting: str) -> tf.Operation:
    message = tf.constant(f"{name} may have {most} {of_what} (export.limits.{setting}); given:")
    return tf.raw_ops.Assert(condition=count <= most, data=[message, count])
