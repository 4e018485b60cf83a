"""Files and directories by path or URI, on any file system that Arrow knows: this machine, gs://, s3://, hdfs://.

Workers of a cluster see the same ones: paths of this machine must lie on a file system that all of them mount.
"""

import fnmatch
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.fs

from trainer.data.dataset import HEADER, DatasetExistsError
from trainer.data.faults import DatasetError, reading
from trainer.errors import BabelrecError, first_line
from trainer.files import atomic_directory

_WILD: Final = re.compile(r"[*?\[]")
# Spark expands these in paths, and there is no way to quote them in all of its file systems.
_EXPANDED: Final = re.compile(r"[*?\[\]{}]")
# Spark's name of the scheme that Arrow calls `s3`.
_SCHEMES: Final = {"s3a": "s3", "s3n": "s3"}


def located(place: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a path or URI, and the path in it.

    Raises:
        BabelrecError: There is no such kind of file system, or it can't be reached.
    """
    scheme, separator, rest = place.partition("://")
    if not separator:
        return pyarrow.fs.LocalFileSystem(), str(Path(place).expanduser().absolute())
    try:
        found: tuple[pyarrow.fs.FileSystem, str] = pyarrow.fs.FileSystem.from_uri(
            f"{_SCHEMES.get(scheme, scheme)}://{rest}"
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BabelrecError(
            f"{place} can't be opened: {first_line(error)}. Remedy: give a path, or a gs://, s3:// or hdfs:// URI."
        ) from error
    return found


def is_local(place: str) -> bool:
    """Whether a path or URI is of a mounted file system."""
    return isinstance(located(place)[0], pyarrow.fs.LocalFileSystem)


def for_spark(place: str) -> str:
    """The same as Spark's readers and writers name it."""
    return "file://" + located(place)[1] if is_local(place) else place


def joined(place: str, *names: str) -> str:
    """A place below another."""
    return "/".join([place.rstrip("/"), *names])


def files_of(place: str) -> list[str]:
    """The files of a table in the order of its rows: a file, the files below a directory, or those that a glob names.

    The order is that of the paths, as for `trainer.data.sources.parts`. Files that begin with ``_`` or ``.`` are
    skipped, and empty ones unless all are. In a glob ``*`` stands for ``/`` too.

    Raises:
        DatasetError: There are none.
    """
    filesystem, path = located(place)
    root = path
    if _WILD.search(path):
        root = str(PurePosixPath(*_fixed(path)))
    with reading(place):
        info = filesystem.get_file_info(root)
        if info.type == pyarrow.fs.FileType.File:
            return [place]
        found = filesystem.get_file_info(pyarrow.fs.FileSelector(root, recursive=True, allow_not_found=False))
    files = [each for each in found if each.is_file and not _hidden(each.path, root)]
    if root != path:
        files = [each for each in files if fnmatch.fnmatchcase(each.path, path)]
    files = [each for each in files if each.size] or files
    if not files:
        raise DatasetError(f"{place} has no files. Remedy: give a file, a directory of part files, or a glob.")
    prefix = place[: len(place) - len(path)] if place.endswith(path) else ""
    return [prefix + each.path for each in sorted(files, key=lambda each: PurePosixPath(each.path).parts)]


def _fixed(path: str) -> Iterator[str]:
    for part in PurePosixPath(path).parts:
        if _WILD.search(part):
            return
        yield part


def _hidden(path: str, root: str) -> bool:
    return any(name.startswith(("_", ".")) for name in PurePosixPath(path).relative_to(root).parts)


def fetched(place: str, folder: Path) -> Path:
    """A file as one of this machine: itself, or a copy in ``folder``."""
    filesystem, path = located(place)
    if is_local(place):
        return Path(path)
    copy = folder / PurePosixPath(path).name
    with reading(place):
        pyarrow.fs.copy_files(path, str(copy), source_filesystem=filesystem)
    return copy


def put(file: Path, place: str) -> None:
    """Copies a file of this machine; what is there before appears or is replaced as a whole."""
    filesystem, path = located(place)
    if not is_local(place):
        # Object stores show a file when it has been written.
        pyarrow.fs.copy_files(str(file), path, destination_filesystem=filesystem)
        return
    filesystem.create_dir(str(Path(path).parent))
    # Of this attempt: Spark may try a task twice at once.
    partial = f"{path}.{file.stat().st_ino}.partial"
    pyarrow.fs.copy_files(str(file), partial)
    filesystem.move(partial, path)


def remove(place: str) -> None:
    """Removes a directory, if it is there."""
    filesystem, path = located(place)
    if filesystem.get_file_info(path).type == pyarrow.fs.FileType.Directory:
        filesystem.delete_dir(path)


@contextmanager
def building(output: str) -> Iterator[str]:
    """Yields the place to write a dataset directory at, complete when the block succeeds.

    On a mounted file system a temporary directory is renamed. Elsewhere there are no renames: `HEADER` must be written
    last, and what an earlier attempt has left without one is removed.

    Raises:
        DatasetExistsError: There is a dataset already.
        BabelrecError: The path has characters that Spark would expand.
    """
    filesystem, path = located(output)
    if found := _EXPANDED.search(path):
        raise BabelrecError(f"{output} contains {found[0]!r}, which Spark would expand. Remedy: choose another name.")
    there = f"{output} already exists. Remedy: remove it, or choose another directory."
    if is_local(output):
        if Path(path).exists():
            raise DatasetExistsError(there)
        with atomic_directory(Path(path)) as temporary:
            yield str(temporary)
        return
    if filesystem.get_file_info(f"{path}/{HEADER}").type != pyarrow.fs.FileType.NotFound:
        raise DatasetExistsError(there)
    remove(output)
    yield output
