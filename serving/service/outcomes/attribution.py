"""Which events count for which answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.service.outcomes.columns import KINDS, NO_ANSWER, OTHER_PERIOD, UNKNOWN, Flags, Floats, added
from serving.service.outcomes.reading import Period
from serving.service.outcomes.settings import OutcomeSettings

TIMED: Final = ("view", "play")
"""Kinds whose value is the seconds that somebody spent with the item."""
# Satisfaction, 0 to 1; a rating's is its place on the scale.
_SATISFACTION: Final[Mapping[str, float]] = {"like": 1.0, "complete": 1.0, "dislike": 0.0, "hide": 0.0, "skip": 0.0}


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Attributed:
    """What became of the N answers of a period.

    Attributes:
        period: The answers, in the order of all columns here.
        counts: Kind of `KINDS` -> [N], shown items with which it happened. Several events of a kind with one item
            count once for an answer.
        conversions: [N], shown items that were clicked and purchased.
        satisfaction: [N], sum of the values, each 0 to 1, of what people said.
        opinions: [N], number of these values.
        dwell: [N], seconds that people spent with shown items.
        dwelled: [N], shown items with such a time.
        counted: Events that count for an answer.
        uncounted: Reason -> events that don't. Of the period's events: ``no_answer``, ``unknown_answer`` (not in the
            store) and ``other_answer`` (of another period). Of events that name the period's answers: ``not_shown`` (an
            item that the answer does not have, or none), ``early`` (before the answer), ``late`` (after the window) and
            ``repeated``.
    """

    period: Period
    counts: Mapping[str, Floats]
    conversions: Floats
    satisfaction: Floats
    opinions: Floats
    dwell: Floats
    dwelled: Floats
    counted: int
    uncounted: Mapping[str, int]


def attribute(period: Period, settings: OutcomeSettings) -> Attributed:
    """Finds what became of each answer.

    An event counts for the answer whose ``recommendation_id`` it names, if the answer has the item and the event comes
    within the window of its kind. Times are compared in whole seconds, which is what events have.
    """
    answers, heard = period.answers, period.heard
    count, places = len(answers), len(answers.item)
    named = heard.answer >= 0
    place = _places(period, named)
    is_there = place >= 0
    asked = np.floor(answers.timestamp)[np.maximum(heard.answer, 0)] if count else np.zeros(len(heard))
    delay = heard.timestamp - asked
    windows = np.array([settings.window(kind) for kind in KINDS])[heard.kind]
    early, late = is_there & (delay < 0), is_there & (delay > windows)
    fits = is_there & ~early & ~late
    counts_once = fits & ~heard.is_any(*TIMED)
    last = _last(heard.kind.astype(np.int64) * places + place, counts_once)
    during = heard.timestamp < period.until
    timed = fits & heard.is_any(*TIMED)
    row = answers.row
    happened = {kind: place[last & heard.is_any(kind)] for kind in KINDS if kind not in TIMED}
    happened |= {kind: np.unique(place[timed & heard.is_any(kind)]) for kind in TIMED}
    spent = timed & (heard.value >= 0)
    satisfaction, spoke = _satisfaction(period, last, settings)
    bought_after_click = np.intersect1d(happened["click"], happened["purchase"])
    return Attributed(
        period=period,
        counts={kind: added(row[found], None, count) for kind, found in happened.items()},
        conversions=added(row[bought_after_click], None, count),
        satisfaction=added(heard.answer[spoke], satisfaction[spoke], count),
        opinions=added(heard.answer[spoke], None, count),
        dwell=added(heard.answer[spent], heard.value[spent], count),
        dwelled=added(row[np.unique(place[spent])], None, count),
        counted=int(last.sum() + timed.sum()),
        uncounted={
            "no_answer": int((during & (heard.answer == NO_ANSWER)).sum()),
            "unknown_answer": int((during & (heard.answer == UNKNOWN)).sum()),
            "other_answer": int((during & (heard.answer == OTHER_PERIOD)).sum()),
            "not_shown": int((named & ~is_there).sum()),
            "early": int(early.sum()),
            "late": int(late.sum()),
            "repeated": int((counts_once & ~last).sum()),
        },
    )


def _places(period: Period, named: Flags) -> npt.NDArray[np.int64]:
    """[E], place in ``answers.item`` of each event's item in the answer that it names; -1: it is not there."""
    answers, heard = period.answers, period.heard
    found = np.full(len(heard), -1, np.int64)
    if not len(answers.item):
        return found
    size = len(answers.items) + 1
    keys = answers.row.astype(np.int64) * size + answers.item
    order = np.argsort(keys, kind="stable")
    wanted = heard.answer.astype(np.int64) * size + heard.item
    # -1 is no item's code, and would be the last one of the answer before.
    wanted[~named | (heard.item < 0)] = -1
    at = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(order) - 1)
    there = keys[order[at]] == wanted
    found[there] = order[at][there]
    return found


def _last(keys: npt.NDArray[np.int64], which: Flags) -> Flags:
    """[E], the last one with each key among some events."""
    chosen = np.flatnonzero(which)
    _, first = np.unique(keys[chosen][::-1], return_index=True)
    found = np.zeros(len(keys), np.bool_)
    found[chosen[::-1][first]] = True
    return found


def _satisfaction(period: Period, last: Flags, settings: OutcomeSettings) -> tuple[Floats, Flags]:
    """[E], values of satisfaction, and which events have one."""
    heard = period.heard
    scale = settings.highest_rating - settings.lowest_rating
    rated = last & heard.is_any("rating") & ~np.isnan(heard.value)
    values = np.clip((np.where(rated, heard.value, 0.0) - settings.lowest_rating) / scale, 0.0, 1.0)
    spoke = rated
    for kind, value in _SATISFACTION.items():
        said = last & heard.is_any(kind)
        values[said] = value
        spoke = spoke | said
    return values, spoke
