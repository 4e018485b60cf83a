"""Which fresh items share n-grams with a text: an inverted index that grows."""

from typing import Final

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int32]
# Rows that wait to be put in order; they are searched one by one until then.
_WAITING: Final = 512


class Spelling:
    """N-gram buckets -> rows, with BM25 scores (`trainer.text.lexical`)."""

    def __init__(self) -> None:
        nothing = np.zeros(0, np.int32)
        self._buckets, self._rows, self._scores = nothing, nothing, np.zeros(0, np.float32)
        self._waiting: list[tuple[_Integers, _Integers, _Floats]] = []

    def add(self, row: int, buckets: _Integers, scores: _Floats) -> None:
        """Adds a row: its distinct n-grams [G] and their scores [G]."""
        self._waiting.append((buckets, np.full(len(buckets), row, np.int32), scores))
        if len(self._waiting) >= max(_WAITING, len(self._buckets) >> 8):
            self._sort()

    def keep(self, rows: npt.NDArray[np.intp]) -> None:
        """Forgets all other rows; those kept, in ascending order, are numbered anew."""
        self._sort()
        place = np.searchsorted(rows, self._rows)
        there = (place < len(rows)) & (rows[np.minimum(place, len(rows) - 1)] == self._rows if len(rows) else False)
        self._buckets, self._scores = self._buckets[there], self._scores[there]
        self._rows = place[there].astype(np.int32)

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
        wanted, times = np.unique(buckets[buckets >= 0], return_counts=True)
        first, last = np.searchsorted(self._buckets, wanted), np.searchsorted(self._buckets, wanted, side="right")
        places = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)] or [np.zeros(0, np.int64)])
        parts = [(self._rows[places], self._scores[places] * np.repeat(times, last - first))]
        if self._waiting:
            new, rows, scores = (np.concatenate(part) for part in zip(*self._waiting, strict=True))
            place = np.minimum(np.searchsorted(wanted, new), len(wanted) - 1)
            same = wanted[place] == new if len(wanted) else np.zeros(len(new), bool)
            parts.append((rows[same], scores[same] * times[place[same]]))
        rows, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        sums = np.bincount(rows, weights=scores, minlength=size)[:size]
        return np.minimum(sums / whole, 1.0).astype(np.float32)

    def _sort(self) -> None:
        if not self._waiting:
            return
        new = [np.concatenate(part) for part in zip(*self._waiting, strict=True)]
        parts = zip((self._buckets, self._rows, self._scores), new, strict=True)
        buckets, rows, scores = (np.concatenate(pair) for pair in parts)
        order = np.argsort(buckets, kind="stable")
        self._buckets, self._rows, self._scores = buckets[order], rows[order], scores[order]
        self._waiting = []
