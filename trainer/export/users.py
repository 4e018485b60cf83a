"""Histories and seen items of known users, as tensors of the served graph."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.export.filters import string_table


class UserTable(tf.Module):
    """What is known of each user of the training part.

    Args:
        users: U ids, in the order of the vocabulary.
        histories: ``(indptr, rows)`` of each user's positives, oldest first.
        seen: The same of every item that the user has met; excluded by default.
    """

    def __init__(
        self,
        users: list[str],
        histories: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]],
        seen: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]],
    ) -> None:
        super().__init__(name="users")
        self._table = string_table(users)
        self._histories = _Lines(*histories)
        self._seen = _Lines(*seen)

    def index(self, user_ids: tf.Tensor) -> tf.Tensor:
        """String [B] -> int32 [B] vocabulary index, 0 unknown."""
        return self._table.lookup(user_ids) + 1

    def newest(self, users: tf.Tensor, length: int) -> tf.Tensor:
        """Int32 [B] -> rows of the last ``length`` positives, newest first, int32 [B, length], -1 pads."""
        return self._histories.last(users, length)

    def seen(self, users: tf.Tensor) -> tf.Tensor:
        """Int32 [B] -> rows of the items that each user has met, int32 [B, most of the batch], -1 pads."""
        return self._seen.all(users)


class _Lines(tf.Module):
    """Int32 values in lines of unequal length; line 0 is empty and line ``u + 1`` is user ``u``'s."""

    def __init__(self, indptr: npt.NDArray[np.int64], values: npt.NDArray[np.int32]) -> None:
        super().__init__(name="lines")
        self._splits = variable(np.concatenate([[0], indptr]), tf.int64)
        # One value more for "nothing".
        self._values = variable(np.append(values, -1), tf.int32)
        self._nothing = len(values)

    def last(self, lines: tf.Tensor, length: int) -> tf.Tensor:
        """The last values of each line, last one first."""
        place = tf.gather(self._splits, lines + 1)[:, tf.newaxis] - tf.range(1, length + 1, dtype=tf.int64)
        is_there = place >= tf.gather(self._splits, lines)[:, tf.newaxis]
        return tf.gather(self._values, tf.where(is_there, place, self._nothing))

    def all(self, lines: tf.Tensor) -> tf.Tensor:
        """The values of each line, as wide as the longest."""
        starts, ends = tf.gather(self._splits, lines), tf.gather(self._splits, lines + 1)
        place = starts[:, tf.newaxis] + tf.range(tf.reduce_max(tf.concat([[0], ends - starts], axis=0)))
        return tf.gather(self._values, tf.where(place < ends[:, tf.newaxis], place, self._nothing))


def variable(values: object, dtype: tf.DType) -> tf.Variable:
    """Values that are saved with the graph and never trained."""
    return tf.Variable(tf.convert_to_tensor(values, dtype), trainable=False)
