"""The share of a catalogue that one of several models holds, when one machine can't hold all."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.data.catalogue import Catalogue
from trainer.data.user_items import UserItems

_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Share:
    """One of ``count`` shares, by a hash of the item's id: an item stays in its share from one export to the next.

    Attributes:
        index: From 0.
        count: Number of shares.
    """

    index: int
    count: int

    def rows(self, item_ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """Positions of this share's items among ``item_ids``, ascending."""
        return np.flatnonzero(shares_of(item_ids, self.count) == self.index).astype(np.int32)

    def directory(self, model_dir: Path) -> Path:
        """Base path of this share's model: ``models/recommender-00-of-03`` for ``models/recommender``."""
        width = max(2, len(str(self.count)))
        return model_dir.with_name(f"{model_dir.name}-{self.index:0{width}d}-of-{self.count:0{width}d}")


def shares_of(item_ids: Sequence[str], count: int) -> npt.NDArray[np.int64]:
    """The share of each id, int64 [n] from 0 to ``count`` - 1; the same in every version, process and machine."""
    digests = (hashlib.blake2b(item.encode(), digest_size=_DIGEST_BYTES).digest() for item in item_ids)
    return np.fromiter((int.from_bytes(digest, "big") % count for digest in digests), np.int64, len(item_ids))


def catalogue_at(whole: Catalogue, rows: npt.NDArray[np.int32]) -> Catalogue:
    """Some items of a catalogue, in ascending ``rows``; the category labels remain those of all."""

    def at(values: list[str]) -> list[str]:
        return [values[row] for row in rows]

    return replace(
        whole,
        item_ids=at(whole.item_ids),
        titles=at(whole.titles),
        texts=at(whole.texts),
        languages=at(whole.languages),
        categories=whole.categories[rows],
        numeric={name: values[rows] for name, values in whole.numeric.items()},
        embeddings={name: values[rows] for name, values in whole.embeddings.items()},
    )


@dataclass(frozen=True, slots=True, eq=False)
class HistoryParts:
    """What a share holds of the newest items of users' histories.

    Attributes:
        items: U lines of rows of the share's catalogue.
        ages: Int32 [total], how many items of the whole history are newer than each of them.
    """

    items: UserItems
    ages: npt.NDArray[np.int32]

    @classmethod
    def of(cls, whole: UserItems, rows: npt.NDArray[np.int32], size: int, length: int) -> "HistoryParts":
        """A share's part.

        Args:
            whole: Histories of U users, as rows of the whole catalogue, oldest first.
            rows: The rows of the share's items there.
            size: Number of items of the whole catalogue.
            length: Number of items of a history that the model reads.
        """
        own = np.full(size, -1, np.int32)
        own[rows] = np.arange(len(rows), dtype=np.int32)
        users = np.repeat(np.arange(len(whole)), whole.sizes())
        ages = whole.indptr[users + 1] - 1 - np.arange(len(users))
        kept = (ages < length) & (own[whole.items] >= 0)
        sizes = np.bincount(users[kept], minlength=len(whole))
        return cls(UserItems.of_sizes(sizes, own[whole.items[kept]]), ages[kept].astype(np.int32))
