"""Digest of a source's files: the part of a cache key that is independent of clocks and file systems.

Every byte is read each time. A memo by size and times would be wrong where a file is written through a memory map,
twice within one tick of the clock, or on a network file system with an attribute cache; and it would save little:
`Dataset.load` reads and checks every value of the cached tables anyway.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainer.data.faults import DatasetError


def contents(files: Iterable[Path]) -> str:
    """SHA-256 over the content of files, and of every file below directories with its relative path.

    Args:
        files: Files and directories; their own names have no influence, but their order does.

    Returns:
        64 hexadecimal digits.

    Raises:
        DatasetError: A file is missing, can't be read or is neither a file nor a directory.
    """
    total = hashlib.sha256(b"babelrec source 1")
    for number, file in enumerate(files):
        for place, part in _parts(file):
            # The lengths distinguish different divisions of the same bytes.
            name = os.fsencode(place)
            total.update(b"%d %d " % (number, len(name)) + name + _digest(part))
    return total.hexdigest()


def _parts(file: Path) -> Iterator[tuple[str, Path]]:
    """The files of a directory with relative paths, in a machine-independent order; or the file itself."""
    if not file.is_dir():
        yield "", file
        return
    found: list[tuple[str, Path]] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(file, followlinks=True):
        # A link to a parent folder would be followed forever.
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(folder, name)) not in seen]
        seen.add(os.path.realpath(folder))
        found += [(os.path.relpath(os.path.join(folder, name), file), Path(folder, name)) for name in names]
    yield from sorted(found)


def _digest(file: Path) -> bytes:
    try:
        with open(file, "rb", opener=_open) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise DatasetError(f"{file} is not a regular file. Remedy: write the data to a file and give its path.")
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError as error:
        raise DatasetError(
            f"{file} can't be read: {error.strerror}. Remedy: correct its path or permissions."
        ) from error


def _open(path: str, flags: int) -> int:
    # Opening a named pipe would block until there is a writer.
    return os.open(path, flags | os.O_NONBLOCK)
