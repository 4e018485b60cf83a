"""Items of each user in the order of time: histories, items seen, held-out positives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.ids import by_length


def by_time() -> list[pl.Expr]:
    """Keys that sort one user's events by time, then shorter item ids first, then by id.

    Numeric ids then compare as numbers. The split, histories and training examples break ties alike.
    """
    return [pl.col("timestamp"), *by_length("item_id")]


@dataclass(frozen=True, eq=False)
class UserItems:
    """Users x items as compressed rows: user ``u`` has ``items[indptr[u] : indptr[u + 1]]``, oldest first.

    Attributes:
        indptr: Int64 [U + 1].
        items: Int32 [total], rows of a catalogue or other item indices.
    """

    indptr: npt.NDArray[np.int64]
    items: npt.NDArray[np.integer]

    @classmethod
    def of(cls, positives: pl.DataFrame, catalogue: Catalogue, users: Sequence[str]) -> "UserItems":
        """The items of some users as catalogue rows.

        Args:
            positives: user_id, item_id, timestamp; rows of users outside ``users`` are ignored.
            catalogue: Maps item ids to rows.
            users: U user ids, in the order of the result.
        """
        index = pl.DataFrame({"user_id": list(users)}, schema={"user_id": pl.String}).with_row_index("user")
        ordered = positives.join(index, on="user_id", how="inner").sort("user", *by_time())
        counts = np.bincount(ordered["user"].to_numpy(), minlength=len(users))
        return cls.of_sizes(counts, catalogue.rows(ordered["item_id"]))

    @classmethod
    def of_sizes(cls, sizes: npt.NDArray[np.integer], items: npt.NDArray[np.integer]) -> "UserItems":
        """From the number of items of each user [U] and all of them, user by user [total]."""
        return cls(_bounds(sizes), items)

    @classmethod
    def of_lists(cls, lists: Sequence[Iterable[int]]) -> "UserItems":
        """From one list of items for each user."""
        arrays = [np.fromiter(items, np.int32) for items in lists]
        return cls(_bounds([len(items) for items in arrays]), np.concatenate([np.zeros(0, np.int32), *arrays]))

    @classmethod
    def nothing(cls, users: int) -> "UserItems":
        """Users without items."""
        return cls.of_sizes(np.zeros(users, np.int64), np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, part: slice) -> "UserItems":
        """Some consecutive users."""
        start, stop, _ = part.indices(len(self))
        indptr = self.indptr[start : max(start, stop) + 1]
        return UserItems(indptr - indptr[0], self.items[indptr[0] : indptr[-1]])

    def at(self, users: npt.NDArray[np.integer]) -> "UserItems":
        """The given users [n], repeated ones included."""
        sizes, starts = self.sizes()[users], self.indptr[users]
        indptr = _bounds(sizes)
        place = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], sizes)
        return UserItems(indptr, self.items[place])

    def of_user(self, user: int) -> npt.NDArray[np.integer]:
        """The items of one user."""
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of items of each user, [U]."""
        return np.diff(self.indptr)

    def users(self) -> npt.NDArray[np.int64]:
        """The user of each of ``items``, [total]."""
        return np.repeat(np.arange(len(self)), self.sizes())

    def only(self, items: npt.NDArray[np.bool_]) -> "UserItems":
        """The same users with only the items marked in bool [N]."""
        kept = items[self.items]
        return UserItems(_bounds(kept)[self.indptr], self.items[kept])

    def reindexed(self, index: npt.NDArray[np.integer]) -> "UserItems":
        """The same with item ``i`` as ``index[i]``."""
        return UserItems(self.indptr, index[self.items])

    def newest(self, length: int) -> npt.NDArray[np.int32]:
        """The newest ``length`` items of each user, int32 [U, length], newest first, -1 pads."""
        place = self.indptr[1:, np.newaxis] - 1 - np.arange(length)
        there = place >= self.indptr[:-1, np.newaxis]
        if not len(self.items):
            return np.full(place.shape, -1, np.int32)
        return np.where(there, self.items[np.where(there, place, 0)], -1).astype(np.int32)

    def padded(self) -> npt.NDArray[np.int32]:
        """All items of each user, int32 [U, longest], newest first, -1 pads."""
        return self.newest(int(self.sizes().max(initial=0)))


def _bounds(sizes: Sequence[int] | npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
