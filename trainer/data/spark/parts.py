"""What a worker does with one file of a table: converts it, and makes a shard of the dataset of it.

Both call the code that prepares a dataset on one machine, so that they decide alike. Faults are returned, not raised:
Spark would try the task again, and hide what it says.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.fs

from trainer.data.faults import DatasetError, Origin, reading
from trainer.data.settings import TabularSource
from trainer.data.sources.numbers import DECIMAL_COMMA
from trainer.data.sources.tabular import TableName, convert
from trainer.data.spark.places import fetched, located, put
from trainer.data.validation import validate_part

PART = "part"
ROW = "row"


@dataclass(frozen=True, slots=True)
class Converted:
    """One file of a table in the columns of the dataset format, or why it can't be.

    Attributes:
        file: The user's file.
        fault: What is wrong with it; None: nothing.
        records: Records of the file, counted apart from reading them.
        schema: Column -> type.
        unfilled: Columns without any value: their type could be any.
        decisions: What was decided by looking at all of the file's rows, which all files must agree on.
        facts: How the file was read, for `dataset.yaml`.
        columns: Column of the dataset format -> the user's column.
    """

    file: str
    fault: str | None = None
    records: int = 0
    schema: Mapping[str, pl.DataType] = field(default_factory=dict)
    unfilled: frozenset[str] = frozenset()
    decisions: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """A shard of the dataset, or why there is none.

    Attributes:
        fault: The first fault of its values; None: it has none.
        rows: How many it has.
        lengths: Embedding column -> length; None: no row has one.
    """

    fault: str | None = None
    rows: int = 0
    lengths: Mapping[str, int | None] = field(default_factory=dict)


def shard_name(part: int) -> str:
    """The file name of a shard; names sort as numbers do."""
    return f"part-{part:06d}.parquet"


def convert_part(source: TabularSource, table: TableName, file: str, target: str) -> Converted:
    """Converts one file of a table and writes it to ``target``, with all its rows in their order."""
    with tempfile.TemporaryDirectory(prefix="babelrec-") as name:
        folder = Path(name)
        local: Path | None = None
        try:
            local = fetched(file, folder)
            made = convert(source.model_copy(update={table: local}), table, folder)
            copy = folder / "converted.parquet"
            with reading(file):
                made.frame.sink_parquet(copy)
                written = pl.scan_parquet(copy, glob=False)
                counts = written.select(pl.all().null_count()).collect(engine="streaming").row(0, named=True)
                rows = int(written.select(pl.len()).collect(engine="streaming").item())
            if rows != made.facts["records"]:
                raise DatasetError(
                    f"{file} has {made.facts['records']:,} records, but {rows:,} rows were read. Remedy: this is a bug "
                    "in Babelrec: report it with the file; until then, write the file as Parquet."
                )
            put(copy, target)
        except DatasetError as error:
            # The user knows the file by the place it was fetched from.
            said = str(error) if local is None else str(error).replace(str(local), file)
            return Converted(file, fault=said)
        return Converted(
            file=file,
            records=rows,
            schema=dict(written.collect_schema()),
            unfilled=frozenset(column for column, nulls in counts.items() if nulls == rows),
            decisions={
                **{fact: made.facts[fact] for fact in ("times", "time_zone") if rows and fact in made.facts},
                "decimal commas": sorted(note for note in made.origin.notes if note.endswith(DECIMAL_COMMA)),
                "lists among texts": sorted(made.mixed),
            },
            facts=made.facts | {"notes": made.origin.notes},
            columns=made.origin.columns,
        )


def finish_part(
    table: TableName,
    converted: Converted,
    staged: str,
    schema: Mapping[str, pl.DataType],
    lost: str | None,
    target: str,
) -> Finished:
    """Makes a shard of a converted file and validates it.

    Args:
        table: The table.
        converted: The file.
        staged: What `convert_part` wrote of it.
        schema: Of the table: columns that have no value in this file get their type there.
        lost: Directory of Parquet files with the rows to leave out (`ROW`); None, or no such directory: none are.
        target: The shard to write.
    """
    with tempfile.TemporaryDirectory(prefix="babelrec-") as name:
        folder = Path(name)
        frame = pl.scan_parquet(fetched(staged, folder), glob=False).with_row_index(ROW)
        frame = frame.with_columns(
            pl.lit(None, dtype).alias(column) for column, dtype in schema.items() if converted.schema[column] != dtype
        )
        gone = rows_in(lost)
        if gone is not None:
            frame = frame.join(gone.lazy(), on=ROW, how="anti", maintain_order="left")
        numbers = frame.select(ROW)
        frame = frame.select(list(schema))
        shard = folder / shard_name(0)
        frame.sink_parquet(shard)

        def place(row: int) -> str:
            number = row if gone is None else int(numbers.slice(row, 1).collect(engine="streaming").item())
            return f"row {number + 1}"

        try:
            rows, lengths = validate_part(
                table, pl.scan_parquet(shard, glob=False), Origin(converted.file, converted.columns, place=place)
            )
        except DatasetError as error:
            return Finished(fault=str(error))
        put(shard, target)
        return Finished(rows=rows, lengths=lengths)


def without_rows(shard: str, lost: str, target: str) -> None:
    """Copies a shard without the rows (`ROW`) in a directory of Parquet files."""
    with tempfile.TemporaryDirectory(prefix="babelrec-") as name:
        folder = Path(name)
        frame = pl.scan_parquet(fetched(shard, folder), glob=False)
        gone = rows_in(lost)
        if gone is not None:
            frame = frame.with_row_index(ROW).join(gone.lazy(), on=ROW, how="anti", maintain_order="left").drop(ROW)
        made = folder / "left.parquet"
        frame.sink_parquet(made)
        put(made, target)


def rows_in(place: str | None) -> pl.DataFrame | None:
    """The row numbers that Spark has written to a directory; None: there is none."""
    if place is None:
        return None
    filesystem, path = located(place)
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    files = [each.path for each in found if each.is_file and each.path.endswith(".parquet")]
    if not files:
        return None
    frames = []
    for file in files:
        with filesystem.open_input_file(file) as opened:
            frames.append(pl.read_parquet(opened, columns=[ROW]))
    return pl.concat(frames).with_columns(pl.col(ROW).cast(pl.get_index_type()))
