"""CSV and TSV files: their delimiter, quote, encoding and unconverted rows.

Two independent readers process a file. Python's `csv` in strict mode validates it: every record needs as many
fields as the header, and every quote must be closed; it counts the records and finds the row of a fault. PyArrow's
streaming reader then builds the columns. The source compares both counts.
"""

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainer.data.faults import DatasetError
from trainer.data.settings import TableFormat
from trainer.data.sources.audit import Audit, audit
from trainer.data.sources.dialect import Dialect, place_of, sniff
from trainer.data.sources.opening import TextFile, open_text
from trainer.data.sources.table import Choose, RawTable
from trainer.errors import first_line

_LOG = logging.getLogger(__name__)
_BLOCK_BYTES: Final = 8 << 20
_MAX_BLOCK_BYTES: Final = 1 << 30
# Written by PostgreSQL's and MySQL's exports, and never meant as text.
_NULLS: Final = ["", r"\N"]
# In a file without quoting: a whole quoted field with a doubled quote inside.
_QUOTED_FIELD: Final = r'(?s)^"(?:[^"]|"")*""(?:[^"]|"")*"$'
# In a file with quoting: quotes not recognised because of a preceding space.
_BEHIND_SPACE: Final = r'(?s)^\s+".*"\s*$'


def read(path: Path, table: str, form: TableFormat, wanted: Collection[str], choose: Choose, target: Path) -> RawTable:
    """Reads a CSV or TSV file; all values are text, null if a field is empty.

    Args:
        path: The file.
        table: The table it holds, for error messages.
        form: Delimiter, quote and encoding if they are set.
        wanted: Column names that identify the right delimiter.
        choose: Selects the columns.
        target: Parquet file to write the columns to.

    Raises:
        DatasetError: Gives the file, the unreadable row and the remedy.
    """
    file = open_text(path, form.encoding)
    dialect = sniff(file, form, wanted)
    found = audit(file, dialect, table, sure=form.quote is not None)
    chosen = choose(found.names)
    _refuse_repeated(path, found.names, chosen)
    _write_columns(file, dialect, found, chosen, target)
    frame = pl.scan_parquet(target, glob=False)

    def place(row: int) -> str:
        return place_of(file, dialect, row)

    if form.quote is None:
        _refuse_odd_quotes(path, dialect, frame, chosen, place)
    if found.blank:
        _LOG.info("%s: %d blank lines ignored", path, found.blank)
    facts = {
        "delimiter": dialect.delimiter,
        "quote": dialect.quote or "",
        "encoding": file.encoding,
        "blank_lines": found.blank,
    }
    return RawTable(found.names, frame, found.records, place, facts)


def _write_columns(file: TextFile, dialect: Dialect, found: Audit, chosen: dict[str, str], target: Path) -> None:
    # Numbered, because names may repeat or be missing; the header is one skipped record.
    numbers = {name: f"f{found.names.index(column)}" for name, column in chosen.items()}
    schema = pa.schema([(name, pa.string()) for name in numbers])
    if not found.records:
        # PyArrow reports a header without a line end as a record larger than any block.
        pa.parquet.write_table(schema.empty_table(), target)
        return
    block = _BLOCK_BYTES
    while True:
        try:
            with (
                file.bytes() as opened,
                pa.csv.open_csv(
                    opened,
                    pa.csv.ReadOptions(
                        block_size=block,
                        column_names=[f"f{number}" for number in range(len(found.names))],
                        skip_rows_after_names=found.blank_before + 1,
                        encoding="utf8" if file.encoding.startswith("utf-8") else file.encoding,
                    ),
                    pa.csv.ParseOptions(
                        delimiter=dialect.delimiter,
                        quote_char=dialect.quote or False,
                        double_quote=dialect.quote is not None,
                        newlines_in_values=dialect.quote is not None,
                    ),
                    pa.csv.ConvertOptions(
                        include_columns=list(dict.fromkeys(numbers.values())),
                        column_types={number: pa.string() for number in numbers.values()},
                        null_values=_NULLS,
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=True,
                    ),
                ) as batches,
                pa.parquet.ParquetWriter(target, schema, compression="lz4") as writer,
            ):
                for batch in batches:
                    columns = [batch.column(number) for number in numbers.values()]
                    writer.write_batch(pa.record_batch(columns, schema=schema))
            return
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error) or block >= _MAX_BLOCK_BYTES:
                raise DatasetError(
                    f"{file.path}: Python's csv and PyArrow read it differently ({first_line(error)}). "
                    "Remedy: write it again with a CSV library, or as Parquet."
                ) from error
            # One record is larger than a block.
            block = min(8 * block, _MAX_BLOCK_BYTES)


def _refuse_repeated(path: Path, names: list[str], chosen: dict[str, str]) -> None:
    for column in chosen.values():
        if names.count(column) > 1:
            raise DatasetError(
                f"{path}: {names.count(column)} columns of the header are named `{column}`. Remedy: give each a "
                "unique name."
            )


def _refuse_odd_quotes(
    path: Path, dialect: Dialect, frame: pl.LazyFrame, chosen: dict[str, str], place: Callable[[int], str]
) -> None:
    """Refuses values that were most likely meant as quoted but are not read as such."""
    pattern = _QUOTED_FIELD if dialect.quote is None else _BEHIND_SPACE
    marks = [pl.arg_where(pl.col(name).str.contains(pattern)).first().alias(name) for name in chosen]
    found = frame.select(marks).collect(engine="streaming")
    for name, column in chosen.items():
        row = found[name][0]
        if row is None:
            continue
        value = frame.select(name).slice(row, 1).collect().item()
        if dialect.quote is None:
            problem, remedy = "is quoted as in CSV, but the file is read without quoting", "set `quote: '\"'`"
            meant = "''"
        else:
            problem, remedy = "has a space before its quotes, which makes them text", "remove the space"
            meant = repr(dialect.quote)
        raise DatasetError(
            f"{path}, column `{column}`, {place(row)}: {value!r} {problem}. Remedy: {remedy}, or, if the quotes "
            f"belong to the text, set `quote: {meant}` in `data.source`."
        )
