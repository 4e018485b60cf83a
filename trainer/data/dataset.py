"""The dataset format: a directory of ``dataset.yaml`` and Parquet tables. See ``docs/data.md``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final, Literal

import polars as pl
from pydantic import Field, ValidationError, field_validator

from trainer.config.base import Settings
from trainer.data.faults import DatasetError, Origin, reading
from trainer.data.fingerprint import fingerprint
from trainer.data.seal import Seal, Sealing
from trainer.data.shards import scan_shards, shards
from trainer.data.validation import validate_references, validate_table
from trainer.documents import dump_yaml, load_yaml
from trainer.errors import BabelrecError
from trainer.files import atomic_directory, write_text

HEADER: Final = "dataset.yaml"
TABLES: Final = ("interactions", "items", "users", "translations")
# Rows per group: small enough that a reader of a few columns of one group stays within tens of MB.
_ROW_GROUP = 262_144
_HEADER_REMEDY: Final = "Remedy: correct it, or prepare the dataset again."


class DatasetExistsError(DatasetError, FileExistsError):
    """The path of the dataset to write already exists."""


class _Tables(Settings):
    interactions: str
    items: str
    users: str | None = None
    translations: str | None = None

    @field_validator("*")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is not None and (PurePath(value).is_absolute() or ".." in PurePath(value).parts):
            raise ValueError(f"{value!r} leaves the dataset's directory")
        return value


class _Header(Settings):
    schema_: Literal[1] = Field(alias="schema")
    name: str = Field(min_length=1)
    description: str = ""
    licence: str = ""
    homepage: str = ""
    fingerprint: str | None = None
    tables: _Tables
    rows: dict[str, int] = Field(default={})
    dropped: dict[str, int] = Field(default={})
    read: dict[str, dict[str, Any]] = Field(default={})


@dataclass(frozen=True, slots=True)
class Dataset:
    """A validated dataset directory. Create one with `Dataset.load` or `write_dataset`.

    Attributes:
        path: The directory.
        name: Short name, such as ``movielens-100k``.
        description: One or two sentences.
        licence: Terms under which the data may be used.
        homepage: Where the data comes from.
        fingerprint: SHA-256 of the tables' content, independent of machine and file layout.
        rows: Number of rows of each table.
        dropped: Rows that the source dropped, as reason -> count.
        read: Table -> how a source read the user's file, with its record count; empty for other sources.
    """

    path: Path
    name: str
    description: str
    licence: str
    homepage: str
    fingerprint: str
    rows: Mapping[str, int] = field(hash=False)
    dropped: Mapping[str, int] = field(hash=False)
    _files: Mapping[str, str] = field(hash=False, repr=False)
    read: Mapping[str, Mapping[str, Any]] = field(hash=False, repr=False, default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Dataset":
        """Reads the header and checks every table, or sees that none was changed since it was last checked.

        Args:
            path: Directory that holds ``dataset.yaml``.

        Raises:
            DatasetError: The first fault found, with file, column, row and remedy.
        """
        path = Path(path)
        header = _read_header(path)
        files = {name: file for name in TABLES if (file := getattr(header.tables, name)) is not None}
        sealing = Sealing(path, [path / file for file in files.values()])
        seal = sealing.found()
        if seal is None:
            seal = Seal(*_validate(path, files, {}))
            sealing.keep(seal)
        rows, digest = seal.rows, seal.fingerprint
        if header.fingerprint is not None and header.fingerprint != digest:
            raise DatasetError(
                f"{path / HEADER}: the fingerprint {header.fingerprint[:12]}... is not that of the tables "
                f"({digest[:12]}...): they were modified or damaged after they were written. Remedy: restore "
                "them, or remove the line `fingerprint` to accept them as they are."
            )
        return cls(
            path=path,
            name=header.name,
            description=header.description,
            licence=header.licence,
            homepage=header.homepage,
            fingerprint=digest,
            rows=rows,
            dropped=header.dropped,
            _files=files,
            read=header.read,
        )

    def interactions(self) -> pl.LazyFrame:
        """Users' interactions with items, in the source's row order."""
        return self._scan("interactions")

    def items(self) -> pl.LazyFrame:
        """The catalogue, one row per item."""
        return self._scan("items")

    def users(self) -> pl.LazyFrame | None:
        """The users' profiles, or None; users of the interactions may be missing from it."""
        return self._scan("users") if "users" in self._files else None

    def translations(self) -> pl.LazyFrame | None:
        """Titles and descriptions of items in additional languages, or None."""
        return self._scan("translations") if "translations" in self._files else None

    def _scan(self, table: str) -> pl.LazyFrame:
        return scan_shards(self.path / self._files[table])


def write_dataset(
    path: Path,
    *,
    name: str,
    description: str,
    licence: str,
    homepage: str,
    interactions: pl.LazyFrame | pl.DataFrame,
    items: pl.LazyFrame | pl.DataFrame,
    users: pl.LazyFrame | pl.DataFrame | None = None,
    translations: pl.LazyFrame | pl.DataFrame | None = None,
    dropped: Mapping[str, int] | None = None,
    origins: Mapping[str, Origin] | None = None,
    read: Mapping[str, Mapping[str, Any]] | None = None,
) -> Dataset:
    """Writes a dataset directory: complete and valid, or not at all.

    Tables are streamed to disk and validated before the directory is renamed into place.

    Args:
        path: The directory to create; it must not exist.
        name: Short name.
        description: One or two sentences.
        licence: Terms of use.
        homepage: Where the data comes from.
        interactions: Interactions, in the dataset format, like the following tables.
        items: The catalogue.
        users: The users' profiles.
        translations: Items in additional languages.
        dropped: Rows dropped before this call, as reason -> count.
        origins: Table -> its name in error messages, if the user's file is not the one written.
        read: Table -> how its file was read; its `records`, less the rows that `dropped` counts by reason, must equal
            the rows of the table.

    Raises:
        DatasetError: A table breaks the format, or rows were lost in between.
        FileExistsError: ``path`` exists, or another process made it while this one was writing.
    """
    path = Path(path)
    if path.exists():
        raise DatasetExistsError(f"{path} already exists. Remedy: remove it, or choose another directory.")
    frames = {"interactions": interactions, "items": items, "users": users, "translations": translations}
    present = {table: frame.lazy() for table, frame in frames.items() if frame is not None}
    files = {table: f"{table}.parquet" for table in present}
    # Not the temporary path, which no longer exists when the error is read.
    named = {table: Origin(f"table `{table}` of {name}") for table in present} | dict(origins or {})
    with atomic_directory(path) as temporary:
        for table, frame in present.items():
            with reading(named[table].file):
                frame.sink_parquet(temporary / files[table], row_group_size=_ROW_GROUP)
        rows, digest = _validate(temporary, files, named)
        _reconcile(read or {}, rows, named)
        header: dict[str, Any] = {
            "schema": 1,
            "name": name,
            "description": description,
            "licence": licence,
            "homepage": homepage,
            "fingerprint": digest,
            "tables": files,
            "rows": rows,
            "dropped": dict(dropped or {}),
        }
        if read:
            header["read"] = {table: dict(facts) | {"written": rows[table]} for table, facts in read.items()}
        write_text(temporary / HEADER, dump_yaml(header))
    return Dataset(
        path=path,
        name=name,
        description=description,
        licence=licence,
        homepage=homepage,
        fingerprint=digest,
        rows=rows,
        dropped=dict(dropped or {}),
        _files=files,
        read=dict(header.get("read", {})),
    )


def _reconcile(read: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int], origins: Mapping[str, Origin]) -> None:
    for table, facts in read.items():
        dropped = sum(facts["dropped"].values())
        if facts["records"] != rows[table] + dropped:
            raise DatasetError(
                f"{origins[table].file} has {facts['records']:,} records, but {rows[table]:,} rows were read and "
                f"{dropped:,} were dropped. Remedy: this is a bug in Babelrec: report it with the file; "
                "until then, write the file as Parquet."
            )


def _validate(path: Path, files: Mapping[str, str], origins: Mapping[str, Origin]) -> tuple[dict[str, int], str]:
    rows: dict[str, int] = {}
    frames: dict[str, pl.LazyFrame] = {}
    named: dict[str, Origin] = {}
    for table, file in files.items():
        named[table] = origins.get(table, Origin(str(path / file)))
        with reading(named[table].file):
            frames[table] = scan_shards(path / file)
        rows[table] = validate_table(table, frames[table], named[table])
    for table in ("interactions", "translations"):
        if table in frames:
            validate_references(frames[table], frames["items"], named[table], named["items"].file)
    with reading(str(path)):
        digest = fingerprint({table: shards(path / file) for table, file in files.items()})
    return rows, digest


def _read_header(path: Path) -> _Header:
    file = path / HEADER
    if not path.is_dir() or not file.is_file():
        raise DatasetError(
            f"{path} is not a dataset: it has no {HEADER}. Remedy: give the directory that contains "
            f"{HEADER} and its Parquet tables (docs/data.md)."
        )
    try:
        content = load_yaml(file, what="the dataset's header")
    except BabelrecError as error:
        raise DatasetError(f"{error} {_HEADER_REMEDY}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{file} does not contain a mapping. {_HEADER_REMEDY}")
    try:
        return _Header.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise DatasetError(
            f"{file}, key `{place}`: {fault['msg']}. Remedy: correct it as described in docs/data.md."
        ) from error
