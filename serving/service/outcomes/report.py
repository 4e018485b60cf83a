"""Figures of a period, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from serving.service.outcomes.attribution import Attributed
from serving.service.outcomes.cells import Cells, cells_of
from serving.service.outcomes.measuring import RATIOS, figures, is_complete
from serving.service.outcomes.settings import OutcomeSettings
from serving.service.outcomes.sums import LEVEL, Figure

MOST_CELLS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Figures of some answers.

    Attributes:
        labels: Column -> value.
        rest: Whether it is of all values that have no slice of their own; then there are no labels.
        answers: Number of answers.
        people: Number of people.
        metrics: Name -> figure.
    """

    labels: Mapping[str, str]
    rest: bool
    answers: int
    people: int
    metrics: Mapping[str, Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Figures of a period.

    Attributes:
        since, until: Unix seconds: the answers are those of ``since <= timestamp < until``.
        now: When it was computed.
        level: Of the intervals.
        complete: Whether only answers count for which no more events can come.
        open: Figure -> share of the answers for which more events can come.
        events: Events that count for an answer.
        uncounted: Reason -> events that don't.
        all: Of all answers.
        slices: By the columns that were asked for, in the order of their values.
    """

    since: float
    until: float
    now: float
    level: float = LEVEL
    complete: bool
    open: Mapping[str, float]
    events: int
    uncounted: Mapping[str, int]
    all: Slice
    slices: Sequence[Slice]


def report_of(
    attributed: Attributed,
    by: Sequence[str],
    catalogue: int,
    settings: OutcomeSettings,
    *,
    complete: bool = False,
    most_slices: int = MOST_CELLS,
) -> Report:
    """Computes the figures of a period, and of slices of it.

    Args:
        attributed: What became of its answers.
        by: Columns whose combinations are the slices; empty: none.
        catalogue: Number of items that could be shown.
        settings: By which events were attributed.
        complete: Whether only answers count for which no more events can come.
        most_slices: Those with the most answers; the rest is one more.

    Raises:
        InvalidRequestError: there are no such columns.
    """
    period = attributed.period
    (everything,) = _slices(attributed, cells_of(period.answers, (), 1), catalogue, settings, complete)
    cells = cells_of(period.answers, by, most_slices)
    open_ = {name: _share(~is_complete(name, attributed, settings)) for name, each in RATIOS.items() if each.window}
    return Report(
        since=period.since,
        until=period.until,
        now=period.now,
        complete=complete,
        open=open_,
        events=attributed.counted,
        uncounted=attributed.uncounted,
        all=everything,
        slices=_slices(attributed, cells, catalogue, settings, complete) if by else (),
    )


def _slices(
    attributed: Attributed, cells: Cells, catalogue: int, settings: OutcomeSettings, complete: bool
) -> list[Slice]:
    answers = attributed.period.answers
    size = max(len(answers.people), 1)
    people = np.bincount(np.unique(cells.of_answer * size + answers.person) // size, minlength=len(cells))
    counts = np.bincount(cells.of_answer, minlength=len(cells))
    found = figures(attributed, cells, catalogue, settings, complete=complete)
    return [
        Slice(
            labels=dict(zip(cells.by, key, strict=True)) if key else {},
            rest=cells.has_rest and place == len(cells) - 1,
            answers=int(counts[place]),
            people=int(people[place]),
            metrics=found[place],
        )
        for place, key in enumerate(cells.keys)
    ]


def _share(flags: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float(flags.mean()) if len(flags) else 0.0
