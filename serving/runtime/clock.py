"""Notices that the machine's clock was set back, by an administrator or by NTP."""

import logging
import threading
import time
from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
# What waits for the clock waits no longer than it was set back: less is not worth a reaction.
_LEAST_SECONDS = 0.05


class ClockWatch:
    """Calls functions when the wall clock was set back. Thread-safe.

    Its thread runs only while there are functions to call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._is_running = False

    def add(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` each time from now on; it must return soon, and not change this watch."""
        with self._lock:
            self._callbacks.append(callback)
            if not self._is_running:
                lowest, _ = _ahead()
                threading.Thread(target=self._run, args=(lowest,), name="clock", daemon=True).start()
                self._is_running = True

    def remove(self, callback: Callable[[], None]) -> None:
        """No longer calls ``callback``, which isn't running any more when this returns."""
        with self._lock:
            self._callbacks.remove(callback)

    def _run(self, lowest: float) -> None:
        while True:
            time.sleep(_POLL_SECONDS)
            with self._lock:
                if not self._callbacks:
                    self._is_running = False
                    return
                lower, upper = _ahead()
                if lowest - upper >= _LEAST_SECONDS:
                    _LOGGER.warning("the clock was set back by %.3f s; batches do not wait for it", lowest - upper)
                    self._call()
                lowest = lower

    def _call(self) -> None:
        for callback in self._callbacks:
            try:
                callback()
            except Exception:
                _LOGGER.exception("after the clock was set back")


def _ahead() -> tuple[float, float]:
    """By how many seconds the wall clock is at least, and at most, ahead of the monotonic one.

    They can't be read at once: this thread may be interrupted in between for any time.
    """
    before = time.monotonic()
    now = time.time()
    return now - time.monotonic(), now - before


watch = ClockWatch()
"""The process's watch."""
