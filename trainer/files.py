"""Writing that leaves either the old file or the new one, never a half."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_root() -> Path:
    """Where downloads, encoders and vectors are kept: ``$BABELREC_CACHE`` or ``~/.cache/babelrec``."""
    return Path(os.environ.get("BABELREC_CACHE", "~/.cache/babelrec")).expanduser()


def data_mirror() -> Path | None:
    """The folder of ``$BABELREC_DATA_MIRROR`` where source files may lie instead of on the network."""
    value = os.environ.get("BABELREC_DATA_MIRROR")
    return Path(value).expanduser() if value else None


def fsync_directory(path: Path) -> None:
    """Makes a rename inside ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it there when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary directory beside ``path``; renames it there when the block succeeds.

    Raises:
        FileExistsError: ``path`` exists when the block ends (another process was faster); the
            temporary directory is removed and what stands at ``path`` is left as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            else:
                fsync_directory(file)
        fsync_directory(temporary)
        temporary.chmod(0o755)
        if path.exists():
            raise FileExistsError(f"{path} exists already")
        temporary.rename(path)
        fsync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
