"""CSV and TSV files: which delimiter, quote and encoding they have, and their rows as they are written.

Two readers that share no code go over a file. Python's `csv` in strict mode judges it: every record needs as many
fields as the header, and every quote must be closed; it counts the records and finds the row of a fault. PyArrow's
streaming reader then makes the columns. The source compares both counts.
"""

import contextlib
import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainer.config import TableFormat
from trainer.data.faults import DatasetError
from trainer.data.sources.opening import TextFile, ending, open_text, undecodable
from trainer.data.sources.table import Choose, RawTable, called

_LOG = logging.getLogger(__name__)
_DELIMITERS: Final = (",", "\t", ";", "|")
_SIGNS: Final = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
_SAMPLE_RECORDS: Final = 200
_BLOCK_BYTES: Final = 8 << 20
_MAX_BLOCK_BYTES: Final = 1 << 30
# A field that is larger has swallowed the file behind a quote that nothing closes.
_MAX_FIELD: Final = 1 << 27
# Written by PostgreSQL's and MySQL's exports, and by nobody as text.
_NULLS: Final = ["", r"\N"]
# In a file without quoting: a whole field in quotes with a doubled one inside.
_QUOTED_FIELD: Final = r'(?s)^"(?:[^"]|"")*""(?:[^"]|"")*"$'


class _Reader(Protocol):
    """What `csv.reader` returns."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class _Dialect:
    delimiter: str
    quote: str | None

    @contextmanager
    def records(self, file: TextFile, errors: str = "strict") -> Iterator[_Reader]:
        with file.text(errors) as text:
            limit = csv.field_size_limit(_MAX_FIELD)
            try:
                yield self.over(text)
            finally:
                csv.field_size_limit(limit)

    def over(self, lines: Iterator[str]) -> _Reader:
        if self.quote is None:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=True)


@dataclass(frozen=True, slots=True)
class _Audit:
    """What strict reading found: names, records below the header, and blank lines before and below it."""

    names: list[str]
    records: int
    blank_before: int
    blank: int


def read(path: Path, table: str, form: TableFormat, wanted: Collection[str], choose: Choose, target: Path) -> RawTable:
    """Reads a CSV or TSV file; all values are text, null where nothing stands.

    Args:
        path: The file.
        table: Which table it is, for errors.
        form: Delimiter, quote and encoding where they are given.
        wanted: Column names that tell a right delimiter from a wrong one.
        choose: Picks the columns.
        target: Parquet file to write the columns to.

    Raises:
        DatasetError: Names the file and the row that can't be read, and the remedy.
    """
    file = open_text(path, form.encoding)
    dialect = _dialect(file, form, wanted)
    audit = _audit(file, dialect, table)
    chosen = choose(audit.names)
    _refuse_repeated(path, audit.names, chosen)
    _write_columns(file, dialect, audit, chosen, target)
    frame = pl.scan_parquet(target, glob=False)

    def place(row: int) -> str:
        return _place(file, dialect, row)

    if dialect.quote is None and form.quote is None:
        _refuse_quoted(path, frame, chosen, place)
    if audit.blank:
        _LOG.info("%s: %d blank lines are no rows", path, audit.blank)
    facts = {
        "delimiter": dialect.delimiter,
        "quote": dialect.quote or "",
        "encoding": file.encoding,
        "blank_lines": audit.blank,
    }
    return RawTable(audit.names, frame, audit.records, place, facts)


def _dialect(file: TextFile, form: TableFormat, wanted: Collection[str]) -> _Dialect:
    usual = "\t" if ending(file.path) == ".tsv" else ","
    sample = file.sample()
    quote = form.quote
    if quote is None:
        # TSV has no quoting, unless its very header is quoted.
        quoted = re.match(r'\s*"[^"\r\n]+"(?:[\t,;|"\r\n]|$)', sample)
        quote = '"' if usual == "," or quoted else ""
        if usual == "\t" and quoted:
            _LOG.info('%s: its header is in quotes: read as quoted by `"`', file.path)
    if form.delimiter is not None:
        return _Dialect(form.delimiter, quote or None)
    scores = {delimiter: _score(sample, _Dialect(delimiter, quote or None), wanted) for delimiter in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda delimiter: (scores[delimiter], delimiter == usual))
    # The usual one stays unless another one finds more of the wanted columns, and finds them in every row.
    if best != usual and scores[best] > scores[usual]:
        _LOG.info("%s: read as separated by %s (%r)", file.path, _SIGNS[best], best)
        return _Dialect(best, quote or None)
    return _Dialect(usual, quote or None)


def _score(sample: str, dialect: _Dialect, wanted: Collection[str]) -> tuple[int, bool]:
    """How many wanted columns the header has, and whether it has several and all rows have as many fields."""
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        # The last line of a sample may be cut.
        lines = io.StringIO(sample, newline="").readlines()
        rows.extend(filter(None, islice(dialect.over(iter(lines[:-1] if len(lines) > 2 else lines)), _SAMPLE_RECORDS)))
    if not rows:
        return 0, False
    header = {name.strip().lstrip("\ufeff") for name in rows[0]}
    return len(header & set(wanted)), len(header) > 1 and len({len(row) for row in rows}) == 1


def _audit(file: TextFile, dialect: _Dialect, table: str) -> _Audit:
    try:
        with dialect.records(file) as records:
            before = 0
            for names in records:
                if names:
                    break
                before += 1
            else:
                raise DatasetError(
                    f"{file.path}: the table `{table}` is empty. Remedy: give a header and at least one row."
                )
            lengths = Counter(map(len, records))
    except UnicodeDecodeError:
        raise _undecodable(file, dialect) from None
    except csv.Error as error:
        raise _broken_quote(file, dialect, error) from error
    blank = lengths.pop(0, 0)
    if set(lengths) - {len(names)}:
        raise _wrong_length(file, dialect, len(names))
    _refuse_zeros(file, dialect)
    names[0] = names[0].lstrip("\ufeff")
    return _Audit([name or "(unnamed)" for name in names], lengths.total(), before, blank)


def _write_columns(file: TextFile, dialect: _Dialect, audit: _Audit, chosen: dict[str, str], target: Path) -> None:
    # Numbered, so that names may repeat or be missing; the header is one record that is skipped.
    numbers = {name: f"f{audit.names.index(column)}" for name, column in chosen.items()}
    schema = pa.schema([(name, pa.string()) for name in numbers])
    block = _BLOCK_BYTES
    while True:
        try:
            with (
                file.bytes() as opened,
                pa.csv.open_csv(
                    opened,
                    pa.csv.ReadOptions(
                        block_size=block,
                        column_names=[f"f{number}" for number in range(len(audit.names))],
                        skip_rows_after_names=audit.blank_before + 1,
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
                    f"{file.path}: Python's csv and PyArrow read it differently ({str(error).splitlines()[0]}). "
                    "Remedy: write it anew by a CSV library, or as Parquet."
                ) from error
            # One record is larger than a block.
            block *= 8


def _refuse_repeated(path: Path, names: list[str], chosen: dict[str, str]) -> None:
    for column in chosen.values():
        if names.count(column) > 1:
            raise DatasetError(
                f"{path}: {names.count(column)} columns of the header are called `{column}`. Remedy: give each a "
                "name of its own."
            )


def _refuse_quoted(path: Path, frame: pl.LazyFrame, chosen: dict[str, str], place: Callable[[int], str]) -> None:
    marks = [pl.arg_where(pl.col(name).str.contains(_QUOTED_FIELD)).first().alias(name) for name in chosen]
    found = frame.select(marks).collect()
    for name, column in chosen.items():
        row = found[name][0] if found.height else None
        if row is not None:
            value = frame.select(name).slice(row, 1).collect().item()
            raise DatasetError(
                f"{path}, column `{column}`, {place(row)}: {value!r} is quoted as in CSV, and the file is read without "
                "quoting. Remedy: set `quote: '\"'` in `data.source`, or `quote: ''` if the quotes belong to the text."
            )


def _place(file: TextFile, dialect: _Dialect, row: int) -> str:
    with dialect.records(file, "replace") as records:
        _, line = _nth(records, row + 1)
    return called(row, line, row + 2)


def _nth(records: _Reader, number: int) -> tuple[list[str], int]:
    """The non-blank record ``number`` (0 is the header) and the line in which it begins."""
    seen = -1
    line = records.line_num + 1
    for record in records:
        if record:
            seen += 1
            if seen == number:
                return record, line
        line = records.line_num + 1
    return [], line


def _wrong_length(file: TextFile, dialect: _Dialect, wanted: int) -> DatasetError:
    first, count, line = "", 0, 1
    found = 0
    with dialect.records(file) as records:
        row = -1
        for record in records:
            if record:
                if len(record) != wanted:
                    count += 1
                    if not first:
                        first, found = called(row, line, row + 2), len(record)
                row += 1
            line = records.line_num + 1
    sign = _SIGNS.get(dialect.delimiter, repr(dialect.delimiter))
    quote = dialect.quote or '"'
    if found > wanted and dialect.quote is not None:
        remedy = f"put a field that holds a {sign} or a line break in quotes ({quote})"
    elif found > wanted:
        remedy = f"take the {sign} out of the field, or quote it and set `quote: '\"'` in `data.source`"
    else:
        remedy = f"give every row all {wanted} fields (a line break inside a field needs quotes{_needs_quote(dialect)})"
    if wanted == 1:
        remedy = "set `delimiter` in `data.source` to what separates the columns"
    others = f" ({count:,} rows are so)" if count > 1 else ""
    return DatasetError(
        f"{file.path}, {first}: {found} field{'s' * (found != 1)} where the header has {wanted}{others}. "
        f"Remedy: {remedy}."
    )


def _needs_quote(dialect: _Dialect) -> str:
    return "" if dialect.quote is not None else " and `quote: '\"'` in `data.source`"


def _broken_quote(file: TextFile, dialect: _Dialect, error: csv.Error) -> DatasetError:
    row, line = -1, 1
    with dialect.records(file) as records:
        try:
            for record in records:
                row += bool(record)
                line = records.line_num + 1
        except csv.Error:
            pass
    where = called(row, line, row + 2) if row >= 0 else "header"
    quote = dialect.quote or '"'
    if "end of data" in str(error) or "field larger" in str(error):
        problem = f"the quote ({quote}) that opens a field in it is never closed"
    elif "expected after" in str(error):
        problem = f"text follows the quote ({quote}) that closes a field"
    else:
        problem = str(error)
    return DatasetError(
        f"{file.path}, {where}: {problem}. Remedy: write a quote inside a quoted field twice "
        f"({quote * 2}), or set `quote: ''` in `data.source` if the file's quotes are part of the text."
    )


def _undecodable(file: TextFile, dialect: _Dialect) -> DatasetError:
    found = file.first_undecodable_line()
    if found is None:
        return undecodable(file, "at its end", "")
    number, shown = found
    row, line = -1, 1
    try:
        with dialect.records(file, "replace") as records:
            for record in records:
                if records.line_num >= number:
                    break
                row += bool(record)
                line = records.line_num + 1
    except csv.Error:
        pass
    return undecodable(file, called(row, line, row + 2) if row >= 0 else "header", shown)


def _refuse_zeros(file: TextFile, dialect: _Dialect) -> None:
    if file.encoding.startswith(("utf-16", "utf-32")):
        return
    with file.bytes() as opened:
        while block := opened.read(1 << 20):
            if b"\x00" in block:
                break
        else:
            return
    row, line = -1, 1
    with dialect.records(file, "replace") as records:
        for record in records:
            if any("\x00" in value for value in record):
                break
            row += bool(record)
            line = records.line_num + 1
    where = called(row, line, row + 2) if row >= 0 else "header"
    raise DatasetError(
        f"{file.path}, {where}: it holds a NUL byte, which no text has. Remedy: set `encoding` in `data.source` if the "
        "file is in another one, or write the file anew."
    )
