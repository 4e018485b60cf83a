"""Published tables, whose editions name columns differently; each record is written, or dropped for a reason."""

import dataclasses
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import polars as pl

from trainer.data.faults import DatasetError, Origin, reading
from trainer.data.settings import TableFormat
from trainer.data.sources import delimited, parquet
from trainer.data.sources.opening import ending
from trainer.data.sources.parts import read_parts
from trainer.data.sources.refusal import refuse
from trainer.data.sources.table import RawTable
from trainer.files import data_mirror

_ROW: Final = "__row_of_file"
# Text in these files is quoted as in RFC 4180, and reviews and descriptions have line breaks.
QUOTED: Final = TableFormat(quote='"')


@dataclass(slots=True)
class Published:
    """A table being converted; rows that are removed are counted by reason.

    Attributes:
        frame: The rows that are left, with the names of the dataset format.
        origin: The file's own names, for error messages.
        facts: What the dataset's header says of the file: `records`, `dropped`, `unused`, ...
    """

    frame: pl.LazyFrame
    origin: Origin
    facts: dict[str, Any]

    @classmethod
    def of(cls, parts: Sequence["Published"]) -> "Published":
        """The rows of several tables with the same columns, one after the other."""
        starts = [0, *accumulate(part.facts["records"] for part in parts)]

        def place(row: int) -> str:
            number = bisect_right(starts, row) - 1
            return f"{parts[number].origin.file}, {parts[number].origin.place(row - starts[number])}"

        first = parts[0]
        facts = first.facts | {"file": ", ".join(part.facts["file"] for part in parts), "records": starts[-1]}
        frame = pl.concat([part.frame.drop(_ROW).select(first.columns) for part in parts]).with_row_index(_ROW)
        origin = Origin(", ".join(part.origin.file for part in parts), first.origin.columns, place=place)
        return cls(frame, origin, facts)

    @property
    def columns(self) -> list[str]:
        """The columns that the file has."""
        return [name for name in self.frame.collect_schema().names() if name != _ROW]

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> rows."""
        found: dict[str, int] = self.facts["dropped"]
        return found

    def need(self, *names: str) -> None:
        """Raises if a row has nothing in one of these columns."""
        for name in names:
            empty = pl.col(name).is_null() | (pl.col(name).cast(pl.String).str.strip_chars() == "")
            refuse(self.frame, empty, name, self.origin, "is missing", "give every row a value, or remove the row")

    def drop(self, marked: pl.Expr, reason: str) -> None:
        """Removes the marked rows."""
        (lost,) = self.origin.aggregate(self.frame, lost=marked.fill_null(value=False).sum())
        self.dropped[reason] = self.dropped.get(reason, 0) + int(lost)
        if lost:
            self.frame = self.frame.filter(~marked.fill_null(value=False))

    def finish(self, *columns: pl.Expr | str) -> pl.LazyFrame:
        """The rows with these columns; from now on, faults name the rows of the file."""
        kept, place = self.frame, self.origin.place
        self.origin = dataclasses.replace(
            self.origin,
            place=lambda row: place(int(kept.select(_ROW).slice(row, 1).collect(engine="streaming").item())),
        )
        self.facts["notes"] = self.origin.notes
        return kept.select(*columns)


def located(path: Path | None, mirrored: str, what: str, remedy: str) -> Path:
    """The given file or folder, else the mirror's folder.

    Args:
        path: `data.source.path`.
        mirrored: Name of the folder in the mirror.
        what: The data, as the subject of a sentence.
        remedy: Where to get them.

    Raises:
        DatasetError: There is neither.
    """
    mirror = data_mirror()
    place = path if path is not None else mirror / mirrored if mirror is not None else None
    remedy = f"Remedy: {remedy}, and set `data.source.path`, or put them into $BABELREC_DATA_MIRROR/{mirrored}."
    if place is None:
        raise DatasetError(f"{what} are not downloaded automatically, and no path is given. {remedy}")
    if not place.exists():
        raise DatasetError(f"{what}: {place} does not exist. {remedy}")
    return place


def first_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these names, with .csv.gz, .csv or .parquet, that the folder has."""
    candidates = (folder / f"{name}{end}" for name in names for end in (".csv.gz", ".csv", ".parquet"))
    return next((file for file in candidates if file.is_file()), None)


def read_published(
    files: Sequence[Path],
    table: str,
    columns: Mapping[str, Sequence[str]],
    folder: Path,
    *,
    optional: Sequence[str] = (),
    form: TableFormat = QUOTED,
) -> Published:
    """Reads the parts of a table; text files are checked and counted by a second reader.

    Args:
        files: The parts.
        table: The table they hold, for error messages and the name of a scratch folder.
        columns: Name in the dataset -> its names in the known editions.
        folder: For Parquet copies of text files.
        optional: Names that need not be there.
        form: Format of text files.

    Raises:
        DatasetError: Gives the file, its fault and the remedy.
    """

    def choose(file: Path, names: list[str]) -> dict[str, str]:
        found = {name: column for name, known in columns.items() if (column := _first(known, names)) is not None}
        for name, known in columns.items():
            if name not in found and name not in optional:
                raise DatasetError(
                    f"{file} has no column {' or '.join(f'`{column}`' for column in known)}; it has "
                    f"{', '.join(names)}. Remedy: use the published file, or the source `tabular`, which maps columns."
                )
        return found

    def read(file: Path, target: Path) -> RawTable:
        is_text = form.delimiter is not None or ending(file) != ".parquet"
        reader = delimited.read if is_text else parquet.read
        wanted = [column for known in columns.values() for column in known]
        return reader(file, table, form, wanted, lambda names: choose(file, names), target)

    raw = read_parts(list(files), read, folder / table)
    with reading(str(files[0])):
        chosen = choose(files[0], raw.names)
    origin = Origin(", ".join(map(str, files)), chosen, place=raw.place)
    unused = [name for name in raw.names if name not in chosen.values()]
    names = ", ".join(file.name for file in files)
    facts = {"file": names, **raw.facts, "records": raw.records, "dropped": {}, "unused": unused}
    return Published(raw.frame.with_row_index(_ROW), origin, facts)


def _first(known: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in known if name in names), None)
