"""Answers, and the events after them, as columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

KINDS: Final = (
    "click",
    "purchase",
    "view",
    "play",
    "rating",
    "like",
    "complete",
    "dislike",
    "hide",
    "skip",
)
"""Events that are measured; a kind's code is its place."""
LABELS: Final = ("version", "variant", "placement", "language", "country", "history", "day")
"""Columns of answers by which figures can be split."""


class Coder:
    """Numbers different texts from 0 in the order of their coming."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def code(self, text: str) -> int:
        """Of a text, which gets a new one if it has none."""
        return self.places.setdefault(text, len(self.places))

    @property
    def texts(self) -> list[str]:
        """By their codes."""
        return list(self.places)


@dataclass(frozen=True, eq=False, slots=True)
class Labels:
    """A column of texts.

    Attributes:
        codes: [n], places in ``texts``.
        texts: The different ones.
    """

    codes: Codes
    texts: Sequence[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """From the texts."""
        coder = Coder()
        codes = np.fromiter((coder.code(text) for text in texts), np.int32)
        return cls(codes, coder.texts)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Answers:
    """N answers, the oldest first, with P shown items.

    Attributes:
        timestamp: [N], unix seconds.
        person: [N], places in ``people``.
        labels: Column of `LABELS` -> [N]. ``version`` is "0" where popular items took the model's place; ``history``
            is ``warm`` if the store has an event that counts for the person's history from before the answer, else
            ``cold``; ``day`` is the UTC day, ``2026-11-29``.
        degraded: [N], whether popular items took the model's place.
        start: [N + 1], where an answer's items begin in ``item``.
        item: [P], places in ``items``.
        score: [P], the model's after rules.
        people: User ids; ``session:`` and the id of a session that nobody is known to have.
        items: Item ids: of shown items, then of others that were taken.
    """

    timestamp: Floats
    person: Codes
    labels: Mapping[str, Labels]
    degraded: Flags
    start: Integers
    item: Codes
    score: npt.NDArray[np.float32]
    people: Sequence[str]
    items: Sequence[str]

    def __len__(self) -> int:
        return len(self.timestamp)

    @property
    def shown(self) -> Integers:
        """[N], number of items of each answer."""
        return np.diff(self.start)

    @property
    def row(self) -> Codes:
        """[P], the answer of each shown item."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.shown)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Heard:
    """E events of `KINDS`, the oldest first.

    Attributes:
        kind: [E], places in `KINDS`.
        timestamp: [E], unix seconds.
        person, item: [E], as in `Answers`; -1: without an item.
        answer: [E], place of the answer that it names; `NO_ANSWER`, `UNKNOWN` or `OTHER_PERIOD`.
        value: [E]; NaN: none.
        language, country: [E].
    """

    kind: npt.NDArray[np.int8]
    timestamp: Integers
    person: Codes
    item: Codes
    answer: Codes
    value: Floats
    language: Labels
    country: Labels

    def __len__(self) -> int:
        return len(self.kind)

    def is_any(self, *kinds: str) -> Flags:
        """[E], which are of some kinds."""
        return np.isin(self.kind, [KINDS.index(kind) for kind in kinds])


NO_ANSWER: Final = -1
"""It names none."""
UNKNOWN: Final = -2
"""It names one that is not in the store."""
OTHER_PERIOD: Final = -3
"""It names one from before or after the period."""


def added(rows: npt.NDArray[Any], values: npt.NDArray[Any] | None, count: int) -> Floats:
    """Sums of values by row: [count]; numbers of rows without values."""
    return np.bincount(rows, values, minlength=count).astype(np.float64)
