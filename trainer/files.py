"""Atomic writes, which leave either the old file or the new one."""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trainer.errors import BabelrecError
from trainer.locks import LOCK_FILE, still_there, writing_alone

_TEMPORARY_FILE: Final = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp", re.DOTALL)
_DAY: Final = 86_400


def cache_root() -> Path:
    """Root of the cache of downloads, encoders and vectors: ``$BABELREC_CACHE`` or ``~/.cache/babelrec``."""
    return Path(os.environ.get("BABELREC_CACHE", "~/.cache/babelrec")).expanduser()


def data_mirror() -> Path | None:
    """The folder of ``$BABELREC_DATA_MIRROR`` for source files instead of the network."""
    value = os.environ.get("BABELREC_DATA_MIRROR")
    return Path(value).expanduser() if value else None


def fsync_directory(path: Path) -> None:
    """Makes a rename inside ``path`` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to ``path``; renames it there when the block succeeds."""
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        descriptor, temporary = _own_file(path)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            fsync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Yields an empty folder next to ``path`` to build it in; the folder and its content are removed afterwards.

    The folder also locks ``path``: a second process that wants to build it waits, and may find it built.
    """
    folder = path.parent / f".{path.name}.tmp"
    with _naming(path), writing_alone(folder, wait=True) as locked:
        _sweep(path.parent)
        if locked:
            _empty(folder)
        own = Path(tempfile.mkdtemp(dir=folder))
        try:
            yield own
        finally:
            if locked:
                _discard(folder)
            else:
                shutil.rmtree(own, ignore_errors=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary directory near ``path``; renames it there when the block succeeds.

    Raises:
        FileExistsError: ``path`` exists, or does when the block ends; it is left unchanged.
    """
    with staging(path) as folder:
        _refuse(path)
        temporary = folder / path.name
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            else:
                fsync_directory(file)
        fsync_directory(temporary)
        _refuse(path)
        temporary.rename(path)
        fsync_directory(path.parent)


def _refuse(path: Path) -> None:
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _own_file(path: Path) -> tuple[int, Path]:
    """A new temporary file, and the descriptor of this process's lock on it."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if still_there(descriptor, Path(name)):
            return descriptor, Path(name)
        # Removed by a sweep before it was locked.
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Removes leftovers of `atomic_file` and `staging` of killed processes, never those of a live one."""
    for path in directory.glob(".*.tmp"):
        # Ignore leftovers of other users.
        with contextlib.suppress(OSError, BabelrecError):
            if not path.is_dir():
                if _TEMPORARY_FILE.fullmatch(path.name):
                    _remove_if_free(path)
            elif (path / LOCK_FILE).exists():
                with writing_alone(path) as locked:
                    if locked:
                        _discard(path)
            elif _TEMPORARY_FILE.fullmatch(path.name) and time.time() - path.stat().st_mtime > _DAY:
                # From an earlier version without locks.
                shutil.rmtree(path)


def _remove_if_free(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink()
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink()


def _discard(folder: Path) -> None:
    with contextlib.suppress(OSError):
        _empty(folder)
        # Last, because from now on another process may enter.
        (folder / LOCK_FILE).unlink()
        folder.rmdir()


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Adds the file being written to an error that lacks it; `trainer.storage` reads the note."""
    try:
        yield
    except Exception as error:
        if getattr(error, "filename", None) is None and not hasattr(error, "writing"):
            error.writing = path  # type: ignore[attr-defined]
        raise
