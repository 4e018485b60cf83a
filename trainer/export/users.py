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

    def history(self, users: tf.Tensor) -> tf.RaggedTensor:
        """Int32 [B] -> rows of the items, oldest first."""
        return self._histories(users)

    def seen(self, users: tf.Tensor) -> tf.RaggedTensor:
        """Int32 [B] -> rows of the items that the user has met."""
        return self._seen(users)


class _Lines(tf.Module):
    """Int32 values in lines of unequal length; line 0 is empty and line ``u + 1`` is user ``u``'s."""

    def __init__(self, indptr: npt.NDArray[np.int64], values: npt.NDArray[np.int32]) -> None:
        super().__init__(name="lines")
        self._splits = variable(np.concatenate([[0], indptr]), tf.int64)
        self._values = variable(values, tf.int32)

    def __call__(self, lines: tf.Tensor) -> tf.RaggedTensor:
        starts, ends = tf.gather(self._splits, lines), tf.gather(self._splits, lines + 1)
        places = tf.ragged.range(starts, ends)
        return places.with_flat_values(tf.gather(self._values, places.flat_values))


def variable(values: object, dtype: tf.DType) -> tf.Variable:
    """Values that are saved with the graph and never trained."""
    return tf.Variable(tf.convert_to_tensor(values, dtype), trainable=False)
