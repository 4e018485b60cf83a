"""A lock among the processes of one machine."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from serving.service.store.errors import UnavailableError

_PAUSE_SECONDS = 0.02


@contextlib.contextmanager
def file_lock(path: Path, wait_seconds: float) -> Iterator[None]:
    """Holds the lock; it ends with the block or with the process. The file stays, as others may wait for it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}. Remedy: let the service write in its folder.") from None
    try:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"{path} has been locked by another process for {wait_seconds:g} s. Remedy: try again later."
                    ) from None
                time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)
