"""Temporary folders of a process, removed by the next one if it was killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_LOCK = "lock"
# A folder that has no lock yet may just have been made.
_NEW_SECONDS = 60.0


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder that only this user can enter; removed at the end, with what killed processes left of the same prefix.

    Args:
        prefix: of the name, such as ``babelrec-grpc-``.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with (folder / _LOCK).open("w") as lock:
            # Released when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX)
            _sweep(folder.parent, prefix, but=folder)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path, prefix: str, *, but: Path) -> None:
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if folder != but and folder.is_dir() and status.st_uid == os.getuid() and _is_abandoned(folder, status):
                shutil.rmtree(folder)


def _is_abandoned(folder: Path, status: os.stat_result) -> bool:
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return time.time() - status.st_mtime > _NEW_SECONDS
