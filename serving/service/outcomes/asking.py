"""Figures for those who ask: one computation at a time, kept for a while."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, TypeVar

from serving.service.errors import UnavailableError
from serving.service.outcomes.attribution import Attributed, attribute
from serving.service.outcomes.cells import check_columns
from serving.service.outcomes.drift import Drift, changes_of
from serving.service.outcomes.reading import OutcomeStore, check_period, read_answers, read_period
from serving.service.outcomes.report import MOST_CELLS, Report, report_of
from serving.service.outcomes.settings import OutcomeSettings

_KEPT: Final = 64
_WAITING: Final = 8
_T = TypeVar("_T")


class Outcomes:
    """Answers questions about outcomes; safe to use from several threads, which it blocks while it computes.

    Args:
        store: Where answers and events are.
        settings: How outcomes are attributed.
        kept_seconds: How old an answer may be.
        wait_seconds: How long a question waits for another one to be answered.
    """

    def __init__(
        self, store: OutcomeStore, settings: OutcomeSettings, kept_seconds: float = 60.0, wait_seconds: float = 20.0
    ) -> None:
        self.settings = settings
        self._store = store
        self._kept_seconds = kept_seconds
        self._wait_seconds = wait_seconds
        self._computing = threading.Lock()
        self._places = threading.BoundedSemaphore(_WAITING)
        # Used only by the thread that computes.
        self._found: OrderedDict[Hashable, tuple[float, object]] = OrderedDict()
        self._attributed: tuple[Hashable, float, Attributed] | None = None

    def report(
        self,
        since: float,
        until: float,
        by: Sequence[str] = (),
        *,
        complete: bool = False,
        most_slices: int = MOST_CELLS,
    ) -> Report:
        """Figures of the answers of ``since <= timestamp < until``, and of their slices.

        Raises:
            InvalidRequestError: the period or the columns are not possible.
            StoreError: the store can't.
            UnavailableError: others ask too much.
        """
        check_period(since, until, self.settings)
        check_columns(by)

        def compute() -> Report:
            attributed = self._of_period(since, until)
            items = self._store.count_items()
            return report_of(attributed, by, items, self.settings, complete=complete, most_slices=most_slices)

        return self._kept(("report", since, until, tuple(by), complete, most_slices), compute)

    def drift(self, since: float, until: float, reference_since: float, reference_until: float) -> Drift:
        """Changes from a reference period to a period.

        Raises:
            InvalidRequestError: a period is not possible.
            StoreError: the store can't.
            UnavailableError: others ask too much.
        """
        check_period(since, until, self.settings)
        check_period(reference_since, reference_until, self.settings)

        def compute() -> Drift:
            reference = read_answers(self._store, reference_since, reference_until, self.settings)
            current = read_answers(self._store, since, until, self.settings)
            languages = self._store.item_languages(sorted({*reference.items, *current.items}))
            changes, new = changes_of(reference, current, languages)
            return Drift(
                since=since,
                until=until,
                reference_since=reference_since,
                reference_until=reference_until,
                changes=changes,
                new_versions=new,
            )

        return self._kept(("drift", since, until, reference_since, reference_until), compute)

    def _of_period(self, since: float, until: float) -> Attributed:
        """Of the last period that was asked for: the next question is often about the same one."""
        kept, now = self._attributed, time.monotonic()
        if kept is not None and kept[0] == (since, until) and now - kept[1] < self._kept_seconds:
            return kept[2]
        self._attributed = None
        found = attribute(read_period(self._store, since, until, time.time(), self.settings), self.settings)
        self._attributed = ((since, until), now, found)
        return found

    def _kept(self, key: Hashable, compute: Callable[[], _T]) -> _T:
        with self._alone():
            found, now = self._found.get(key), time.monotonic()
            if found is not None and now - found[0] < self._kept_seconds:
                value: _T = found[1]  # type: ignore[assignment]  # the key begins with its kind
                return value
            value = compute()
            self._found[key] = (now, value)
            self._found.move_to_end(key)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
            return value

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        busy = UnavailableError("Others ask for figures as well. Remedy: ask again in a few seconds.")
        if not self._places.acquire(blocking=False):
            raise busy
        try:
            if not self._computing.acquire(timeout=self._wait_seconds):
                raise busy
            try:
                yield
            finally:
                self._computing.release()
        finally:
            self._places.release()
