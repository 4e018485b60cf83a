"""Delimiter and quoting of a CSV or TSV file."""

import contextlib
import csv
import io
import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from trainer.data.settings import TableFormat
from trainer.data.sources.opening import TextFile, ending
from trainer.data.sources.table import called

_LOG = logging.getLogger(__name__)
_DELIMITERS: Final = (",", "\t", ";", "|")
SIGNS: Final = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
_SAMPLE_RECORDS: Final = 200
# A larger field has swallowed the rest of the file after an unclosed quote.
_MAX_FIELD: Final = 1 << 27


class Reader(Protocol):
    """What `csv.reader` returns."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """Delimiter and quote; without a quote every line is a record.

    Attributes:
        delimiter: One character.
        quote: One character, or None for no quoting.
    """

    delimiter: str
    quote: str | None

    @contextmanager
    def records(self, file: TextFile, errors: str = "strict") -> Iterator[Reader]:
        """A strict reader of a file's records, including the header."""
        with file.text(errors) as text:
            limit = csv.field_size_limit(_MAX_FIELD)
            try:
                yield self.over(text)
            finally:
                csv.field_size_limit(limit)

    def over(self, lines: Iterator[str]) -> Reader:
        """A strict reader of the records in the lines."""
        if self.quote is None:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=True)


def sniff(file: TextFile, form: TableFormat, wanted: Collection[str]) -> Dialect:
    """The dialect of a file: from the settings, else from its extension and first rows.

    Args:
        file: The file.
        form: The settings.
        wanted: Names of columns; another delimiter than the extension's is chosen if it finds more of them.
    """
    if form.delimiter is not None and form.quote is not None:
        return Dialect(form.delimiter, form.quote or None)
    usual = "\t" if ending(file.path) == ".tsv" else ","
    sample = file.sample()
    quote = form.quote
    if quote is None:
        # TSV has no quoting, unless the header itself is quoted.
        quoted = re.match(r'\s*"[^"\r\n]+"(?:[\t,;|"\r\n]|$)', sample)
        quote = '"' if usual == "," or quoted else ""
        if usual == "\t" and quoted:
            _LOG.info('%s: its header is quoted: using the quote character `"`', file.path)
    if form.delimiter is not None:
        return Dialect(form.delimiter, quote or None)
    scores = {delimiter: _score(sample, Dialect(delimiter, quote or None), wanted) for delimiter in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda delimiter: (scores[delimiter], delimiter == usual))
    # The usual one is kept unless another one finds more of the wanted columns, and does so in every row.
    if best != usual and scores[best] > scores[usual]:
        _LOG.info("%s: read as separated by %s (%r)", file.path, SIGNS[best], best)
        return Dialect(best, quote or None)
    return Dialect(usual, quote or None)


def _score(sample: str, dialect: Dialect, wanted: Collection[str]) -> tuple[int, bool]:
    """The number of wanted columns in the header; whether it has several and all rows have the same length."""
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        # The last line of a sample may be truncated.
        lines = io.StringIO(sample, newline="").readlines()
        rows.extend(filter(None, islice(dialect.over(iter(lines[:-1] if len(lines) > 2 else lines)), _SAMPLE_RECORDS)))
    if not rows:
        return 0, False
    header = {name.strip().lstrip("\ufeff") for name in rows[0]}
    return len(header & set(wanted)), len(header) > 1 and len({len(row) for row in rows}) == 1


def place_of(file: TextFile, dialect: Dialect, row: int) -> str:
    """Name of the data row ``row`` (from 0), with its line in the file if that differs."""
    with dialect.records(file, "replace") as records:
        _, line = _nth(records, row + 1)
    return called(row, line, row + 2)


def _nth(records: Reader, number: int) -> tuple[list[str], int]:
    """The non-blank record ``number`` (0 is the header) and the line where it begins."""
    seen = -1
    line = records.line_num + 1
    for record in records:
        if record:
            seen += 1
            if seen == number:
                return record, line
        line = records.line_num + 1
    return [], line
