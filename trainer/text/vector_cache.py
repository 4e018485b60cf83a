"""Disk cache of vectors, keyed by the hash of their text."""

import logging
import mmap
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.files import atomic_file

_LOGGER = logging.getLogger(__name__)
_INDEX = np.dtype([("key", "V16"), ("checksum", "<u4")])
# A run appends a few files; beyond this many they are merged, so that look-ups stay cheap.
_MAX_SHARDS = 32
# Rows read at once: 128 MiB of mUSE's vectors.
_ROWS_AT_ONCE = 65_536
# Rows of the shards that are merged at once, which are all in memory.
_MERGED_ROWS = 4 * _ROWS_AT_ONCE

Keys = npt.NDArray[np.void]
Vectors = npt.NDArray[np.float32]


def text_keys(texts: Sequence[str]) -> Keys:
    """A 16-byte BLAKE2b digest of each text."""
    digests = b"".join(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, dtype="V16")


def _checksums(vectors: Vectors) -> npt.NDArray[np.uint32]:
    return np.array([zlib.crc32(vector) for vector in np.ascontiguousarray(vectors)], np.uint32)


def _name(index: npt.NDArray[np.void]) -> str:
    return blake2b(index.tobytes(), digest_size=16).hexdigest()


class VectorCache:
    """An append-only store of vectors in one directory, a few large files whatever the number of texts.

    A shard is two files: ``NAME.vectors.npy`` [n, D] and ``NAME.index.npy`` with the key and the CRC-32 of
    each row; NAME is the index's digest. The index is written last and every row is checked when it is
    read, so a torn, lost or damaged file costs a recomputation but never gives a wrong vector.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def look_up(self, keys: Keys) -> tuple[npt.NDArray[np.int64], Vectors | None]:
        """Finds stored vectors.

        Returns:
            The positions in ``keys`` that were found, ascending, and their vectors [found, D] (None
            when nothing was found).
        """
        missing = {key: position for position, key in enumerate(keys.tolist())}
        found: list[npt.NDArray[np.int64]] = []
        # Filled in place: there may be gigabytes of vectors.
        result: Vectors | None = None
        for index_path in self._index_paths():
            if not missing:
                break
            shard = self._read(index_path)
            if shard is None:
                continue
            index, vectors = shard
            wanted = [(row, missing[key]) for row, key in enumerate(index["key"].tolist()) if key in missing]
            if not wanted:
                continue
            if result is None:
                result = np.empty((len(keys), vectors.shape[1]), np.float32)
            damaged = False
            for begin in range(0, len(wanted), _ROWS_AT_ONCE):
                rows, positions = np.array(wanted[begin : begin + _ROWS_AT_ONCE], np.int64).T
                values = np.ascontiguousarray(vectors[rows])
                if isinstance(vectors.base, mmap.mmap):
                    # What has been read would stay in the process's memory.
                    vectors.base.madvise(mmap.MADV_DONTNEED)
                intact = _checksums(values) == index["checksum"][rows]
                damaged |= not intact.all()
                found.append(positions[intact])
                result[positions[intact]] = values[intact]
                for position in positions[intact].tolist():
                    missing.pop(keys[position].tobytes(), None)
            if damaged:
                self._salvage(index_path, index, vectors)
        if result is None:
            return np.empty(0, np.int64), None
        positions = np.sort(np.concatenate(found))
        return positions, result if len(positions) == len(keys) else result[positions]

    def append(self, keys: Keys, vectors: Vectors) -> None:
        """Stores ``vectors`` [n, D] under ``keys`` [n]."""
        self._write(keys, vectors)
        if len(self._index_paths()) > _MAX_SHARDS:
            self._merge()

    def _index_paths(self) -> list[Path]:
        # Large shards first: most look-ups end there.
        paths = [(path.stat().st_size, path) for path in self._directory.glob("*.index.npy")]
        return [path for _, path in sorted(paths, reverse=True)]

    def _smallest(self, rows: int) -> list[Path]:
        """Small shards first, while they have at most so many rows together, but never the largest."""
        sizes = sorted((path.stat().st_size // _INDEX.itemsize, path) for path in self._directory.glob("*.index.npy"))
        total = accumulate(size for size, _ in sizes)
        return [path for (_, path), sum_so_far in zip(sizes[:-1], total, strict=False) if sum_so_far <= rows]

    def _write(self, keys: Keys, vectors: Vectors) -> None:
        values = np.ascontiguousarray(vectors, np.float32)
        index = np.empty(len(keys), _INDEX)
        index["key"] = keys
        index["checksum"] = _checksums(values)
        name = _name(index)
        for path, array in ((self._vectors_path(name), values), (self._directory / f"{name}.index.npy", index)):
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)

    def _vectors_path(self, name: str) -> Path:
        return self._directory / f"{name}.vectors.npy"

    def _read(self, index_path: Path) -> tuple[npt.NDArray[np.void], Vectors] | None:
        vectors_path = self._vectors_path(index_path.name.removesuffix(".index.npy"))
        try:
            index = np.load(index_path, allow_pickle=False)
            vectors = np.load(vectors_path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            if index_path.exists():
                self._discard(index_path, f"{error.filename} is missing")
            return None  # otherwise another process has merged it
        except (OSError, ValueError, EOFError) as error:
            self._discard(index_path, str(error))
            return None
        if index.dtype == _INDEX and _name(index) != index_path.name.removesuffix(".index.npy"):
            self._discard(index_path, "the index fails its checksum")
            return None
        sound = index.dtype == _INDEX and index.ndim == 1 and vectors.dtype == np.float32
        if not sound or vectors.ndim != 2 or len(vectors) != len(index):
            self._discard(index_path, f"index {index.dtype} {index.shape}, vectors {vectors.dtype} {vectors.shape}")
            return None
        return index, vectors

    def _discard(self, index_path: Path, why: str) -> None:
        _LOGGER.warning("The vector cache %s is damaged (%s); its texts will be encoded again.", index_path, why)
        index_path.unlink(missing_ok=True)
        self._vectors_path(index_path.name.removesuffix(".index.npy")).unlink(missing_ok=True)

    def _salvage(self, index_path: Path, index: npt.NDArray[np.void], vectors: Vectors) -> None:
        """Keeps the rows of a shard that pass their checksum and drops the others."""
        values = np.asarray(vectors)
        intact = _checksums(values) == index["checksum"]
        if intact.any():
            self._write(index["key"][intact], values[intact])
        self._discard(index_path, f"{np.count_nonzero(~intact)} of {len(intact)} rows fail their checksum")

    def _merge(self) -> None:
        """Joins the smallest shards into one, as many as fit in memory; a damaged shard is dropped."""
        keys: dict[bytes, None] = {}
        parts = []
        paths = self._smallest(_MERGED_ROWS)
        if len(paths) < 2:
            return
        for path in paths:
            shard = self._read(path)
            if shard is None:
                continue
            index, vectors = shard
            values = np.asarray(vectors)
            intact = (_checksums(values) == index["checksum"]).tolist()
            rows = [row for row, key in enumerate(index["key"].tolist()) if intact[row] and key not in keys]
            keys.update(dict.fromkeys(index["key"][rows].tolist()))
            parts.append(values[rows])
        if parts:
            self._write(np.frombuffer(b"".join(keys), "V16"), np.concatenate(parts))
        for path in paths:
            path.unlink(missing_ok=True)
            self._vectors_path(path.name.removesuffix(".index.npy")).unlink(missing_ok=True)
