"""Figures of the last hours, computed again and again in the background."""

import asyncio
import logging
import time
from typing import Final

from serving.service.errors import ServiceError
from serving.service.outcomes.asking import Outcomes
from serving.service.outcomes.report import Report
from serving.service.store import StoreError

_LOG = logging.getLogger(__name__)
BY: Final = ("version", "language")
MOST_SLICES: Final = 30
"""Each is some thirty series of Prometheus."""


class Watcher:
    """Keeps a report of the last hours.

    Args:
        outcomes: Whom it asks.
        hours: That the report is of.
        seconds: Between two reports.

    Attributes:
        report: The newest one; None: there is none yet, or the last try failed.
    """

    def __init__(self, outcomes: Outcomes, hours: float, seconds: float) -> None:
        self._outcomes = outcomes
        self._hours = hours
        self._seconds = seconds
        self.report: Report | None = None

    async def run_forever(self) -> None:
        """Computes reports until cancelled."""
        while True:
            try:
                self.report = await asyncio.to_thread(self._compute)
            except (ServiceError, StoreError) as error:
                # Old figures would pass for those of now.
                self.report = None
                _LOG.warning("There are no figures of outcomes: %s", error)
            await asyncio.sleep(self._seconds)

    def _compute(self) -> Report:
        now = time.time()
        return self._outcomes.report(now - 3600 * self._hours, now, BY, most_slices=MOST_SLICES)
