"""Parquet files of events and answers: interactions of the dataset format (docs/data.md), a file for a day."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serving.service.store.errors import SegmentError, UnavailableError

COLUMNS: Final = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        ("value", pa.float64()),
        pa.field("event_id", pa.string(), nullable=False),
        ("recommendation_id", pa.string()),
        ("session_id", pa.string()),
        ("position", pa.int32()),
        ("propensity", pa.float64()),
        ("language", pa.string()),
        ("country", pa.string()),
        ("placement", pa.string()),
        ("query", pa.string()),
    ]
)
"""Those of every file; the columns of the events' contexts follow in the order of their names."""
_ENDING: Final = ".parquet"


@contextlib.contextmanager
def using_files() -> Iterator[None]:
    """Errors of files as those of the store."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"A file of moved events: {error}. Remedy: check that its disk has space and who may write it; nothing was "
            "lost, so try again."
        ) from error
    except pa.ArrowException as error:
        raise SegmentError(f"A file of moved events is damaged: {error}. Remedy: restore it from a copy.") from error


def table_of(rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows of `COLUMNS` and the context as JSON, in which mixed types of a column become texts."""
    if not rows:
        return COLUMNS.empty_table()
    *columns, contexts = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, COLUMNS, strict=True)]
    decoded: list[dict[str, Any]] = msgspec.json.decode("[" + ",".join(text or "{}" for text in contexts) + "]")
    names = sorted(set().union(*decoded))
    further = [_column([context.get(name) for context in decoded]) for name in names]
    fields = [*COLUMNS, *(pa.field(name, array.type) for name, array in zip(names, further, strict=True))]
    return pa.Table.from_arrays([*arrays, *further], schema=pa.schema(fields))


def without_known(table: pa.Table, known: pa.ChunkedArray) -> pa.Table:
    """The rows whose event is not known yet."""
    return table.filter(pc.invert(pc.is_in(table["event_id"], value_set=known)))


def known_events(path: Path) -> pa.ChunkedArray:
    """Ids of the events in a file; none if there is no file."""
    if not path.exists():
        return pa.chunked_array([], pa.string())
    return pq.read_table(path, columns=["event_id"], partitioning=None)["event_id"]


def rows_in(path: Path) -> int:
    """Rows of a file, by its footer; 0 if there is none."""
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def write_part(table: pa.Table, path: Path) -> None:
    """A file that `merge` reads, and that need not survive."""
    pq.write_table(table, path, compression="lz4")


def merge(parts: Sequence[Path], target: Path) -> None:
    """Writes a file from others, with the columns of all of them; it is on disk when this returns."""
    # One is open at a time: a large day has more parts than a process may have files.
    schema = _common([pq.read_schema(part) for part in parts])
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches():
                    writer.write_table(_conform(pa.Table.from_batches([batch]), schema))
    _sync(target)


def publish(temporary: Path, path: Path) -> None:
    """Gives a complete file its name; this survives a power failure when it returns."""
    temporary.replace(path)
    _sync(path.parent)


def without_people(path: Path, ids: Sequence[str], temporary: Path) -> int:
    """Removes the rows of some user ids from a file.

    Returns:
        Number of rows removed; with 0 the file is untouched.
    """
    wanted = pa.array(ids, pa.string())
    users = pq.read_table(path, columns=["user_id"], partitioning=None)["user_id"]
    removed = int(pc.sum(pc.is_in(users, value_set=wanted)).as_py() or 0)
    if removed:
        with (
            pq.ParquetFile(path) as file,
            pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches():
                table = pa.Table.from_batches([batch])
                writer.write_table(table.filter(pc.invert(pc.is_in(table["user_id"], value_set=wanted))))
        _sync(temporary)
        publish(temporary, path)
    return removed


def rows_of_people(path: Path, ids: Sequence[str], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of some user ids, without missing values."""
    is_theirs = pc.field("user_id").isin(pa.array(ids, pa.string()))
    names = None if columns is None else list(columns)
    table = pq.read_table(path, columns=names, filters=is_theirs, partitioning=None)
    return [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]


def sweep(folder: Path) -> None:
    """Removes what a killed run has left; only under the lock of all runs."""
    for path in folder.glob(f".*{_ENDING}"):
        path.unlink()


def temporary_of(path: Path, part: int | None = None) -> Path:
    """A name next to a file that readers of the folder skip."""
    return path.with_name(f".{path.stem}{'' if part is None else f'-{part}'}{_ENDING}")


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([_as_text(value) for value in values], pa.string())


def _as_text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _common(schemas: Sequence[pa.Schema]) -> pa.Schema:
    kinds: dict[str, set[pa.DataType]] = {}
    for schema in schemas:
        for field in schema:
            if field.name not in COLUMNS.names:
                kinds.setdefault(field.name, set()).add(field.type)
    return pa.schema([*COLUMNS, *(pa.field(name, _wider(kinds[name])) for name in sorted(kinds))])


def _wider(kinds: set[pa.DataType]) -> pa.DataType:
    if len(kinds) == 1:
        return next(iter(kinds))
    return pa.float64() if kinds == {pa.int64(), pa.float64()} else pa.string()


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    arrays = [
        # Whole numbers above 2**53 are rounded, like any that meets a fraction in JavaScript.
        table[field.name].cast(field.type, safe=False)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
