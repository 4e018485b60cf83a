"""The figures of a period; docs/metrics.md has their definitions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serving.service.outcomes.attribution import Attributed
from serving.service.outcomes.cells import OF_EVENTS, Cells, cells_of_events
from serving.service.outcomes.columns import Flags, Floats, Integers, added
from serving.service.outcomes.settings import DAY_SECONDS, OutcomeSettings
from serving.service.outcomes.sums import Figure, PersonSums, Scale, figure

_TAKEN: Final = ("click", "purchase")
_LIKED: Final = ("click", "purchase", "view", "play", "rating", "like", "complete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A figure that is a ratio of sums over answers.

    Attributes:
        x, y: [N] each, of the answers.
        scale: Of the figure.
        window: Kind of event whose window must have ended for an answer to be complete; empty: it is at once.
    """

    x: Callable[[Attributed], npt.NDArray[Any]]
    y: Callable[[Attributed], npt.NDArray[Any]]
    scale: Scale
    window: str = ""


RATIOS: Final[Mapping[str, Ratio]] = {
    "ctr": Ratio(
        x=lambda of: of.counts["click"],
        y=lambda of: of.period.answers.shown,
        scale=Scale.SHARE,
        window="click",
    ),
    "clicked_answers": Ratio(
        x=lambda of: of.counts["click"] > 0,
        y=lambda of: of.period.answers.shown > 0,
        scale=Scale.SHARE,
        window="click",
    ),
    "purchases": Ratio(
        x=lambda of: of.counts["purchase"],
        y=lambda of: of.period.answers.shown > 0,
        scale=Scale.COUNT,
        window="purchase",
    ),
    "conversion": Ratio(
        x=lambda of: of.conversions, y=lambda of: of.counts["click"], scale=Scale.SHARE, window="purchase"
    ),
    "satisfaction": Ratio(x=lambda of: of.satisfaction, y=lambda of: of.opinions, scale=Scale.PART, window="rating"),
    "dwell": Ratio(x=lambda of: of.dwell, y=lambda of: of.dwelled, scale=Scale.POSITIVE, window="click"),
    "novelty": Ratio(
        x=lambda of: added(of.period.answers.row, _information(of), len(of.period.answers)),
        y=lambda of: of.period.answers.shown,
        scale=Scale.POSITIVE,
    ),
}
METRICS: Final = (*RATIOS, "return", "recall", "coverage")
"""Names of all figures."""


def ratio_sums(name: str, attributed: Attributed, cell: Integers, cells: int, which: Flags) -> list[PersonSums]:
    """Sums of a figure of `RATIOS` in each cell.

    Args:
        name: Of the figure.
        attributed: N answers.
        cell: [N], the cell of each answer.
        cells: Their number.
        which: [N], the answers that count.
    """
    ratio = RATIOS[name]
    person, x, y = attributed.period.answers.person, ratio.x(attributed), ratio.y(attributed)
    return PersonSums.by_cell(cell[which], person[which], 1.0 * x[which], 1.0 * y[which], cells)


def is_complete(name: str, attributed: Attributed, settings: OutcomeSettings) -> Flags:
    """[N], whether no more events can count for an answer in a figure of `RATIOS`."""
    window = RATIOS[name].window
    period = attributed.period
    return period.answers.timestamp + (settings.window(window) if window else 0.0) <= period.now


def figures(
    attributed: Attributed, cells: Cells, catalogue: int, settings: OutcomeSettings, *, complete: bool
) -> list[dict[str, Figure]]:
    """All figures of each cell.

    Args:
        attributed: Of a period.
        cells: Of its answers.
        catalogue: Number of items that could be shown.
        settings: By which events were attributed.
        complete: Whether only answers whose windows have ended count.
    """
    found: dict[str, list[Figure]] = {}
    everything = np.ones(len(attributed.period.answers), np.bool_)
    for name, ratio in RATIOS.items():
        which = is_complete(name, attributed, settings) if complete else everything
        sums = ratio_sums(name, attributed, cells.of_answer, len(cells), which)
        found[name] = [figure(each, ratio.scale) for each in sums]
    found["return"] = _returns(attributed, cells, settings)
    found["recall"] = _recall(attributed, cells)
    found["coverage"] = _coverage(attributed, cells, catalogue)
    return [{name: found[name][cell] for name in METRICS} for cell in range(len(cells))]


def _information(attributed: Attributed) -> Floats:
    """[P], self-information of each shown item in bits: -log2 of its share of what people took, smoothed by one."""
    answers, heard = attributed.period.answers, attributed.period.heard
    liked = heard.is_any(*_LIKED) & (heard.item >= 0) & (heard.timestamp < attributed.period.until)
    size = len(answers.items)
    pairs = np.unique(heard.person[liked].astype(np.int64) * max(size, 1) + heard.item[liked])
    taken = np.bincount(pairs % max(size, 1), minlength=size) + 1.0
    information: Floats = -np.log2(taken / taken.sum())
    return information[answers.item]


def _returns(attributed: Attributed, cells: Cells, settings: OutcomeSettings) -> list[Figure]:
    """Of the people of a cell whose following days were all in the period, those who asked again on one of them."""
    answers, until = attributed.period.answers, attributed.period.until
    days = math.ceil(settings.return_days)
    day = (answers.timestamp // DAY_SECONDS).astype(np.int64)
    size = int(day.max()) + days + 2 if len(day) else 1
    person = answers.person.astype(np.int64)
    visits = np.unique(person * size + day)
    # The answers are in the order of time: the first of each person in a cell is where `unique` finds it.
    _, first = np.unique(cells.of_answer * (int(person.max()) + 1 if len(person) else 1) + person, return_index=True)
    first = first[(day[first] + days + 1) * DAY_SECONDS <= until]
    start = person[first] * size + day[first]
    following = np.append(visits, np.iinfo(np.int64).max)[np.searchsorted(visits, start, side="right")]
    sums = PersonSums.by_cell(
        cells.of_answer[first], person[first], 1.0 * (following - start <= days), np.ones(len(first)), len(cells)
    )
    why = f"nobody came {days} days before the period's end"
    return [figure(each, Scale.SHARE) if each.people else Figure(value=None, why=why) for each in sums]


def _recall(attributed: Attributed, cells: Cells) -> list[Figure]:
    """Of the items that people clicked or bought, wherever they found them, those that they had been shown before."""
    others = sorted(set(cells.by) - OF_EVENTS)
    if others:
        why = f"what people take elsewhere has no {others[0]}"
        return [Figure(value=None, why=why) for _ in range(len(cells))]
    answers, heard = attributed.period.answers, attributed.period.heard
    size = max(len(answers.items), 1)
    # Both are in the order of time, so that `unique` finds the first of each person and item.
    shown, first = np.unique(answers.person[answers.row].astype(np.int64) * size + answers.item, return_index=True)
    when = np.append(np.floor(answers.timestamp[answers.row[first]]), np.inf)
    chosen = np.flatnonzero(heard.is_any(*_TAKEN) & (heard.item >= 0) & (heard.timestamp < attributed.period.until))
    taken, places = np.unique(heard.person[chosen].astype(np.int64) * size + heard.item[chosen], return_index=True)
    chosen = chosen[places]
    at = np.searchsorted(shown, taken)
    is_shown = (np.append(shown, -1)[at] == taken) & (when[at] <= heard.timestamp[chosen])
    cell = cells_of_events(cells, heard)[chosen]
    known = cell >= 0
    sums = PersonSums.by_cell(
        cell[known], heard.person[chosen][known], 1.0 * is_shown[known], np.ones(int(known.sum())), len(cells)
    )
    return [figure(each, Scale.SHARE) for each in sums]


def _coverage(attributed: Attributed, cells: Cells, catalogue: int) -> list[Figure]:
    """Different items shown / items in the catalogue."""
    answers = attributed.period.answers
    size = max(len(answers.items), 1)
    pairs = np.unique(cells.of_answer[answers.row] * size + answers.item)
    counts = np.bincount(pairs // size, minlength=len(cells)).tolist()
    if not catalogue:
        return [Figure(value=None, why="the catalogue is empty") for _ in counts]
    why = "it grows with the number of answers and is no mean over people"
    return [Figure(value=min(each / catalogue, 1.0), count=float(catalogue), why=why) for each in counts]
