"""Ids as integers, where many rows are sorted, grouped or joined by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

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


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with text instead of enumerations."""
    return frame.with_columns(pl.col(*ID_COLUMNS).cast(pl.String))


def count_of(column: pl.Series) -> int:
    """The number of values of a coded column's enumeration."""
    assert isinstance(column.dtype, pl.Enum)
    return column.dtype.categories.len()


def by_length(column: str) -> list[pl.Expr]:
    """Keys that sort text ids in the order ``length``."""
    return [pl.col(column).str.len_bytes(), pl.col(column)]


def _ordered(values: pl.Series, order: Order) -> Sequence[str]:
    keys = by_length(values.name) if order == "length" else [pl.col(values.name)]
    return values.to_frame().sort(*keys).to_series()  # type: ignore[return-value]
