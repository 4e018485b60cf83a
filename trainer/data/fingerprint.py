"""Fingerprint of a table's content, independent of the Parquet file's layout."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_BATCH_ROWS = 65_536


def fingerprint(tables: Mapping[str, Path]) -> str:
    """Hashes the values, types, column names and row order of Parquet tables.

    Row groups, compression, encodings and column order have no influence: two machines that hold the same
    rows get the same fingerprint. Tables are streamed.

    Args:
        tables: Table name -> Parquet file.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256(b"babelrec dataset 1")
    for name in sorted(tables):
        total.update(f"\n{name}\n".encode())
        total.update(_table(tables[name]))
    return total.hexdigest()


def _table(path: Path) -> bytes:
    with pq.ParquetFile(path) as file:
        columns = {field.name: _Column() for field in file.schema_arrow}
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            for name, column in columns.items():
                column.update(batch.column(name))
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(f"{len(name)}:{name}=".encode() + columns[name].digest())
    return digest.digest()


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
