"""Answers by the values of some of their columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from serving.service.errors import InvalidRequestError
from serving.service.outcomes.columns import LABELS, Answers, Heard, Integers, Labels

MOST_COLUMNS: Final = 3
OF_EVENTS: Final = frozenset({"language", "country", "day"})
"""Columns that events have too."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Cells:
    """Parts of a period's answers.

    Attributes:
        by: Columns of `LABELS`.
        keys: Values of the columns, in their order; the last one is empty if it is of all further values.
        of_answer: [N], the cell of each answer.
        has_rest: Whether the last cell has all further values.
    """

    by: Sequence[str]
    keys: Sequence[tuple[str, ...]]
    of_answer: Integers
    has_rest: bool

    def __len__(self) -> int:
        return len(self.keys)


def cells_of(answers: Answers, by: Sequence[str], most: int) -> Cells:
    """Splits answers by the combinations of columns that there are.

    Args:
        answers: N answers.
        by: Columns; empty: all answers are one cell.
        most: Cells at most: those with the most answers, and one for the rest.

    Raises:
        InvalidRequestError: a column is unknown, there twice, or one too many.
    """
    check_columns(by)
    if not by:
        return Cells(by=(), keys=[()], of_answer=np.zeros(len(answers), np.int64), has_rest=False)
    combined = np.zeros(len(answers), np.int64)
    for name in by:
        combined = combined * len(answers.labels[name].texts) + answers.labels[name].codes
    _, first, cell, counts = np.unique(combined, return_index=True, return_inverse=True, return_counts=True)
    keys = [tuple(_text(answers, name, row) for name in by) for row in first]
    # Of equally many answers the values decide, so that the same question has the same answer.
    kept = sorted(sorted(range(len(keys)), key=lambda each: (-counts[each], keys[each]))[:most], key=keys.__getitem__)
    has_rest = len(kept) < len(keys)
    places = np.full(len(keys), len(kept), np.int64)
    places[kept] = np.arange(len(kept))
    shown = [keys[each] for each in kept]
    return Cells(by=tuple(by), keys=[*shown, ()] if has_rest else shown, of_answer=places[cell], has_rest=has_rest)


def check_columns(by: Sequence[str]) -> None:
    """Refuses columns by which answers can't be split."""
    for name in by:
        if name not in LABELS:
            raise InvalidRequestError(f"`by` has {name[:80]!r}. Remedy: choose from {', '.join(LABELS)}.")
    if len(set(by)) < len(by) or len(by) > MOST_COLUMNS:
        raise InvalidRequestError(f"`by` has {len(by)} columns. Remedy: name up to {MOST_COLUMNS} different ones.")


def cells_of_events(cells: Cells, heard: Heard) -> Integers:
    """[E], the cell of each event by its own columns, which are `OF_EVENTS`; -1: there is none."""
    of_events = {"language": heard.language, "country": heard.country}
    if "day" in cells.by:
        of_events["day"] = Labels.of_days(heard.timestamp)
    columns = [of_events[name] for name in cells.by]
    combined = np.stack([each.codes for each in columns], axis=1) if columns else np.zeros((len(heard), 0), np.int32)
    kinds, place = np.unique(combined, axis=0, return_inverse=True)
    places = {key: number for number, key in enumerate(cells.keys)}
    others = len(cells) - 1 if cells.has_rest else -1
    found = [
        places.get(tuple(each.texts[int(code)] for code, each in zip(kind, columns, strict=True)), others)
        for kind in kinds
    ]
    return np.array(found, np.int64)[place.ravel()] if len(heard) else np.zeros(0, np.int64)


def _text(answers: Answers, name: str, row: np.intp) -> str:
    labels = answers.labels[name]
    return labels.texts[int(labels.codes[row])]
