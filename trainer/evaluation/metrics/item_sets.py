"""A set of items for each user: training items, test items, anything to exclude."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import scipy.sparse


@dataclass(frozen=True, slots=True, eq=False)
class ItemSets:
    """Users x items as a compressed sparse row matrix of ones.

    Row `u` is `indices[indptr[u]:indptr[u + 1]]`, ascending and without duplicates. Build it with
    `from_pairs`, `from_lists` or `from_csr`, which sort and deduplicate.

    Attributes:
        indptr: int64 [U + 1], row boundaries.
        indices: int64 [number of pairs], item indices.
        num_items: size of the catalogue.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    num_items: int

    def __post_init__(self) -> None:
        indptr, indices = self.indptr, self.indices
        if indptr.ndim != 1 or not indptr.size or indptr[0] != 0 or indptr[-1] != indices.size:
            raise ValueError(f"indptr must start at 0 and end at {indices.size}, received {indptr!r}")
        if (np.diff(indptr) < 0).any():
            raise ValueError("indptr must be non-decreasing")
        if indices.size and (indices.min() < 0 or indices.max() >= self.num_items):
            raise ValueError(
                f"item indices must be in [0, {self.num_items}), received {indices.min()}..{indices.max()}"
            )
        if (np.diff(self.keys()) <= 0).any():
            raise ValueError("each row must be ascending and without duplicates; use from_pairs or from_csr")

    @classmethod
    def from_pairs(cls, users: ArrayLike, items: ArrayLike, *, num_users: int, num_items: int) -> Self:
        """From parallel arrays of user and item indices; repeated pairs count once.

        Raises:
            ValueError: the arrays differ in length, or an index is out of range.
        """
        user_index = np.asarray(users, dtype=np.int64).reshape(-1)
        item_index = np.asarray(items, dtype=np.int64).reshape(-1)
        if user_index.size != item_index.size:
            raise ValueError(f"{user_index.size} users but {item_index.size} items")
        for name, index, size in (("user", user_index, num_users), ("item", item_index, num_items)):
            if index.size and (index.min() < 0 or index.max() >= size):
                raise ValueError(f"{name} indices must be in [0, {size}), received {index.min()}..{index.max()}")
        keys = np.unique(user_index * num_items + item_index)
        rows = keys // max(num_items, 1)
        indptr = np.zeros(num_users + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=num_users), out=indptr[1:])
        return cls(indptr, keys - rows * num_items, num_items)

    @classmethod
    def from_lists(cls, rows: list[list[int]], *, num_items: int) -> Self:
        """From one list of item indices per user."""
        lengths = [len(row) for row in rows]
        items = np.fromiter((item for row in rows for item in row), dtype=np.int64, count=sum(lengths))
        return cls.from_pairs(np.repeat(np.arange(len(rows)), lengths), items, num_users=len(rows), num_items=num_items)

    @classmethod
    def from_csr(cls, matrix: "scipy.sparse.csr_matrix") -> Self:
        """From a matrix in compressed sparse rows.

        Stored entries count as members regardless of their value.
        """
        num_users, num_items = matrix.shape
        users = np.repeat(np.arange(num_users), np.diff(matrix.indptr))
        return cls.from_pairs(users, matrix.indices, num_users=num_users, num_items=num_items)

    @classmethod
    def empty(cls, num_users: int, num_items: int) -> Self:
        """Empty sets for all users."""
        return cls(np.zeros(num_users + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), num_items)

    @property
    def num_users(self) -> int:
        """Number of rows, including empty ones."""
        return self.indptr.size - 1

    def sizes(self) -> NDArray[np.int64]:
        """Number of items of each user, [U]."""
        return np.diff(self.indptr)

    def users(self) -> NDArray[np.int64]:
        """The user of each stored pair, parallel to `indices`."""
        return np.repeat(np.arange(self.num_users, dtype=np.int64), self.sizes())

    def keys(self) -> NDArray[np.int64]:
        """`user * num_items + item` of each pair, ascending."""
        return self.users() * self.num_items + self.indices

    def item_counts(self) -> NDArray[np.int64]:
        """Number of users with each item, [I]: an item's popularity."""
        return np.bincount(self.indices, minlength=self.num_items).astype(np.int64, copy=False)

    def contains(self, items: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Whether `items[u, j]` belongs to user `u`'s set, [U, J]; -1 belongs to none."""
        if items.ndim != 2 or items.shape[0] != self.num_users:
            raise ValueError(f"expected [{self.num_users}, J] items, received shape {items.shape}")
        keys = self.keys()
        if not keys.size:
            return np.zeros(items.shape, dtype=np.bool_)
        wanted = np.arange(self.num_users, dtype=np.int64)[:, None] * self.num_items + items
        position = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
        found: NDArray[np.bool_] = (keys[position] == wanted) & (items >= 0)
        return found

    def only_items(self, mask: NDArray[np.bool_]) -> Self:
        """The same users with the items where `mask` [I] is true."""
        if mask.shape != (self.num_items,):
            raise ValueError(f"expected a mask of [{self.num_items}] items, received shape {mask.shape}")
        return self._keep(mask[self.indices])

    def only_users(self, mask: NDArray[np.bool_]) -> Self:
        """The same number of rows, with those where `mask` [U] is false emptied."""
        if mask.shape != (self.num_users,):
            raise ValueError(f"expected a mask of [{self.num_users}] users, received shape {mask.shape}")
        return self._keep(np.repeat(mask, self.sizes()))

    def _keep(self, pairs: NDArray[np.bool_]) -> Self:
        before = np.concatenate([[0], np.cumsum(pairs)])
        return type(self)(before[self.indptr], self.indices[pairs], self.num_items)
