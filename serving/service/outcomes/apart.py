"""Computes in a process of its own, so that answers don't wait for Python's lock, and memory is given back."""

import contextlib
import logging
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Final

from serving.service.errors import ServiceError, UnavailableError
from serving.service.outcomes.computing import Computation, DriftQuestion, ReportQuestion
from serving.service.outcomes.drift import Drift
from serving.service.outcomes.report import Report
from serving.service.outcomes.settings import OutcomeSettings
from serving.service.store import StoreError, StoreSettings, open_store

_LOG = logging.getLogger(__name__)
_LESS_URGENT: Final = 10
_CONNECTIONS: Final = 2
_FAILED: Final = "The figures can't be computed now. Remedy: ask again; if it fails again, for a shorter period."
_STOPPING: Final = "The service is about to stop. Remedy: ask again in a while."


class Apart:
    """A `Computation` in another process, which begins with the first question; for one thread at a time.

    A process that has died, or takes too long, is replaced at the next question.

    Args:
        store: The store's address.
        settings: How outcomes are attributed.
        most_seconds: For one question.
    """

    def __init__(self, store: str, settings: OutcomeSettings, most_seconds: float = 300.0) -> None:
        self._store = store
        self._settings = settings
        self._most_seconds = most_seconds
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._is_closed = False

    @property
    def process_id(self) -> int | None:
        """Of the process; None: there is none."""
        return None if self._process is None else self._process.pid

    def report(self, question: ReportQuestion) -> Report:
        """Figures of a period, and of slices of it."""
        found = self._ask(question)
        assert isinstance(found, Report)
        return found

    def drift(self, question: DriftQuestion) -> Drift:
        """Changes from the reference to the period."""
        found = self._ask(question)
        assert isinstance(found, Drift)
        return found

    def close(self) -> None:
        """Ends the process for good, whatever it does; a question that waits for it fails."""
        self._is_closed = True
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()

    def _ask(self, question: ReportQuestion | DriftQuestion) -> object:
        if self._is_closed:
            raise UnavailableError(_STOPPING)
        connection = self._started()
        try:
            connection.send(question)
            if not connection.poll(self._most_seconds):
                raise TimeoutError(f"no answer in {self._most_seconds:g} s")
            found: object = connection.recv()
        except (EOFError, OSError) as error:
            if self._is_closed:
                raise UnavailableError(_STOPPING) from None
            _LOG.error("The process that computes figures of outcomes has failed: %s", error or type(error).__name__)
            self._end()
            raise UnavailableError(_FAILED) from None
        if isinstance(found, Exception):
            raise found
        return found

    def _started(self) -> Connection:
        if self._process is None or self._connection is None or not self._process.is_alive():
            # Not a fork: threads of this process may hold locks.
            context = multiprocessing.get_context("spawn")
            self._end()
            self._connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_compute, args=(theirs, self._store, self._settings), daemon=True, name="outcomes"
            )
            self._process.start()
            theirs.close()
        return self._connection


def _compute(connection: Connection, url: str, settings: OutcomeSettings) -> None:
    """Answers questions until the other side is gone."""
    # Ctrl+C is for the service, which ends this process when it has finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_LESS_URGENT)
    computation: Computation | None = None
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            question: ReportQuestion | DriftQuestion = connection.recv()
            try:
                # Only now, so that a store that is out of reach is an answer like others.
                if computation is None:
                    store = open_store(url, settings=StoreSettings(connections=_CONNECTIONS))
                    computation = Computation(store, settings)
                connection.send(_answered(computation, question))
            except (ServiceError, StoreError) as error:
                connection.send(error)


def _answered(computation: Computation, question: ReportQuestion | DriftQuestion) -> Report | Drift:
    return computation.report(question) if isinstance(question, ReportQuestion) else computation.drift(question)
