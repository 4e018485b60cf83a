"""What filters ask of fresh items, in columns: a request looks at 50,000 items in a millisecond."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serving.service.types import Item

_Mask = npt.NDArray[np.bool_]
_LEAST: Final = 256
_NONE: Final = 0
"""The code of a pair that no longer counts."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which items may be in an answer.

    Attributes:
        languages: Ranges (RFC 4647) as of `catalogue.allows`; empty: all.
        categories: Items must have one of these; empty: all.
        now: Unix seconds.
    """

    languages: Sequence[str]
    categories: Sequence[str]
    now: float


class Facts:
    """Facts about items by their rows."""

    def __init__(self) -> None:
        self._available = np.zeros(_LEAST, bool)
        self._from = np.zeros(_LEAST)
        self._until = np.zeros(_LEAST)
        self._languages, self._categories = Labels(), Labels()

    def put(self, row: int, item: Item) -> None:
        """Takes an item's facts in place of those that the row had."""
        if row >= len(self._available):
            self._available, self._from, self._until = (
                _with_room(each, row + 1) for each in (self._available, self._from, self._until)
            )
        self._available[row] = item.available
        self._from[row] = -np.inf if item.valid_from is None else item.valid_from
        self._until[row] = np.inf if item.valid_until is None else item.valid_until
        self._languages.put(row, _ranges(item.language))
        self._categories.put(row, [label.lower() for label in item.categories])

    def remove(self, row: int) -> None:
        """The row has no item any more."""
        self._languages.put(row, ())
        self._categories.put(row, ())

    def keep(self, rows: npt.NDArray[np.intp]) -> None:
        """Forgets all other rows; those kept, in ascending order, are numbered anew."""
        self._available, self._from, self._until = (
            _with_room(each[rows], _LEAST) for each in (self._available, self._from, self._until)
        )
        self._languages.keep(rows)
        self._categories.keep(rows)

    def mask(self, wanted: Wanted, size: int) -> _Mask:
        """Which of ``size`` rows a request wants, as `catalogue.allows` and `Item.is_shown` would say of each."""
        mask: _Mask = self._available[:size] & (self._from[:size] <= wanted.now) & (wanted.now < self._until[:size])
        for labels, given in ((self._languages, wanted.languages), (self._categories, wanted.categories)):
            asked = {label.lower() for label in given if label}
            if asked:
                mask &= labels.any_of(asked, size)
        return mask


class Labels:
    """Which rows have which labels: pairs in two columns, those of one row next to each other.

    Pairs that no longer count stay until there are as many of them as others.
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._labels = np.zeros(_LEAST, np.int32)
        self._rows = np.zeros(_LEAST, np.int32)
        self._size = self._dead = 0
        # Row -> its first pair, and the one after its last.
        self._places: dict[int, tuple[int, int]] = {}

    def put(self, row: int, labels: Collection[str]) -> None:
        """Takes a row's labels in place of those that it had."""
        start, end = self._places.pop(row, (0, 0))
        self._labels[start:end] = _NONE
        self._dead += end - start
        if self._dead > max(_LEAST, self._size - self._dead):
            self._compact()
        if labels:
            start, end = self._size, self._size + len(labels)
            if end > len(self._labels):
                self._labels, self._rows = (_with_room(each, end) for each in (self._labels, self._rows))
            self._labels[start:end] = [self._codes.setdefault(each, len(self._codes) + 1) for each in labels]
            self._rows[start:end] = row
            self._places[row] = start, end
            self._size = end

    def keep(self, rows: npt.NDArray[np.intp]) -> None:
        """As `Facts.keep`."""
        new = {int(row): place for place, row in enumerate(rows)}
        for row in [row for row in self._places if row not in new]:
            self.put(row, ())
        self._compact()
        self._places = {new[row]: place for row, place in self._places.items()}
        self._rows[: self._size] = np.searchsorted(rows, self._rows[: self._size])

    def any_of(self, labels: Collection[str], size: int) -> _Mask:
        """Which of ``size`` rows have at least one of some labels."""
        asked = np.zeros(len(self._codes) + 1, bool)
        asked[[code for label in labels if (code := self._codes.get(label)) is not None]] = True
        found = np.zeros(size, bool)
        found[self._rows[: self._size][asked[self._labels[: self._size]]]] = True
        return found

    def _compact(self) -> None:
        """Drops pairs that no longer count, and labels that no row has."""
        counts = self._labels[: self._size] != _NONE
        before = np.concatenate([[0], np.cumsum(counts)])
        self._places = {row: (int(before[start]), int(before[end])) for row, (start, end) in self._places.items()}
        used, labels = np.unique(self._labels[: self._size][counts], return_inverse=True)
        names = list(self._codes)
        self._codes = {names[code - 1]: place for place, code in enumerate(used.tolist(), 1)}
        self._rows = _with_room(self._rows[: self._size][counts], _LEAST)
        self._labels = _with_room((labels + 1).astype(np.int32), _LEAST)
        self._size, self._dead = len(labels), 0


def _ranges(language: str) -> list[str]:
    """The ranges that allow a language: ``zh-Hant-TW`` gives ``zh``, ``zh-hant`` and ``zh-hant-tw``."""
    parts = language.lower().split("-")
    return ["-".join(parts[: length + 1]) for length in range(len(parts))]


def _with_room(values: npt.NDArray[Any], least: int) -> npt.NDArray[Any]:
    """Values, and zeros up to twice as many places, or a number that is needed."""
    room = np.zeros(max(2 * len(values), least), values.dtype)
    room[: len(values)] = values
    return room
