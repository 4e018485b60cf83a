"""The records of string tensors in memory (``tsl/platform/ctstring_internal.h``)."""

import ctypes
import struct
from collections.abc import Sequence

from serving.private.interfaces import Interface
from serving.private.tensorflow import buffer_of, library
from serving.tensors import STRING_KEY, varint

# The two lowest bits of the first byte are the record's kind.
_RECORD_BYTES = 24
_SMALL, _LARGE, _OFFSET = 0, 1, 2
_RECORD = struct.Struct("<QQQ")
# Prefix of a string of less than 128 bytes.
_STRING_KEYS = [STRING_KEY + bytes([size]) for size in range(128)]
# ``ctypes.string_at`` without the Python function around it.
_bytes_at = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)


def string_fields(data: int, count: int) -> list[bytes]:
    """Serialised ``string_val`` fields, in pieces.

    Args:
        data: address of a string tensor's records.
        count: number of records.
    """
    pieces: list[bytes] = []
    add = pieces.append
    records = ctypes.string_at(data, count * _RECORD_BYTES) if count else b""
    start = 0
    for first, second, third in _RECORD.iter_unpack(records):
        kind = first & 3
        if kind == _SMALL:
            size = (first & 0xFF) >> 2
            add(_STRING_KEYS[size])
            add(records[start + 1 : start + 1 + size])
        else:
            size = first >> 2
            if kind == _LARGE:  # size, capacity, address
                address = third
            elif kind == _OFFSET:  # four bytes of size, four of distance from the record
                size &= 0x3FFFFFFF
                address = data + start + (first >> 32)
            else:  # a view: size, address
                address = second
            add(_STRING_KEYS[size] if size < len(_STRING_KEYS) else STRING_KEY + varint(size))
            add(_bytes_at(address, size))
        start += _RECORD_BYTES
    return pieces


def _missing() -> Sequence[str]:
    """Compares the strings of a tensor that TensorFlow makes with what is read from its memory."""
    c = library()
    # Two `string_val`: short ones are in the record itself.
    fields = b"".join(STRING_KEY + bytes([len(text)]) + text for text in (b"short", b"long" * 25))
    proto = b"\x08\x07\x12\x04\x12\x02\x08\x02" + fields  # type DT_STRING, shape [2]
    tensor = c.TF_AllocateTensor(1, (ctypes.c_int64 * 1)(), 0, 4)
    status = c.TF_NewStatus()
    try:
        c.TF_TensorFromProto(buffer_of(proto), tensor, status)
        is_as_known = (
            c.TF_GetCode(status) == 0
            and c.TF_TensorByteSize(tensor) == 2 * _RECORD_BYTES
            # The addresses of another layout could not even be read.
            and ctypes.string_at(c.TF_TensorData(tensor), 6) == bytes([5 << 2]) + b"short"
            and ctypes.string_at(c.TF_TensorData(tensor) + _RECORD_BYTES, 8) == bytes(ctypes.c_uint64(100 << 2 | 1))
            and b"".join(string_fields(c.TF_TensorData(tensor), 2)) == fields
        )
    finally:
        c.TF_DeleteStatus(status)
        c.TF_DeleteTensor(tensor)
    return [] if is_as_known else ["the layout of TF_TString"]


INTERFACES = (Interface("tensorflow", "2.20", "to read strings", _missing),)
