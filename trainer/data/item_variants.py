"""Additional texts of a catalogue's items, one of which may replace the item's own."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf


class ItemVariants(tf.Module):
    """M texts of N items, stored contiguously: an item without any takes no memory.

    Args:
        size: N.
        rows: Int [M], the item of each text.
        texts: [M, ...], in the form of the item table's own: float32 vectors or strings.
        languages: M vocabulary indices.
    """

    def __init__(
        self,
        size: int,
        rows: npt.NDArray[np.integer],
        texts: npt.NDArray[np.float32] | tf.Tensor,
        languages: Sequence[int],
    ) -> None:
        super().__init__(name="item_variants")
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=size)
        with tf.device("CPU:0"):
            self._counts = tf.Variable(counts.astype(np.int32), trainable=False)
            self._starts = tf.Variable((np.cumsum(counts) - counts).astype(np.int32), trainable=False)
            self._texts = tf.Variable(tf.gather(tf.convert_to_tensor(texts), order), trainable=False)
            self._languages = tf.Variable(np.asarray(languages, np.int32)[order], trainable=False)

    def choose(self, rows: tf.Tensor, own: tf.Tensor, languages: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws one text of each item, its own or a variant, all equally likely.

        Args:
            rows: Int32 [n].
            own: [n, ...], the items' own texts.
            languages: Int32 [n], their languages.

        Returns:
            Texts [n, ...] and int32 languages [n].
        """
        counts = tf.gather(self._counts, rows)
        draw = tf.random.uniform(tf.shape(rows)) * tf.cast(counts + 1, tf.float32)
        # float32 may round a draw just below the end up to it.
        pick = tf.minimum(tf.cast(draw, tf.int32), counts)
        places = tf.gather(self._starts, rows) + tf.maximum(pick - 1, 0)
        # An item without variants has no position of its own; the value read there is not used.
        places = tf.minimum(places, tf.size(self._languages) - 1)
        other = pick > 0
        broad = tf.reshape(other, tf.concat([tf.shape(rows), tf.ones([tf.rank(own) - 1], tf.int32)], axis=0))
        return (
            tf.where(broad, tf.gather(self._texts, places), own),
            tf.where(other, tf.gather(self._languages, places), languages),
        )
