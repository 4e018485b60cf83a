"""Reads the sizes of a checkpoint's data files from its index."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from serving.private.tensorflow import Status, library
from serving.protos import tensor_bundle_pb2

_FOOTER_BYTES = 48
_UNCOMPRESSED = 0


def shard_sizes(prefix: Path) -> dict[str, int]:
    """Name -> minimum size in bytes, for each data file of the checkpoint at ``prefix``.

    TensorFlow's reader verifies the index (its end, and the checksum of each block). It does not expose the location of
    values, so that is read here (the table is LevelDB's; ``core/util/tensor_bundle/tensor_bundle.h``).

    Raises:
        TensorFlowError: the index is missing, cut short or damaged.
        OSError: it can't be read.
    """
    c = library()
    with Status() as status:
        reader = c.TF_NewCheckpointReader(str(prefix).encode(), status.pointer)
        if reader:
            c.TF_DeleteCheckpointReader(reader)
        status.check()
    table = Path(f"{prefix}.index").read_bytes()
    sizes: Counter[int] = Counter()
    shards = 1
    for key, value in _entries(table):
        if not key:
            shards = tensor_bundle_pb2.BundleHeaderProto.FromString(value).num_shards
            continue
        entry = tensor_bundle_pb2.BundleEntryProto.FromString(value)
        sizes[entry.shard_id] = max(sizes[entry.shard_id], entry.offset + entry.size)
    return {f"{prefix.name}.data-{shard:05d}-of-{shards:05d}": sizes[shard] for shard in range(shards)}


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, which TensorFlow writes without compression."""
    at = len(table) - _FOOTER_BYTES
    for _ in range(2):  # the handle of another index comes first
        _, at = _varint(table, at)
    offset, at = _varint(table, at)
    size, _ = _varint(table, at)
    for _, handle in _block(table, offset, size):
        offset, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        yield from _block(table, offset, size)


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if table[offset + size] != _UNCOMPRESSED:
        return  # written by something else; loading will show whether it is usable
    block = table[offset : offset + size]
    end = size - 4 * (1 + int.from_bytes(block[-4:], "little"))
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
