"""How a fault in a user's file is reported: file, column, row and remedy."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from trainer.errors import BabelrecError


class DatasetError(BabelrecError):
    """A table or header that breaks the dataset format."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How a table is called in errors: by the file and the column names that its owner knows.

    Attributes:
        file: File name or path as the user wrote it.
        columns: Column of the dataset format -> the user's column; columns not in it keep their name.
        drops_unknown_items: The setting that leaves out rows of unknown items, where the source has one.
    """

    file: str
    columns: Mapping[str, str] = field(default_factory=dict)
    drops_unknown_items: str | None = None

    def column(self, name: str) -> str:
        """The user's name for a column of the dataset format."""
        return self.columns.get(name, name)

    def fault(self, column: str, problem: str, remedy: str, row: int | None = None) -> DatasetError:
        """The error for one fault; ``row`` counts data rows from 0."""
        place = f"{self.file}, column `{self.column(column)}`"
        if row is not None:
            place += f", row {row + 1}"
        return DatasetError(f"{place}: {problem}. Remedy: {remedy}.")


@contextlib.contextmanager
def reading(file: str) -> Iterator[None]:
    """Turns any failure to read ``file`` into one `DatasetError`."""
    try:
        yield
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        OSError,
        ValueError,
        IndexError,
    ) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DatasetError(
            f"{file} can't be read: {first_line}. Remedy: make or fetch it anew; it is missing, truncated or corrupted."
        ) from error
