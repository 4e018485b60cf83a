"""Strict check of a CSV or TSV file: counts its records and reports faults with their row."""

import contextlib
import csv
from collections import Counter
from dataclasses import dataclass

from trainer.data.faults import DatasetError
from trainer.data.sources.dialect import SIGNS, Dialect
from trainer.data.sources.opening import TextFile, undecodable
from trainer.data.sources.table import called


@dataclass(frozen=True, slots=True)
class Audit:
    """Result of the strict check: column names, records below the header, and blank lines before and below it."""

    names: list[str]
    records: int
    blank_before: int
    blank: int


def audit(file: TextFile, dialect: Dialect, table: str, *, sure: bool) -> Audit:
    """Checks a file strictly.

    Args:
        file: The file.
        dialect: Its delimiter and quote.
        table: The table it holds, for error messages.
        sure: Whether the user set the quoting. If not, a record over several lines, each of which would be a row
            without quoting, is refused.

    Raises:
        DatasetError: Gives the row and its fault.
    """
    try:
        with dialect.records(file) as records:
            before = 0
            for names in records:
                if names:
                    break
                before += 1
            else:
                raise DatasetError(
                    f"{file.path}: the table `{table}` is empty. Remedy: provide a header and at least one row."
                )
            if names[0].startswith("sep=") and len("".join(names)) <= len("sep=;"):
                raise DatasetError(
                    f"{file.path}: its first line {names[0]!r} is not a header but Excel's delimiter hint. "
                    "Remedy: remove the line."
                )
            lengths = Counter(map(len, records))
            lines = records.line_num
    except UnicodeDecodeError:
        raise _undecodable(file, dialect) from None
    except csv.Error as error:
        raise _broken_quote(file, dialect, error) from error
    blank = lengths.pop(0, 0)
    if set(lengths) - {len(names)}:
        raise _wrong_length(file, dialect, len(names))
    _refuse_zeros(file, dialect)
    if not sure and dialect.quote is not None and len(names) > 1 and lines > lengths.total() + blank + before + 1:
        _refuse_swallowed_rows(file, dialect, len(names))
    names[0] = names[0].lstrip("\ufeff")
    return Audit([name or "(unnamed)" for name in names], lengths.total(), before, blank)


def _refuse_swallowed_rows(file: TextFile, dialect: Dialect, fields: int) -> None:
    """Two quotes that happen to pair up make one record of several rows."""
    before = 0
    with dialect.records(file) as records:
        for record in records:
            line = records.line_num
            if line - before > 1 and _looks_like_rows(record, dialect.delimiter, fields):
                raise DatasetError(
                    f"{file.path}, {_record_at(file, dialect, line)}: the quotes ({dialect.quote}) in it enclose lines "
                    f"{before + 1} to {line}, each of which has the {fields} fields of a row. Remedy: write a quote "
                    "inside a field twice and the field in quotes, or, if the line breaks belong to the field, set "
                    f"`quote: '{dialect.quote}'` in `data.source`."
                )
            before = line


def _looks_like_rows(record: list[str], delimiter: str, fields: int) -> bool:
    lines = delimiter.join(record).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return len(lines) > 1 and all(line.count(delimiter) == fields - 1 for line in lines)


def _record_at(file: TextFile, dialect: Dialect, number: int | None) -> str:
    """Name of the record at line ``number`` (from 1), or of the one that breaks off if it is None."""
    row, line = -1, 1
    with contextlib.suppress(csv.Error), dialect.records(file, "replace") as records:
        for record in records:
            if number is not None and records.line_num >= number:
                break
            row += bool(record)
            line = records.line_num + 1
    return called(row, line, row + 2) if row >= 0 else "header"


def _wrong_length(file: TextFile, dialect: Dialect, wanted: int) -> DatasetError:
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
    sign = SIGNS.get(dialect.delimiter, repr(dialect.delimiter))
    quote = dialect.quote or '"'
    if found > wanted and dialect.quote is not None:
        remedy = f"put a field that holds a {sign} or a line break in quotes ({quote})"
    elif found > wanted:
        remedy = f"remove the {sign} from the field, or quote it and set `quote: '\"'` in `data.source`"
    else:
        setting = "" if dialect.quote is not None else " and `quote: '\"'` in `data.source`"
        remedy = f"give every row all {wanted} fields (a line break inside a field needs quotes{setting})"
    if wanted == 1:
        remedy = "set `delimiter` in `data.source` to what separates the columns"
    others = f" ({count:,} such rows)" if count > 1 else ""
    return DatasetError(
        f"{file.path}, {first}: {found} field{'s' * (found != 1)} but the header has {wanted}{others}. "
        f"Remedy: {remedy}."
    )


def _broken_quote(file: TextFile, dialect: Dialect, error: csv.Error) -> DatasetError:
    where = _record_at(file, dialect, None)
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


def _undecodable(file: TextFile, dialect: Dialect) -> DatasetError:
    found = file.first_undecodable_line()
    if found is None:
        return undecodable(file, "at its end", "")
    number, shown = found
    return undecodable(file, _record_at(file, dialect, number), shown)


def _refuse_zeros(file: TextFile, dialect: Dialect) -> None:
    if file.encoding.startswith(("utf-16", "utf-32")):
        return
    with file.bytes() as opened:
        # Blocks first: hardly any file has any, and lines cost more.
        if not any(b"\x00" in block for block in iter(lambda: opened.read(1 << 20), b"")):
            return
    with file.text("replace") as text:
        number = next(number for number, line in enumerate(text, 1) if "\x00" in line)
    raise DatasetError(
        f"{file.path}, {_record_at(file, dialect, number)}: it contains a NUL byte, which text never does. Remedy: "
        "set `encoding` in `data.source` if the file has another encoding, or write the file again."
    )
