"""Returns memory that malloc keeps after an unload to the system, at a quiet moment."""

import threading
import time

from serving.private.libc import malloc_trim

# Returning memory takes tens of milliseconds, during which no other thread can allocate: requests would have to wait.
# So this waits until the process is nearly idle: less than this fraction of one core over this period.
_QUIET_SECONDS = 0.25
_QUIET_SHARE = 0.1

_lock = threading.Lock()
_waiting: threading.Thread | None = None


def give_back_when_quiet() -> None:
    """Starts the wait and returns at once. While the process is busy, malloc keeps the memory for new allocations."""
    global _waiting
    if malloc_trim() is None:
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
    trim = malloc_trim()
    if trim is not None:
        trim()
