"""Gives memory that malloc keeps after an unload back to the system, when nobody is disturbed by it."""

import ctypes
import functools
import threading
import time
from typing import Any

# Giving back takes tens of milliseconds, in which nobody else can allocate: requests would wait for it. So it waits
# until the process does next to nothing: for so long, less than such a share of one core.
_QUIET_SECONDS = 0.25
_QUIET_SHARE = 0.1

_lock = threading.Lock()
_waiting: threading.Thread | None = None


def give_back_when_quiet() -> None:
    """Returns at once. While the process is busy, what malloc keeps stays for whatever is allocated next."""
    global _waiting
    if _trim() is None:
        return
    with _lock:
        if _waiting is None:
            _waiting = threading.Thread(target=_wait, name="give-back-memory", daemon=True)
            _waiting.start()


def _wait() -> None:
    global _waiting
    share = 1.0
    while share > _QUIET_SHARE:
        start, used = time.monotonic(), time.process_time()
        time.sleep(_QUIET_SECONDS)
        share = (time.process_time() - used) / (time.monotonic() - start)
    with _lock:
        _waiting = None
    _trim()(0)


@functools.cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
