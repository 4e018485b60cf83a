"""Tables in directories of part files, as Spark and others write them."""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import polars as pl

from trainer.data.faults import DatasetError, reading
from trainer.data.sources.opening import ending
from trainer.data.sources.table import RawTable


def part_files(path: Path) -> list[Path]:
    """The file itself, or the files below a directory in the order of their names.

    Files that begin with ``_`` or ``.``, such as ``_SUCCESS``, are not parts.

    Raises:
        DatasetError: A directory without parts, or with parts of several formats.
    """
    if not path.is_dir():
        return [path]
    with reading(str(path)):
        parts = sorted(
            file
            for file in path.rglob("*")
            if not file.is_dir() and not any(name.startswith(("_", ".")) for name in file.relative_to(path).parts)
        )
    # Spark writes an empty file for a partition without rows.
    parts = [part for part in parts if part.is_symlink() or part.stat().st_size] or parts
    if not parts:
        raise DatasetError(f"{path} is a directory without files. Remedy: give a file, or a directory of part files.")
    endings = {ending(part) for part in parts}
    if len(endings) > 1:
        raise DatasetError(
            f"{path} contains files of several formats ({', '.join(sorted(endings))}). Remedy: give one file, or "
            "a directory that contains the parts of one table."
        )
    return parts


def read_parts(parts: list[Path], read: Callable[[Path, Path], RawTable], folder: Path) -> RawTable:
    """Reads the parts of a table one after the other and concatenates them.

    Args:
        parts: Files with the same columns.
        read: Reads one file; receives a path for its own use.
        folder: Directory to create for those paths.

    Raises:
        DatasetError: A part can't be read, or has different columns or types from the first one.
    """
    folder.mkdir()
    tables = [read(part, folder / f"{number}.parquet") for number, part in enumerate(parts)]
    first = tables[0]
    if len(tables) == 1:
        return first
    schema = dict(first.frame.collect_schema())
    for part, table in zip(parts, tables, strict=True):
        if dict(table.frame.collect_schema()) != schema:
            raise DatasetError(
                f"{part} has different columns or types from {parts[0]}: {dict(table.frame.collect_schema())} against "
                f"{schema}. Remedy: give all parts the same columns and types."
            )
    starts = [0, *accumulate(table.records for table in tables)]

    def place(row: int) -> str:
        number = bisect_right(starts, row) - 1
        return f"{parts[number].name}, {tables[number].place(row - starts[number])}"

    names = list(dict.fromkeys(name for table in tables for name in table.names))
    return RawTable(
        names,
        pl.concat([table.frame.select(list(schema)) for table in tables]),
        starts[-1],
        place,
        dict(first.facts) | {"parts": len(parts)},
        frozenset().union(*(table.mixed for table in tables)),
    )
