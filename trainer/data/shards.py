"""A Parquet table as one file, or as a directory of shards: files with the same columns, in order of their names."""

from pathlib import Path

import polars as pl

SUFFIX = ".parquet"


def shards(table: Path) -> list[Path]:
    """The files of a table, in the order of its rows: the file itself, or those of a directory.

    Raises:
        FileNotFoundError: There is no such table, or the directory has no Parquet files.
    """
    if not table.is_dir():
        return [table]
    found = sorted(file for file in table.iterdir() if file.suffix == SUFFIX and not file.name.startswith(("_", ".")))
    if not found:
        raise FileNotFoundError(f"{table} is a directory without Parquet files")
    return found


def scan_shards(table: Path) -> pl.LazyFrame:
    """The rows of a table."""
    return pl.scan_parquet(shards(table), glob=False)
