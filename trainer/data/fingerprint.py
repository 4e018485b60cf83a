"""Fingerprint of a table's content, independent of the layout of its Parquet files."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

_BATCH_ROWS = 65_536


def fingerprint(tables: Mapping[str, Sequence[Path]]) -> str:
    """Hashes the values, types, column names and row order of Parquet tables.

    Files, row groups, compression, encodings and column order have no influence: two machines that hold the same
    rows get the same fingerprint. Tables are streamed.

    Args:
        tables: Table name -> its Parquet files, in the order of the rows.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: The files of a table have different columns.
    """
    return combined({name: column_digests(files) for name, files in tables.items()})


def combined(tables: Mapping[str, Mapping[str, bytes]]) -> str:
    """The fingerprint of tables, by the digests of their columns: table -> column -> `column_digests`."""
    total = hashlib.sha256(b"babelrec dataset 1")
    for table in sorted(tables):
        digest = hashlib.sha256()
        for name in sorted(tables[table]):
            digest.update(f"{len(name)}:{name}=".encode() + tables[table][name])
        total.update(f"\n{table}\n".encode())
        total.update(digest.digest())
    return total.hexdigest()


def column_digests(
    files: Sequence[str | Path], names: Collection[str] | None = None, filesystem: pyarrow.fs.FileSystem | None = None
) -> dict[str, bytes]:
    """The digest of each column of a table, which does not depend on the other columns.

    Args:
        files: The table's Parquet files, in the order of the rows; at least one.
        names: The columns; None: all.
        filesystem: Where the files are; None: on this machine.

    Raises:
        ValueError: The files have different columns.
    """
    columns: dict[str, _Column] = {}
    for number, path in enumerate(files):
        with pq.ParquetFile(str(path), filesystem=filesystem) as file:
            there = {field.name for field in file.schema_arrow}
            wanted = there if names is None else set(names)
            if number == 0:
                columns = {name: _Column() for name in wanted}
            if wanted != columns.keys() or not wanted <= there:
                raise ValueError(f"{path} has other columns than {files[0]}")
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=sorted(wanted)):
                for name, column in columns.items():
                    column.update(batch.column(name))
    return {name: column.digest() for name, column in columns.items()}


class _Column:
    """Separate streams for shape (nulls, lengths) and values, so that batch boundaries have no influence."""

    def __init__(self) -> None:
        self._shape = hashlib.sha256()
        self._values = hashlib.sha256()
        self._inner: _Column | None = None
        self._type = ""

    def update(self, array: pa.Array) -> None:
        kind = array.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._type = "list"
            self._lengths(pc.list_value_length(array))
            self._inner = self._inner or _Column()
            self._inner.update(pc.list_flatten(array))
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self._type = "string"
            self._lengths(pc.binary_length(array))
            present = array.drop_null().cast(pa.large_binary())
            if len(present):
                offsets = np.frombuffer(present.buffers()[1], "<i8", len(present) + 1, present.offset * 8)
                self._values.update(memoryview(present.buffers()[2])[offsets[0] : offsets[-1]])
        else:
            self._type = str(kind)
            self._shape.update(pc.is_null(array).cast(pa.uint8()).to_numpy().tobytes())
            if not pa.types.is_null(kind):
                values = array.drop_null().to_numpy(zero_copy_only=False)
                self._values.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes())

    def _lengths(self, lengths: pa.Array) -> None:
        self._shape.update(pc.fill_null(lengths.cast(pa.int64()), -1).to_numpy().astype("<i8").tobytes())

    def digest(self) -> bytes:
        inner = self._inner.digest() if self._inner else b""
        return hashlib.sha256(
            self._type.encode() + b":" + self._shape.digest() + self._values.digest() + inner
        ).digest()
