"""TensorProto <-> NumPy, like TensorFlow's own ``Tensor::FromProto`` and ``AsProtoField``.

Strings are ``object`` arrays of ``bytes``. Needs no TensorFlow.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.protos import tensor_pb2, types_pb2

try:  # comes with TensorFlow; without it a client has no bfloat16
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

# A proto may give a shape and a single value for all of it. Real data never comes close to this bound;
# a request of a few bytes that asks for terabytes does.
MAX_FILLED_ELEMENTS = 1 << 28
# NumPy counts bytes in 63 bits, even when another dimension is zero.
_MAX_ELEMENTS = 1 << 58

_DTYPES: dict[int, tuple[np.dtype[Any], str]] = {
    types_pb2.DT_FLOAT: (np.dtype(np.float32), "float_val"),
    types_pb2.DT_DOUBLE: (np.dtype(np.float64), "double_val"),
    types_pb2.DT_INT32: (np.dtype(np.int32), "int_val"),
    types_pb2.DT_INT16: (np.dtype(np.int16), "int_val"),
    types_pb2.DT_INT8: (np.dtype(np.int8), "int_val"),
    types_pb2.DT_UINT8: (np.dtype(np.uint8), "int_val"),
    types_pb2.DT_UINT16: (np.dtype(np.uint16), "int_val"),
    types_pb2.DT_INT64: (np.dtype(np.int64), "int64_val"),
    types_pb2.DT_UINT32: (np.dtype(np.uint32), "uint32_val"),
    types_pb2.DT_UINT64: (np.dtype(np.uint64), "uint64_val"),
    types_pb2.DT_BOOL: (np.dtype(np.bool_), "bool_val"),
    types_pb2.DT_HALF: (np.dtype(np.float16), "half_val"),
    types_pb2.DT_COMPLEX64: (np.dtype(np.complex64), "scomplex_val"),
    types_pb2.DT_COMPLEX128: (np.dtype(np.complex128), "dcomplex_val"),
    types_pb2.DT_STRING: (np.dtype(object), "string_val"),
}
if bfloat16 is not None:
    _DTYPES[types_pb2.DT_BFLOAT16] = (np.dtype(bfloat16), "half_val")
_ENUMS = {dtype: enum for enum, (dtype, _) in _DTYPES.items()}

# Fields whose packed wire form is the array's memory: (key byte of the packed field) by DataType.
PACKED_KEYS = {types_pb2.DT_FLOAT: b"\x2a", types_pb2.DT_DOUBLE: b"\x32"}
# Key byte of ``string_val``.
STRING_KEY = b"\x42"
_BIT_DTYPES = {"half_val": np.uint16}
_PART_DTYPES = {"scomplex_val": np.float32, "dcomplex_val": np.float64}


class TensorParseError(ValueError):
    """The proto does not describe a tensor: unknown shape, unknown type, or values that don't fit it."""


def dtype_name(enum: int) -> str:
    """TensorFlow's name for a DataType: ``string``, ``int64``, ``float``."""
    if enum not in types_pb2.DataType.values():
        return f"unknown type {enum}"
    return str(types_pb2.DataType.Name(enum)).removeprefix("DT_").lower()


def numpy_dtype(enum: int) -> np.dtype[Any] | None:
    """NumPy's type of a DataType; None when it has none."""
    return _DTYPES[enum][0] if enum in _DTYPES else None


def to_numpy(proto: tensor_pb2.TensorProto) -> npt.NDArray[Any]:
    """Decodes a TensorProto.

    Missing values are filled with the last one (or zeros when there is none) and surplus values are
    dropped, as in TensorFlow.

    Args:
        proto: a ``tensorflow.TensorProto``.

    Returns:
        An array of the proto's shape; ``object`` dtype holding ``bytes`` for strings.

    Raises:
        TensorParseError: the proto is malformed.
    """
    if proto.dtype not in _DTYPES:
        raise TensorParseError(f"tensors of {dtype_name(proto.dtype)} are not supported")
    dtype, field = _DTYPES[proto.dtype]
    if proto.tensor_shape.unknown_rank:
        raise TensorParseError("the shape has an unknown rank")
    shape = tuple([dimension.size for dimension in proto.tensor_shape.dim])
    if any(size < 0 for size in shape):
        raise TensorParseError(f"the shape {list(shape)} has a negative size")
    count = math.prod(shape)
    if math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        raise TensorParseError(f"the shape {list(shape)} is too large")
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, count).reshape(shape)
    values = getattr(proto, field)
    if dtype.hasobject:
        return _from_strings(values, count).reshape(shape)
    if field in _BIT_DTYPES:
        flat = np.array(values, dtype=np.int32).astype(_BIT_DTYPES[field]).view(dtype)
    elif field in _PART_DTYPES:
        parts = np.array(values, dtype=_PART_DTYPES[field])
        flat = parts[: len(parts) // 2 * 2].view(dtype)
    elif field == "int_val":
        flat = np.array(values, dtype=np.int32).astype(dtype, copy=False)
    else:
        flat = np.array(values, dtype=dtype)
    return _fitted(flat, count).reshape(shape)


def to_proto(array: npt.NDArray[Any]) -> tensor_pb2.TensorProto:
    """Encodes an array into a TensorProto with typed value fields, the form the real server answers in.

    Args:
        array: any supported dtype; ``object`` arrays must hold ``bytes`` (or ``str``, written as UTF-8).

    Raises:
        TensorParseError: the dtype has no TensorFlow counterpart.
    """
    enum = _ENUMS.get(array.dtype)
    if enum is None:
        raise TensorParseError(f"arrays of {array.dtype} can't be sent")
    field = _DTYPES[enum][1]
    if enum in PACKED_KEYS:
        # Passing the packed field as bytes copies memory once; extending the repeated field boxes
        # every number (32 x 512 floats: 6 microseconds instead of 500).
        content = array.tobytes()
        proto = tensor_pb2.TensorProto.FromString(PACKED_KEYS[enum] + varint(len(content)) + content)
    else:
        proto = tensor_pb2.TensorProto()
        flat = array.ravel()
        if enum == types_pb2.DT_STRING:
            values: list[Any] = flat.tolist()
            try:
                proto.string_val.extend(values)
            except TypeError:
                del proto.string_val[:]
                proto.string_val.extend([v.encode() if isinstance(v, str) else v for v in values])
        else:
            if field in _BIT_DTYPES:
                flat = flat.view(_BIT_DTYPES[field])
            elif field in _PART_DTYPES:
                flat = flat.view(_PART_DTYPES[field])
            getattr(proto, field).extend(flat.tolist())
    proto.dtype = enum
    add_dim = proto.tensor_shape.dim.add
    if array.ndim == 0:
        proto.tensor_shape.SetInParent()
    for size in array.shape:
        add_dim(size=size)
    return proto


def to_content_proto(array: npt.NDArray[Any]) -> tensor_pb2.TensorProto:
    """Encodes an array into a TensorProto with ``tensor_content``, TensorFlow's ``AsProtoTensorContent``.

    Raises:
        TensorParseError: the dtype has no TensorFlow counterpart.
    """
    enum = _ENUMS.get(array.dtype)
    if enum is None:
        raise TensorParseError(f"arrays of {array.dtype} can't be sent")
    if enum == types_pb2.DT_STRING:
        values = [value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()]
        content = b"".join([*(varint(len(value)) for value in values), *values])
    else:
        content = array.tobytes()
    proto = tensor_pb2.TensorProto(dtype=enum, tensor_content=content)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def rows_of(proto: tensor_pb2.TensorProto) -> int | None:
    """Size of a TensorProto's first axis; None for a scalar or an untyped proto."""
    if not proto.tensor_shape.dim or proto.dtype == types_pb2.DT_INVALID:
        return None
    return int(proto.tensor_shape.dim[0].size)


def string_array(values: Sequence[bytes] | bytes) -> npt.NDArray[Any]:
    """An ``object`` array; unlike ``np.array`` it keeps trailing NUL bytes and never makes an ``S`` dtype."""
    if isinstance(values, bytes):
        scalar = np.empty((), dtype=object)
        scalar[()] = values
        return scalar
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _from_strings(values: Sequence[bytes], count: int) -> npt.NDArray[Any]:
    if len(values) >= count:
        return string_array(values if len(values) == count else values[:count])
    _check_fill(count)
    array = np.empty(count, dtype=object)
    array[: len(values)] = values
    array[len(values) :] = values[-1] if values else b""
    return array


def _fitted(flat: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    if len(flat) >= count:
        return flat[:count]
    _check_fill(count)
    array = np.zeros(count, dtype=flat.dtype)
    array[: len(flat)] = flat
    if len(flat):
        array[len(flat) :] = flat[-1]
    return array


def _check_fill(count: int) -> None:
    if count > MAX_FILLED_ELEMENTS:
        raise TensorParseError(f"the shape has {count} elements but few values are given")


def _from_content(content: bytes, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    if dtype.hasobject:
        return _strings_from_content(content, count)
    if len(content) != count * dtype.itemsize:
        raise TensorParseError(f"{len(content)} bytes of content, {count * dtype.itemsize} expected")
    array = np.frombuffer(content, dtype=dtype)
    # Bytes other than 0 and 1 are not valid C++ bools.
    return array.view(np.uint8) != 0 if dtype.kind == "b" else array


def _strings_from_content(content: bytes, count: int) -> npt.NDArray[Any]:
    # All lengths as varints, then all bytes (TensorFlow's EncodeStringList).
    lengths: list[int] = []
    position = 0
    while len(lengths) < count:
        value = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise TensorParseError("string content ends early")
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(value)
    if position + sum(lengths) != len(content):
        raise TensorParseError("string content does not fit its lengths")
    values: list[bytes] = []
    for length in lengths:
        values.append(content[position : position + length])
        position += length
    return string_array(values)


@functools.lru_cache(maxsize=8192)
def varint(value: int) -> bytes:
    """Protobuf's variable-length form of a number >= 0."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
