"""Computes figures from a store."""

import time
from dataclasses import dataclass
from typing import Final

from serving.service.outcomes.attribution import Attributed, attribute
from serving.service.outcomes.drift import Drift, changes_of
from serving.service.outcomes.reading import OutcomeStore, read_answers, read_period
from serving.service.outcomes.report import Report, report_of
from serving.service.outcomes.settings import OutcomeSettings

_KEPT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class ReportQuestion:
    """As of `serving.service.outcomes.report.report_of`."""

    since: float
    until: float
    by: tuple[str, ...]
    complete: bool
    most_slices: int


@dataclass(frozen=True, slots=True)
class DriftQuestion:
    """A period and its reference, unix seconds."""

    since: float
    until: float
    reference_since: float
    reference_until: float


class Computation:
    """Computes what is asked for; not to be used by two threads at once.

    All methods raise `InvalidRequestError` for a period with too many answers or events, and `StoreError`.

    Args:
        store: Where answers and events are.
        settings: How outcomes are attributed.
    """

    def __init__(self, store: OutcomeStore, settings: OutcomeSettings) -> None:
        self._store = store
        self._settings = settings
        self._last: tuple[tuple[float, float], float, Attributed] | None = None

    def report(self, question: ReportQuestion) -> Report:
        """Figures of a period, and of slices of it."""
        return report_of(
            self._attributed(question.since, question.until),
            question.by,
            self._store.count_items(),
            self._settings,
            complete=question.complete,
            most_slices=question.most_slices,
        )

    def drift(self, question: DriftQuestion) -> Drift:
        """Changes from the reference to the period."""
        reference = read_answers(self._store, question.reference_since, question.reference_until, self._settings)
        current = read_answers(self._store, question.since, question.until, self._settings)
        languages = self._store.item_languages(sorted({*reference.items, *current.items}))
        changes, new = changes_of(reference, current, languages)
        return Drift(
            since=question.since,
            until=question.until,
            reference_since=question.reference_since,
            reference_until=question.reference_until,
            changes=changes,
            new_versions=new,
        )

    def _attributed(self, since: float, until: float) -> Attributed:
        """Of the last period that was asked for: the next question is often about the same one."""
        kept, now = self._last, time.monotonic()
        if kept is not None and kept[0] == (since, until) and now - kept[1] < _KEPT_SECONDS:
            return kept[2]
        self._last = None
        found = attribute(read_period(self._store, since, until, time.time(), self._settings), self._settings)
        self._last = ((since, until), now, found)
        return found
