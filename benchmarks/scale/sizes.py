"""Data sets of growing size in which there is something to learn: communities of people, who choose their own items."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.speed.catalogue import titles
from trainer.data.dataset import Dataset, write_dataset

_Ints = npt.NDArray[np.int64]
_BEGIN: Final = 1_700_000_000
_DAYS: Final = 90
_SECONDS_A_DAY: Final = 86_400
# A choice is of one's community's items with this probability, else of all items.
_LOYALTY: Final = 0.7
# Exponents of u^a, u uniform: places of items by popularity, and of people by activity. Larger is more unequal.
_POPULARITY, _ACTIVITY = 3.0, 2.0
_EVENTS: Final = ("view", "click", "purchase")
_SHARES: Final = (0.6, 0.3, 0.1)


@dataclass(frozen=True, slots=True)
class Size:
    """How large.

    Attributes:
        items: Of the catalogue.
        interactions: Views, clicks and purchases.
        users: People; not all of them have done something.
    """

    items: int
    interactions: int
    users: int

    @property
    def communities(self) -> int:
        """Groups of people with a taste in common, which have at least 50 items each."""
        return max(1, min(1_000, self.items // 50))


SIZES: Final = {
    "XS": Size(1_000, 100_000, 5_000),
    "S": Size(10_000, 1_000_000, 50_000),
    "M": Size(100_000, 10_000_000, 500_000),
    "L": Size(1_000_000, 20_000_000, 2_000_000),
}
"""By name; protocol P10 compares S, M and L."""


def make_dataset(path: Path, size: Size, *, seed: int = 0) -> Dataset:
    """Writes a data set, or opens the one that is there.

    Item ``n`` is of community ``n modulo communities``, and so is person ``n``. Low numbers are chosen often. Titles
    are in six languages (`benchmarks.speed.catalogue.titles`); the category is the community's.

    Args:
        path: The directory.
        size: How large.
        seed: Of everything.
    """
    if path.exists():
        return Dataset.load(path)
    return write_dataset(
        path,
        name=path.name,
        description="Made-up items and people, for measuring what growth costs.",
        licence="made by benchmarks/scale/sizes.py",
        homepage="",
        interactions=_interactions(size, np.random.default_rng(seed)),
        items=_items(size, seed),
    )


def _items(size: Size, seed: int) -> pl.DataFrame:
    languages, names = zip(*titles(size.items, seed=seed), strict=True)
    return pl.DataFrame({"number": np.arange(size.items), "language": languages, "title": names}).select(
        _named("i", "number").alias("item_id"),
        "language",
        "title",
        pl.lit(None, pl.String).alias("description"),
        pl.concat_list(pl.format("community {}", pl.col("number") % size.communities)).alias("categories"),
    )


def _interactions(size: Size, random: np.random.Generator) -> pl.DataFrame:
    """Rows in order of time."""
    count = size.interactions
    users = _low_numbers(random, count, np.full(count, size.users), _ACTIVITY)
    # Numbers of one community lie `communities` apart.
    own = users % size.communities
    there = (size.items - own + size.communities - 1) // size.communities
    loyal = random.random(count) < _LOYALTY
    items = np.where(
        loyal,
        own + size.communities * _low_numbers(random, count, there, _POPULARITY),
        _low_numbers(random, count, np.full(count, size.items), _POPULARITY),
    )
    times = np.sort(random.integers(0, _DAYS * _SECONDS_A_DAY, count)) + _BEGIN
    kinds = random.choice(len(_EVENTS), count, p=_SHARES).astype(np.uint32)
    events = pl.Series("event", _EVENTS).gather(pl.Series(kinds))
    return pl.DataFrame({"user": users, "item": items, "timestamp": times, "event": events}).select(
        _named("u", "user").alias("user_id"),
        _named("i", "item").alias("item_id"),
        "timestamp",
        "event",
        pl.lit(None, pl.Float64).alias("value"),
    )


def _low_numbers(random: np.random.Generator, count: int, below: _Ints, exponent: float) -> _Ints:
    """Int64 [count], each at least 0 and less than its element of `below`; low ones often."""
    return (below * random.random(count) ** exponent).astype(np.int64)


def _named(prefix: str, column: str) -> pl.Expr:
    return pl.lit(prefix) + pl.col(column).cast(pl.String)
