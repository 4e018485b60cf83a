"""Requests on indices: what training, validation, evaluation and the exported graph hand to the towers."""

from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl
import tensorflow as tf

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of

_Ints = npt.NDArray[np.integer]


class RequestBatch(TypedDict):
    """B requests.

    ``user``, ``language``, ``country``: int32 [B] vocabulary indices. ``history``: int32 [B, H] catalogue rows, newest
    first, -1 pads. ``timestamp``: int64 [B]. ``text``: int32 [B], what is typed: -1 nothing, below N the text of that
    catalogue row, from N on the category label ``text - N``.
    """

    user: tf.Tensor
    language: tf.Tensor
    country: tf.Tensor
    history: tf.Tensor
    timestamp: tf.Tensor
    text: tf.Tensor


def request_batch_signature(history_length: int) -> RequestBatch:
    """The `tf.TensorSpec`s of a batch of any size."""
    index = tf.TensorSpec([None], tf.int32)
    return RequestBatch(
        user=index,
        language=index,
        country=index,
        history=tf.TensorSpec([None, history_length], tf.int32),
        timestamp=tf.TensorSpec([None], tf.int64),
        text=index,
    )


def user_profiles(dataset: Dataset) -> pl.DataFrame:
    """``user_id``, and where the dataset has them ``user_language`` (the user's first) and ``country``."""
    profiles = dataset.users()
    if profiles is None:
        return pl.DataFrame(schema={"user_id": pl.String})
    columns = profiles.collect_schema().names()
    wanted = [pl.col("user_id")]
    if "languages" in columns:
        wanted.append(pl.col("languages").list.first().alias("user_language"))
    if "country" in columns:
        wanted.append(pl.col("country"))
    return profiles.select(wanted).collect()


def vocabulary_indices(table: pl.DataFrame, columns: list[str], index: dict[str, int]) -> npt.NDArray[np.int32]:
    """Int32 [rows] index of the first of the text ``columns`` that has a value; 0 unknown or absent."""
    present = [name for name in columns if name in table.columns]
    if not present or not index:
        return np.zeros(table.height, np.int32)
    values = table.select(pl.coalesce(present).alias("value"))["value"]
    return values.replace_strict(index, default=UNKNOWN, return_dtype=pl.Int32).fill_null(UNKNOWN).to_numpy()


@dataclass(frozen=True, eq=False)
class Requests:
    """U requests, each with a whole history.

    Attributes:
        histories: Catalogue rows.
        users, languages, countries: Int32 [U] vocabulary indices, 0 unknown or absent.
        timestamps: Int64 [U] unix seconds, 0 absent.
    """

    histories: UserItems
    users: _Ints
    languages: _Ints
    countries: _Ints
    timestamps: npt.NDArray[np.int64]

    @classmethod
    def of_histories(cls, histories: UserItems, users: _Ints | None = None) -> "Requests":
        """Requests that say nothing but a history and, where ``users`` is given, who asks."""
        absent = np.zeros(len(histories), np.int32)
        return cls(histories, absent if users is None else users, absent, absent, absent.astype(np.int64))

    @classmethod
    def of_nobody(cls, size: int) -> "Requests":
        """Requests that say nothing at all."""
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
        timestamps: npt.NDArray[np.int64] | None = None,
    ) -> "Requests":
        """One request of each of some users.

        Args:
            users: Their ids, U; a user may ask several times.
            positives: Histories: user_id, item_id, timestamp.
            catalogue: Gives item rows.
            vocabulary: Says which users, languages and countries the model knows.
            known: False asks as unknown users, by history and profile alone.
            profiles: As of `user_profiles`; None: nobody has one.
            moments: user_id, timestamp and perhaps language of what is asked for; a user's first row by time counts,
                and its language before the profile's.
            timestamps: Int64 [U], when each asks; None: at the time of ``moments``, or at no time.
        """
        index = index_of(vocabulary.users) if known else {}
        table = pl.DataFrame({"user_id": users}, schema={"user_id": pl.String})
        if profiles is not None:
            table = table.join(profiles, on="user_id", how="left", maintain_order="left")
        times = np.zeros(len(users), np.int64)
        if moments is not None:
            names = [name for name in ("user_id", "timestamp", "language") if name in moments.columns]
            first = moments.select(names).sort("timestamp", maintain_order=True).unique("user_id", keep="first")
            table = table.join(first, on="user_id", how="left", maintain_order="left")
            times = table["timestamp"].fill_null(0).to_numpy()
        return cls(
            UserItems.of(positives, catalogue, users),
            np.array([index.get(user, UNKNOWN) for user in users], np.int32),
            vocabulary_indices(table, ["language", "user_language"], index_of(vocabulary.languages)),
            vocabulary_indices(table, ["country"], index_of(vocabulary.countries)),
            times if timestamps is None else timestamps,
        )

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, part: slice) -> "Requests":
        """A run of requests."""
        return Requests(
            self.histories[part], self.users[part], self.languages[part], self.countries[part], self.timestamps[part]
        )

    def at(self, rows: npt.NDArray[np.integer]) -> "Requests":
        """The given requests [n], repeated ones included."""
        return Requests(
            self.histories.at(rows), self.users[rows], self.languages[rows], self.countries[rows], self.timestamps[rows]
        )

    def and_nobody(self) -> "Requests":
        """The same, and behind them a request that says nothing."""
        histories = self.histories
        return Requests(
            UserItems(np.append(histories.indptr, histories.indptr[-1]), histories.items),
            *(np.append(column, 0) for column in (self.users, self.languages, self.countries, self.timestamps)),
        )

    def with_histories(self, histories: UserItems) -> "Requests":
        """The same requests with other histories."""
        return replace(self, histories=histories)

    def batch(self, history_length: int) -> RequestBatch:
        """As the towers read them, without text.

        Args:
            history_length: Items of a history that the query tower reads.
        """
        users = tf.constant(self.users, tf.int32)
        return RequestBatch(
            user=users,
            language=tf.constant(self.languages, tf.int32),
            country=tf.constant(self.countries, tf.int32),
            history=tf.constant(self.histories.newest(history_length)),
            timestamp=tf.constant(self.timestamps, tf.int64),
            text=tf.fill(tf.shape(users), -1),
        )
