"""TensorProto <-> ``TF_Tensor``, by memory rather than by element.

Protos enter TensorFlow through its own parser (``TF_TensorFromProto``), so that malformed ones fail
like in TensorFlow Serving. On the way out, strings are read from their records in memory and numbers are copied as
one block.
"""

import ctypes
import functools
import math
from collections import OrderedDict
from ctypes import c_int64

import numpy as np

from serving.private.tensorflow import TensorFlowError, buffer_of, library
from serving.private.tstring import string_fields
from serving.protos import tensor_pb2, types_pb2
from serving.tensors import (
    MAX_FILLED_ELEMENTS,
    PACKED_KEYS,
    dtype_name,
    numpy_dtype,
    to_proto,
    varint,
)

_STRING = types_pb2.DT_STRING
_INVALID_ARGUMENT = 3
_UNIMPLEMENTED = 12
_NO_DIMENSIONS = (c_int64 * 1)()
_MAX_KEPT = 1024  # elements of a tensor that is kept for the next request


def tensor_from_proto(proto: tensor_pb2.TensorProto) -> int:
    """Makes a ``TF_Tensor``; the caller frees it with ``TF_DeleteTensor``.

    Raises:
        TensorFlowError: INVALID_ARGUMENT, the proto is malformed.
    """
    _check_fill(proto)
    return _parse(proto.SerializeToString())


def proto_from_tensor(tensor: int) -> tensor_pb2.TensorProto:
    """A ``TF_Tensor`` as a TensorProto with typed value fields, the form that the real server returns.

    Raises:
        TensorFlowError: UNIMPLEMENTED, values of this type can't be sent.
    """
    return tensor_pb2.TensorProto.FromString(bytes_from_tensor(tensor))


def bytes_from_tensor(tensor: int) -> bytes:
    """The serialised form of ``proto_from_tensor``, written without building a message: several times faster.

    Raises:
        TensorFlowError: UNIMPLEMENTED, values of this type can't be sent.
    """
    c = library()
    shape = tuple([c.TF_Dim(tensor, axis) for axis in range(c.TF_NumDims(tensor))])
    dtype = c.TF_TensorType(tensor)
    if 0 in shape:  # there may be no data pointer
        return _wire(dtype, shape, 0, 0)
    return _wire(dtype, shape, c.TF_TensorData(tensor), c.TF_TensorByteSize(tensor))


def _wire(dtype: int, shape: tuple[int, ...], data: int, size: int) -> bytes:
    if dtype == _STRING:
        return _header(dtype, shape) + b"".join(string_fields(data, math.prod(shape)))
    content = ctypes.string_at(data, size) if size else b""
    key = PACKED_KEYS.get(dtype)
    if key is not None:
        return _header(dtype, shape) + key + varint(size) + content if size else _header(dtype, shape)
    numpy_type = numpy_dtype(dtype)
    if numpy_type is None:
        raise TensorFlowError(_UNIMPLEMENTED, f"tensors of {dtype_name(dtype)} can't be sent")
    # Values without their shape, since NumPy does not support all of TensorFlow's: [0, 2**62], or a hundred axes.
    values = to_proto(np.frombuffer(content, dtype=numpy_type))
    values.ClearField("dtype")
    values.ClearField("tensor_shape")
    return _header(dtype, shape) + bytes(values.SerializeToString())


@functools.lru_cache(maxsize=1024)
def _header(dtype: int, shape: tuple[int, ...]) -> bytes:
    """Type and shape of a serialised TensorProto."""
    proto = tensor_pb2.TensorProto(dtype=dtype)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return bytes(proto.SerializeToString())


class TensorCache:
    """Caches the tensors of small inputs, most of which recur: empty texts, flags, the same ``k``.

    TensorFlow doesn't write into a tensor that is referenced elsewhere, so one may be fed to many runs at once. Not
    thread-safe: use one per thread.

    Args:
        capacity: number of tensors kept between runs, the most recently used ones.
        largest: maximum bytes of a serialised proto that is kept.
    """

    def __init__(self, capacity: int = 1024, largest: int = 64) -> None:
        self._capacity = capacity
        self._largest = largest
        self._kept: OrderedDict[bytes, int] = OrderedDict()

    def get(self, proto: tensor_pb2.TensorProto) -> tuple[int, bool]:
        """The tensor of a proto, and whether the caller must free it after use.

        One that the caller need not free stays valid until the caller calls ``trim``.

        Raises:
            TensorFlowError: INVALID_ARGUMENT, the proto is malformed.
        """
        serialized = proto.SerializeToString()
        if not self._is_small(proto, serialized):
            return tensor_from_proto(proto), True
        tensor = self._kept.get(serialized)
        if tensor is None:
            tensor = self._kept[serialized] = tensor_from_proto(proto)
        else:
            self._kept.move_to_end(serialized)
        return tensor, False

    def _is_small(self, proto: tensor_pb2.TensorProto, serialized: bytes) -> bool:
        # A few bytes can represent a large tensor: a shape, and one value for all of it.
        count = 1
        for dimension in proto.tensor_shape.dim:
            count *= dimension.size
        return len(serialized) <= self._largest and count <= _MAX_KEPT

    def trim(self) -> None:
        """Frees tensors beyond the cache's capacity; to be called when no cached tensor is in use."""
        while len(self._kept) > self._capacity:
            library().TF_DeleteTensor(self._kept.popitem(last=False)[1])

    def clear(self) -> None:
        """Frees them all."""
        while self._kept:
            library().TF_DeleteTensor(self._kept.popitem()[1])

    def __del__(self) -> None:
        """Frees the tensors of a thread that has ended."""
        self.clear()


def _parse(serialized: bytes) -> int:
    c = library()
    # The type of the placeholder doesn't matter: parsing replaces its tensor.
    tensor = c.TF_AllocateTensor(types_pb2.DT_FLOAT, _NO_DIMENSIONS, 0, 4)
    status = c.TF_NewStatus()
    c.TF_TensorFromProto(buffer_of(serialized), tensor, status)
    code = c.TF_GetCode(status)
    message = c.TF_Message(status).decode("utf-8", "replace") if code else ""
    c.TF_DeleteStatus(status)
    if code:
        c.TF_DeleteTensor(tensor)
        raise TensorFlowError(_INVALID_ARGUMENT, message)
    return int(tensor)


def _check_fill(proto: tensor_pb2.TensorProto) -> None:
    # A proto may give a shape and a single value for all of it: a few bytes could ask for terabytes.
    count = 1
    for dimension in proto.tensor_shape.dim:
        count *= dimension.size
    if count > MAX_FILLED_ELEMENTS and count > proto.ByteSize():
        raise TensorFlowError(_INVALID_ARGUMENT, f"the shape has {count} elements but few values are given")
