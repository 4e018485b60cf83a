"""One writer per directory: a lock that the kernel releases when its holder exits, however it exits."""

import contextlib
import fcntl
import itertools
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from trainer.errors import BabelrecError

LOCK_FILE: Final = ".lock"
_ATTEMPTS: Final = 100
_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def writing_alone(directory: Path, *, wait: bool = False) -> Iterator[bool]:
    """Keeps other processes from writing to a directory during the block.

    ``flock`` on a file in the directory, which stays there: the lock is the kernel's, so a killed holder leaves none
    behind. Processes on other machines are kept out too if the file system propagates locks (NFS does). If it has no
    locks at all, a warning is logged. The block may remove the directory: first its content, then the lock.

    Args:
        directory: Created if missing.
        wait: Whether to wait for another process writing there, or to refuse.

    Yields:
        Whether it is locked; False on a file system without locks.

    Raises:
        BabelrecError: Another process writes there (reported with pid, host and start time).
    """
    descriptor, locked = _acquire(directory, wait)
    try:
        # Writing the holder is best effort; a full disk must not keep anybody from freeing space.
        with contextlib.suppress(OSError):
            _sign(descriptor)
        yield locked
    finally:
        os.close(descriptor)


def still_there(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names the open file: its last holder may have removed it before releasing the lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _acquire(directory: Path, wait: bool) -> tuple[int, bool]:
    for attempt in itertools.count():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (FileNotFoundError, FileExistsError):
            # Removed in between. In some places, such as /proc, no file can be created at all.
            if attempt < _ATTEMPTS:
                continue
            raise
        try:
            locked = _flock(descriptor, directory, wait)
            if still_there(descriptor, directory / LOCK_FILE):
                return descriptor, locked
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise AssertionError("it counts without end")


def _flock(descriptor: int, directory: Path, wait: bool) -> bool:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{directory} is being written by another process ({_holder(descriptor)})."
            if not wait:
                raise BabelrecError(f"{message} Wait for it to finish, or use another directory.") from error
            _LOG.info("%s Waiting for it to finish.", message)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        _LOG.warning("%s can't be locked (%s): don't start a second run in it.", directory, error.strerror)
        return False
    return True


def _sign(descriptor: int) -> None:
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"pid {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        # It has the lock but has not written its entry yet.
        return "just started"
