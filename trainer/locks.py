"""One writer a directory: a lock that the kernel gives back when its holder ends, however it ends."""

import contextlib
import fcntl
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
_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def writing_alone(directory: Path) -> Iterator[None]:
    """Keeps other processes from writing into a directory for the length of the block.

    ``flock`` on a file in the directory, which stays there: the lock is the kernel's, so that a killed holder leaves
    none behind. Processes of other machines are kept out too where the file system passes locks on (NFS does). Where it
    has none at all, a warning says so.

    Args:
        directory: Made if it is missing.

    Raises:
        BabelrecError: Another process writes there (it is named by pid, host and start), or there can't be a directory.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BabelrecError(
            f"{directory} can't be written: {error.strerror}. Give a directory as --run-dir that you may write to."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BabelrecError(
                f"{directory} is being written by another process ({_holder(descriptor)}). Wait for it to end, or give "
                "another --run-dir."
            ) from error
        except OSError as error:
            _LOG.warning("%s can't be locked (%s): start no second run in it.", directory, error.strerror)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


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
        # It has the lock and has not signed yet.
        return "it has just begun"
