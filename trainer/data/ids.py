"""Ids as integers, where many rows are sorted, grouped or joined by them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl

ID_COLUMNS: Final = ("user_id", "item_id")
Order = Literal["text", "length"]
"""``text``: by their characters. ``length``: shorter ids first, so that numeric ones compare as numbers."""


@dataclass(frozen=True, slots=True)
class IdCodes:
    """Users' and items' ids as enumerations, which polars stores, sorts, groups and joins as integers.

    Attributes:
        columns: ``user_id`` and ``item_id`` -> the enumeration of its distinct values, in order.
    """

    columns: dict[str, pl.Enum]

    @classmethod
    def of(cls, frame: pl.DataFrame, order: Order) -> "IdCodes":
        """The codes of a frame with ``user_id`` and ``item_id``; those of other frames must occur in it."""
        return cls({name: pl.Enum(_ordered(frame[name].unique(), order)) for name in ID_COLUMNS})

    def coded(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with enumerations instead of text."""
        return frame.with_columns(pl.col(name).cast(enumeration) for name, enumeration in self.columns.items())


def is_coded(frame: pl.DataFrame) -> bool:
    """Whether the frame has enumerations instead of text."""
    return all(isinstance(frame.schema[name], pl.Enum) for name in ID_COLUMNS)


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with text instead of enumerations, if it has these."""
    return frame.with_columns(pl.col(*ID_COLUMNS).cast(pl.String))


def count_of(column: pl.Series) -> int:
    """The number of values of a coded column's enumeration."""
    assert isinstance(column.dtype, pl.Enum)
    return column.dtype.categories.len()


def pair_keys(coded: pl.DataFrame) -> pl.Series:
    """One int64 number for each (user, item), equal where both are."""
    return _pair_keys(coded, pl.Series.to_physical)


def ordered_pair_keys(coded: pl.DataFrame) -> pl.Series:
    """`pair_keys` that order pairs as their ids as text do."""
    return _pair_keys(coded, _text_places)


def distinct(*columns: pl.Series) -> list[str]:
    """The values of columns of ids, coded or not, in order."""
    # Polars orders text by its UTF-8 bytes, which is the order of code points.
    return pl.concat([column.unique().cast(pl.String) for column in columns]).unique().sort().to_list()


def looked_up(column: pl.Series, find: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """What ``find`` gives for text ids, of a column of ids: of a coded one each value is searched once.

    Args:
        column: Ids.
        find: Text ids -> a number for each, or null.
    """
    if not isinstance(column.dtype, pl.Enum):
        return find(column)
    values = column.unique()
    found = find(values.cast(pl.String))
    place = np.zeros(count_of(column), np.int64)
    place[values.to_physical().to_numpy()] = np.arange(len(values))
    return found.gather(place[column.to_physical().to_numpy()])


def by_length(column: str) -> list[pl.Expr]:
    """Keys that sort text ids in the order ``length``."""
    return [pl.col(column).str.len_bytes(), pl.col(column)]


def _pair_keys(coded: pl.DataFrame, places: Callable[[pl.Series], pl.Series]) -> pl.Series:
    user, item = (places(coded[name]).cast(pl.Int64) for name in ID_COLUMNS)
    return user * count_of(coded["item_id"]) + item


def _text_places(column: pl.Series) -> pl.Series:
    """Of each value its place among those of the enumeration, if these are sorted as text."""
    assert isinstance(column.dtype, pl.Enum)
    order = column.dtype.categories.arg_sort().to_numpy()
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return pl.Series(place[column.to_physical().to_numpy()])


def _ordered(values: pl.Series, order: Order) -> Sequence[str]:
    keys = by_length(values.name) if order == "length" else [pl.col(values.name)]
    return values.to_frame().sort(*keys).to_series()  # type: ignore[return-value]
