"""Parquet files: already typed, with the row count in the footer."""

from collections.abc import Collection
from pathlib import Path

import polars as pl
import pyarrow.parquet

from trainer.data.faults import DatasetError, reading
from trainer.data.settings import TableFormat
from trainer.data.sources.opening import refuse_other_formats
from trainer.data.sources.table import Choose, RawTable, called

_MAGIC = b"PAR1"


def read(path: Path, table: str, form: TableFormat, wanted: Collection[str], choose: Choose, target: Path) -> RawTable:
    """Scans a Parquet file; the arguments are those of the text readers, of which only ``choose`` is used.

    Raises:
        DatasetError: It has another format, truncated or damaged.
    """
    del table, form, wanted, target
    with reading(str(path)), path.open("rb") as file:
        head = file.read(4096)
        size = file.seek(0, 2)
        file.seek(max(size - len(_MAGIC), 0))
        tail = file.read()
    if not head.startswith(_MAGIC):
        refuse_other_formats(path, head)
        what = "is empty" if size == 0 else "is not a Parquet file"
        raise DatasetError(f"{path} {what}. Remedy: write it as Parquet, or give it the extension of its format.")
    if tail != _MAGIC:
        raise DatasetError(f"{path} is truncated: its Parquet footer is missing. Remedy: write or copy it again.")
    with reading(str(path)):
        records = pyarrow.parquet.read_metadata(path).num_rows
        frame = pl.scan_parquet(path, glob=False)
        names = frame.collect_schema().names()
    chosen = choose(names)
    frame = frame.select(pl.col(column).alias(name) for name, column in chosen.items())
    return RawTable(names, frame, records, lambda row: called(row, row, row), {})
