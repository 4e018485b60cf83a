"""Logs a fault that is met at every request or look once, not each time."""

import logging
import time
from typing import Final

# Seconds between two messages of one kind.
_SILENCE: Final = 60.0


class Trouble:
    """A fault that comes and goes.

    Args:
        log: Where it is reported.
        over: What is reported when it has gone.
    """

    def __init__(self, log: logging.Logger, over: str) -> None:
        self._log = log
        self._over = over
        self._is_reported = False
        self._silent_until = -float("inf")

    def met(self, message: str, *arguments: object) -> None:
        """Reports the fault, unless that has been done in the last minute."""
        now = time.monotonic()
        if now >= self._silent_until:
            self._log.warning(message, *arguments)
            self._silent_until = now + _SILENCE
            self._is_reported = True

    def gone(self) -> None:
        """Reports that it is over, if it was reported."""
        if self._is_reported:
            self._is_reported = False
            self._log.info(self._over)
