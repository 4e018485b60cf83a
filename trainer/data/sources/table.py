"""Result of reading a user's file: its columns as a frame, and facts about the file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl


@dataclass(frozen=True, slots=True)
class RawTable:
    """One file, read but not yet converted.

    Attributes:
        names: All columns of the file.
        frame: The chosen columns under the dataset format's names, rows in the file's order.
        records: Records of the file, counted independently of the reader that made ``frame``.
        place: 0-based data row -> its name in error messages.
        facts: How the file was read, for `dataset.yaml`.
        mixed: Columns of ``frame`` that hold both text and lists, the lists written as JSON.
    """

    names: list[str]
    frame: pl.LazyFrame
    records: int
    place: Callable[[int], str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    mixed: frozenset[str] = frozenset()


# Selects from all column names of a file: name in the dataset format -> name in the file.
Choose = Callable[[list[str]], dict[str, str]]


def called(row: int, line: int, usual: int) -> str:
    """Name of row ``row`` (from 0), which begins in line ``line`` rather than the expected ``usual``."""
    return f"row {row + 1:,}".replace(",", "") + ("" if line == usual else f" (line {line})")
