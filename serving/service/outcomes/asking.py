"""Figures for those who ask: one computation at a time, kept for a while."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from serving.service.errors import UnavailableError
from serving.service.outcomes.cells import check_columns
from serving.service.outcomes.computing import DriftQuestion, ReportQuestion
from serving.service.outcomes.drift import Drift
from serving.service.outcomes.reading import check_period
from serving.service.outcomes.report import MOST_CELLS, Report
from serving.service.outcomes.settings import OutcomeSettings

_KEPT: Final = 64
_WAITING: Final = 8
_T = TypeVar("_T")


class Computer(Protocol):
    """Who computes: `serving.service.outcomes.computing.Computation`, here or in a process of its own."""

    def report(self, question: ReportQuestion) -> Report:
        """Figures of a period."""
        ...

    def drift(self, question: DriftQuestion) -> Drift:
        """Changes between two periods."""
        ...


class Outcomes:
    """Answers questions about outcomes; safe to use from several threads, which it blocks meanwhile.

    Args:
        computer: Who computes; it is asked by one thread at a time.
        settings: How outcomes are attributed; those of the computer.
        kept_seconds: How old an answer may be.
        wait_seconds: How long a question waits for another one to be answered.
    """

    def __init__(
        self, computer: Computer, settings: OutcomeSettings, kept_seconds: float = 60.0, wait_seconds: float = 20.0
    ) -> None:
        self._computer = computer
        self._settings = settings
        self._kept_seconds = kept_seconds
        self._wait_seconds = wait_seconds
        self._computing = threading.Lock()
        self._places = threading.BoundedSemaphore(_WAITING)
        # Used only by the thread that has the lock.
        self._found: OrderedDict[Hashable, tuple[float, object]] = OrderedDict()

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
            UnavailableError: others ask too much, or the computation failed.
        """
        check_period(since, until, self._settings)
        check_columns(by)
        question = ReportQuestion(since, until, tuple(by), complete, most_slices)
        return self._kept(question, lambda: self._computer.report(question))

    def drift(self, since: float, until: float, reference_since: float, reference_until: float) -> Drift:
        """Changes from a reference period to a period.

        Raises:
            InvalidRequestError: a period is not possible.
            StoreError: the store can't.
            UnavailableError: others ask too much, or the computation failed.
        """
        check_period(since, until, self._settings)
        check_period(reference_since, reference_until, self._settings)
        question = DriftQuestion(since, until, reference_since, reference_until)
        return self._kept(question, lambda: self._computer.drift(question))

    def _kept(self, question: Hashable, compute: Callable[[], _T]) -> _T:
        with self._alone():
            found, now = self._found.get(question), time.monotonic()
            if found is not None and now - found[0] < self._kept_seconds:
                value: _T = found[1]  # type: ignore[assignment]  # a question's type says that of its answer
                return value
            value = compute()
            self._found[question] = (now, value)
            self._found.move_to_end(question)
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
