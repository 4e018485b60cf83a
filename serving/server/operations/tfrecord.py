"""TFRecord files without TensorFlow: framing and checksums as in its ``lib/io/record_reader.cc``."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c
import grpc

from serving.server.errors import StatusError

_HEADER = struct.Struct("<QI")  # length, masked checksum of the length
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_CHUNK = 1 << 24


def masked_crc32c(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated and offset so that checksums of checksums remain useful."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """A record in its file format."""
    length = _LENGTH.pack(len(record))
    return b"".join((length, _CHECKSUM.pack(masked_crc32c(length)), record, _CHECKSUM.pack(masked_crc32c(record))))


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """Yields the records of an open file, from its current position on.

    Unlike TensorFlow's reader, which treats a file that ends inside a record's first twelve bytes as
    complete, this one reports every truncation.

    Raises:
        StatusError: DATA_LOSS where a checksum is wrong or the file ends inside a record.
    """
    offset = 0
    while header := file.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise _truncated(offset)
        length, checksum = _HEADER.unpack(header)
        if masked_crc32c(header[: _LENGTH.size]) != checksum:
            hint = "" if offset else " (Is this even a TFRecord file?)"
            raise _data_loss(f"corrupted record at {offset}{hint}")
        body = _read(file, length + _CHECKSUM.size)
        if len(body) < length + _CHECKSUM.size:
            raise _truncated(offset)
        record = body[:length]
        if masked_crc32c(record) != _CHECKSUM.unpack_from(body, length)[0]:
            raise _data_loss(f"corrupted record at {offset + _HEADER.size}")
        yield record
        offset += _HEADER.size + len(body)


def _read(file: BinaryIO, size: int) -> bytes:
    # In pieces: a wrong length must not allocate more memory than the file has bytes.
    parts: list[bytes] = []
    while size and (part := file.read(min(size, _CHUNK))):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _truncated(offset: int) -> StatusError:
    return _data_loss(f"truncated record at {offset}' failed with Read less bytes than requested")


def _data_loss(message: str) -> StatusError:
    return StatusError(grpc.StatusCode.DATA_LOSS, message)
