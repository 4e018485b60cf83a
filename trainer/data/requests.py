"""Requests on indices: the towers' input in training, validation, evaluation and the exported graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl
import tensorflow as tf

from trainer.data.catalogue import Catalogue
from trainer.data.query_features import QUERY_FEATURES, feature_columns
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of

_Ints = npt.NDArray[np.integer]


class RequestFeatures(TypedDict):
    """Inputs of the query tower for B requests, except text.

    ``user``: int32 [B] vocabulary index. ``features``: name (`trainer.data.query_features`) -> int32 [B] vocabulary
    index. ``history``: int32 [B, H] catalogue rows, newest first, -1 pads. ``timestamp``: int64 [B], 0 absent.
    """

    user: tf.Tensor
    features: dict[str, tf.Tensor]
    history: tf.Tensor
    timestamp: tf.Tensor


class RequestBatch(RequestFeatures):
    """B requests.

    ``text``: int32 [B], the text query: -1 none, below N the text of that catalogue row, from N on the category label
    ``text - N``.
    """

    text: tf.Tensor


def request_batch_signature(history_length: int) -> RequestBatch:
    """The `tf.TensorSpec`s of a batch of any size."""
    index = tf.TensorSpec([None], tf.int32)
    return RequestBatch(
        user=index,
        features={feature.name: index for feature in QUERY_FEATURES},
        history=tf.TensorSpec([None, history_length], tf.int32),
        timestamp=tf.TensorSpec([None], tf.int64),
        text=index,
    )


def feature_indices(table: pl.DataFrame, vocabulary: Vocabulary) -> dict[str, npt.NDArray[np.int32]]:
    """Feature -> int32 [rows] vocabulary index; 0 unknown or absent.

    Args:
        table: Interactions joined with `trainer.data.query_features.user_profiles`; their own features take precedence.
        vocabulary: The known values.
    """
    return {
        feature.name: vocabulary_indices(
            table, [feature.name, feature.of_profile], index_of(vocabulary.query_values[feature.name])
        )
        for feature in QUERY_FEATURES
    }


def vocabulary_indices(table: pl.DataFrame, columns: list[str], index: dict[str, int]) -> npt.NDArray[np.int32]:
    """Int32 [rows] index of the first of the text ``columns`` that has a value; 0 unknown or absent."""
    present = [name for name in columns if name in table.columns]
    if not present or not index:
        return np.zeros(table.height, np.int32)
    values = table.select(pl.coalesce(present).alias("value"))["value"]
    return values.replace_strict(index, default=UNKNOWN, return_dtype=pl.Int32).fill_null(UNKNOWN).to_numpy()


@dataclass(frozen=True, eq=False)
class Requests:
    """U requests, each with a complete history.

    Attributes:
        histories: Catalogue rows.
        users: Int32 [U] vocabulary indices, 0 unknown or absent.
        features: Feature (`trainer.data.query_features`) -> the same.
        timestamps: Int64 [U] unix seconds, 0 absent.
    """

    histories: UserItems
    users: _Ints
    features: Mapping[str, _Ints]
    timestamps: npt.NDArray[np.int64]

    @classmethod
    def of_histories(cls, histories: UserItems, users: _Ints | None = None) -> "Requests":
        """Requests with only a history and, if ``users`` is given, a user."""
        absent = np.zeros(len(histories), np.int32)
        features = {feature.name: absent for feature in QUERY_FEATURES}
        return cls(histories, absent if users is None else users, features, absent.astype(np.int64))

    @classmethod
    def of_nobody(cls, size: int) -> "Requests":
        """Requests without any information."""
        return cls.of_histories(UserItems.of_lists([[]] * size))

    @classmethod
    def of_users(
        cls,
        users: list[str],
        positives: pl.DataFrame,
        catalogue: Catalogue,
        vocabulary: Vocabulary,
        *,
        known: bool = True,
        profiles: pl.DataFrame | None = None,
        moments: pl.DataFrame | None = None,
    ) -> "Requests":
        """One request for each user.

        Args:
            users: U user ids.
            positives: Histories: user_id, item_id, timestamp.
            catalogue: Maps item ids to rows.
            vocabulary: The users and feature values known to the model.
            known: False treats the users as unknown, with only history and profile.
            profiles: From `trainer.data.query_features.user_profiles`; None: no profiles.
            moments: user_id, timestamp and optionally features of the requests; a user's earliest row is used, and
                its features take precedence over the profile's.
        """
        index = index_of(vocabulary.users) if known else {}
        table = pl.DataFrame({"user_id": users}, schema={"user_id": pl.String})
        if profiles is not None:
            table = table.join(profiles, on="user_id", how="left", maintain_order="left")
        timestamps = np.zeros(len(users), np.int64)
        if moments is not None:
            first = (
                moments.select("user_id", "timestamp", *feature_columns(moments))
                .sort("timestamp", maintain_order=True)
                .unique("user_id", keep="first")
            )
            table = table.join(first, on="user_id", how="left", maintain_order="left")
            timestamps = table["timestamp"].fill_null(0).to_numpy()
        return cls(
            UserItems.of(positives, catalogue, users),
            np.array([index.get(user, UNKNOWN) for user in users], np.int32),
            feature_indices(table, vocabulary),
            timestamps,
        )

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, part: slice) -> "Requests":
        """Some consecutive requests."""
        return self._of(self.histories[part], lambda column: column[part])

    def at(self, rows: npt.NDArray[np.integer]) -> "Requests":
        """The requests at the given positions [n], which may repeat."""
        return self._of(self.histories.at(rows), lambda column: column[rows])

    def and_nobody(self) -> "Requests":
        """The same, followed by a request without any information."""
        histories = self.histories
        longer = UserItems(np.append(histories.indptr, histories.indptr[-1]), histories.items)
        return self._of(longer, lambda column: np.append(column, 0))

    def _of(self, histories: UserItems, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> "Requests":
        features = {name: change(column) for name, column in self.features.items()}
        return Requests(histories, change(self.users), features, change(self.timestamps))

    def batch(self, history_length: int) -> RequestBatch:
        """The requests as input of the towers, without text.

        Args:
            history_length: Items of a history that the query tower reads.
        """
        users = tf.constant(self.users, tf.int32)
        return RequestBatch(
            user=users,
            features={name: tf.constant(column, tf.int32) for name, column in self.features.items()},
            history=tf.constant(self.histories.newest(history_length)),
            timestamp=tf.constant(self.timestamps, tf.int64),
            text=tf.fill(tf.shape(users), -1),
        )
