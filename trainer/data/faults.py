"""How a fault in a user's file is reported: file, column, row and remedy."""

import contextlib
import gzip
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from trainer.errors import BabelrecError, first_line
from trainer.storage import no_room

_LOG = logging.getLogger(__name__)


class DatasetError(BabelrecError):
    """A table or header that breaks the dataset format."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Names for a table in error messages: the user's own file and column names.

    Attributes:
        file: File name or path as the user wrote it.
        columns: Column of the dataset format -> the user's column; columns not in it keep their name.
        drops_unknown_items: The setting that drops rows of unknown items, if the source has one.
        place: 0-based data row -> its name, such as ``row 7 (line 9)``.
        notes: What was guessed or ignored while reading the table, for `dataset.yaml`.
    """

    file: str
    columns: Mapping[str, str] = field(default_factory=dict)
    drops_unknown_items: str | None = None
    place: Callable[[int], str] = field(default=lambda row: f"row {row + 1}", compare=False)
    notes: list[str] = field(default_factory=list, compare=False)

    def column(self, name: str) -> str:
        """The user's name for a column of the dataset format."""
        return self.columns.get(name, name)

    def fault(self, column: str, problem: str, remedy: str, row: int | None = None) -> DatasetError:
        """The error for one fault; ``row`` counts data rows from 0."""
        place = f"{self.file}, column `{self.column(column)}`"
        if row is not None:
            place += f", {self.place(row)}"
        return DatasetError(f"{place}: {problem}. Remedy: {remedy}.")

    def note(self, column: str, text: str, level: int = logging.INFO) -> None:
        """Logs a decision about a column and records it for the dataset's header."""
        line = f"column `{self.column(column)}`: {text}"
        self.notes.append(line)
        _LOG.log(level, "%s, %s", self.file, line)

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """Runs a query on the table; a failure is the file's."""
        with reading(self.file):
            return frame.collect(engine="streaming")

    def aggregate(self, frame: pl.LazyFrame, /, **values: pl.Expr) -> tuple[Any, ...]:
        """The values of expressions that aggregate the whole table, in their order."""
        return self.collect(frame.select(value.alias(name) for name, value in values.items())).row(0)


_WHOLE = "get or write the file again, it is truncated or damaged"


@contextlib.contextmanager
def reading(file: str) -> Iterator[None]:
    """Converts any failure to read ``file`` into a `DatasetError` with a fitting remedy.

    Except a full disk (`trainer.storage`), which is not the file's fault.
    """
    try:
        yield
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        pa.ArrowException,
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        IndexError,
    ) as error:
        if no_room(error):
            raise
        problem, remedy = _explain(error)
        raise DatasetError(f"{file} can't be read: {problem}. Remedy: {remedy}.") from error


def _explain(error: BaseException) -> tuple[str, str]:
    said = first_line(error).rstrip(".")
    if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)):
        return f"the gzip data are incomplete or damaged ({said})", _WHOLE
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding.upper()} ({error.reason})", "save it as UTF-8"
    if isinstance(error, FileNotFoundError):
        return "there is no such file", "correct its path"
    if isinstance(error, IsADirectoryError):
        return "it is a directory", "name a file"
    if isinstance(error, PermissionError):
        return "permission denied", "allow this user to read it (chmod, chown)"
    if isinstance(error, MemoryError):
        return "out of memory", "free memory or split the file"
    return said, f"check that its content matches its name, or {_WHOLE.partition(',')[0]} if it is damaged"
