"""Histories and seen items of known users, as tensors of the served graph."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.user_items import UserItems
from trainer.export.filters import string_table


class UserTable(tf.Module):
    """Data of each user of the training part.

    Args:
        users: U ids, in the order of the vocabulary.
        histories: Item rows of each user's positives.
        seen: Item rows of all items that each user has interacted with; excluded by default.
        features: Request feature -> int32 [U] vocabulary indices from the users' profiles, 0 unknown.
    """

    def __init__(
        self,
        users: list[str],
        histories: UserItems,
        seen: UserItems,
        features: Mapping[str, npt.NDArray[np.integer]],
    ) -> None:
        super().__init__(name="users")
        self._table = string_table(users)
        self._histories = Lines(histories)
        self._seen = Lines(seen)
        self._features = {name: _of_users(values) for name, values in features.items()}

    def index(self, user_ids: tf.Tensor) -> tf.Tensor:
        """String [B] -> int32 [B] vocabulary index, 0 unknown."""
        return self._table.lookup(user_ids) + 1

    def newest(self, users: tf.Tensor, length: int) -> tf.Tensor:
        """Int32 [B] -> rows of the last ``length`` positives, newest first, int32 [B, length], -1 pads."""
        return self._histories.last(users, length)

    def own_where_absent(self, feature: str, values: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
        """Int32 [B] values of a request feature -> the same, with the profile's value where a request has none."""
        own = self._features[feature]
        return values if own is None else tf.where(values > 0, values, tf.gather(own, users))

    def seen(self, users: tf.Tensor) -> tf.Tensor:
        """Int32 [B] -> rows of the items that each user has interacted with, int32 [B, longest], padded with -1."""
        return self._seen.all(users)


def _of_users(values: npt.NDArray[np.integer]) -> tf.Variable | None:
    """Prepends a value for unknown users; None if no user has a value, so that the graph needs no operation."""
    return variable(np.concatenate([[0], values]), tf.int32) if values.any() else None


class Lines(tf.Module):
    """Int32 values in lines of varying length; line 0 is empty, and line ``u + 1`` belongs to user ``u``.

    Attributes:
        values: Int32 [total + 1]; the last is -1, "none".
    """

    def __init__(self, lines: UserItems) -> None:
        super().__init__(name="lines")
        self._splits = variable(np.concatenate([[0], lines.indptr]), tf.int64)
        # One more value, for "none".
        self.values = variable(np.append(lines.items, -1), tf.int32)
        self._nothing = len(lines.items)

    def last(self, lines: tf.Tensor, length: int) -> tf.Tensor:
        """The last values of each line, in reverse order."""
        place = tf.gather(self._splits, lines + 1)[:, tf.newaxis] - tf.range(1, length + 1, dtype=tf.int64)
        is_there = place >= tf.gather(self._splits, lines)[:, tf.newaxis]
        return tf.gather(self.values, tf.where(is_there, place, self._nothing))

    def all(self, lines: tf.Tensor) -> tf.Tensor:
        """All values of each line, padded to the longest."""
        return tf.gather(self.values, self.places(lines))

    def places(self, lines: tf.Tensor) -> tf.Tensor:
        """Where the values of each line are in ``values``, padded to the longest with the place of "none"."""
        starts, ends = tf.gather(self._splits, lines), tf.gather(self._splits, lines + 1)
        place = starts[:, tf.newaxis] + tf.range(tf.reduce_max(tf.concat([[0], ends - starts], axis=0)))
        return tf.where(place < ends[:, tf.newaxis], place, self._nothing)


def variable(values: object, dtype: tf.DType) -> tf.Variable:
    """Values that are saved with the graph and never trained."""
    return tf.Variable(tf.convert_to_tensor(values, dtype), trainable=False)
