"""Which fresh items share n-grams with a text: an inverted index that grows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int32]
# Rows that wait to be put in order, and n-grams that are kept apart from the many: so few that a text's own n-grams
# are soon found among them.
_WAITING: Final = 32
_APART: Final = 20_000
# A part of at least this share of the whole is worth being put in order with it.
_SHARE: Final = 1 / 8


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """N-grams of rows, in the order of their buckets, int32 [E], with rows int32 [E] and BM25 scores float32 [E]."""

    buckets: _Integers
    rows: _Integers
    scores: _Floats

    @classmethod
    def sorted(cls, parts: "Sequence[_Entries]") -> "_Entries":
        """All of the parts, none of which need be in order."""
        buckets = np.concatenate([part.buckets for part in parts])
        # A stable sort is fast where runs are in order already.
        order = np.argsort(buckets, kind="stable")
        rows, scores = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("rows", "scores"))
        return cls(buckets[order], rows, scores)

    def only(self, rows: npt.NDArray[np.intp]) -> "_Entries":
        """Those of the given rows, in ascending order, which are numbered anew."""
        place = np.searchsorted(rows, self.rows)
        there = (place < len(rows)) & (rows[np.minimum(place, len(rows) - 1)] == self.rows if len(rows) else False)
        return _Entries(self.buckets[there], place[there].astype(np.int32), self.scores[there])

    def having(self, wanted: _Integers, times: npt.NDArray[np.intp]) -> tuple[_Integers, _Floats]:
        """Rows that have the ``wanted`` buckets, with scores for having them so many times."""
        first, last = np.searchsorted(self.buckets, wanted), np.searchsorted(self.buckets, wanted, side="right")
        counts = last - first
        # Ranges one after another.
        places = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        return self.rows[places], self.scores[places] * np.repeat(times, counts).astype(np.float32)


_NOTHING: Final = _Entries(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))


class Spelling:
    """N-gram buckets -> rows, with BM25 scores (`trainer.text.lexical`)."""

    def __init__(self) -> None:
        self._many = self._few = _NOTHING
        self._waiting: list[_Entries] = []

    def add(self, row: int, buckets: _Integers, scores: _Floats) -> None:
        """Adds a row: its distinct n-grams [G] and their scores [G]."""
        self._waiting.append(_Entries(buckets, np.full(len(buckets), row, np.int32), scores))
        if len(self._waiting) >= _WAITING:
            self._sort()

    def keep(self, rows: npt.NDArray[np.intp]) -> None:
        """Forgets all other rows; those kept, in ascending order, are numbered anew."""
        self._sort()
        self._many, self._few = self._many.only(rows), self._few.only(rows)

    def shares(self, buckets: _Integers, weights: _Floats, size: int) -> _Floats:
        """The share of a text's n-grams that each of ``size`` rows has, 0 to 1.

        Args:
            buckets: Int32 [G], the text's n-grams with repeats; -1 pads.
            weights: Float32 [G], theirs.
            size: Number of rows.
        """
        whole = float(weights.sum())
        if not whole > 0.0:
            return np.zeros(size, np.float32)
        self._sort()
        wanted, times = np.unique(buckets[buckets >= 0], return_counts=True)
        found = [part.having(wanted, times) for part in (self._many, self._few)]
        rows, scores = (np.concatenate(part) for part in zip(*found, strict=True))
        sums = np.bincount(rows, weights=scores, minlength=size)[:size]
        return np.minimum(sums / whole, 1.0).astype(np.float32)

    def _sort(self) -> None:
        if not self._waiting:
            return
        self._few = _Entries.sorted([self._few, _Entries.sorted(self._waiting)])
        self._waiting = []
        if len(self._few.buckets) > max(_APART, _SHARE * len(self._many.buckets)):
            self._many, self._few = _Entries.sorted([self._many, self._few]), _NOTHING
