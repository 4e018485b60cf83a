"""Several requests' tensors as one, and one result as several: what lets requests share a run of the graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.protos import tensor_pb2, types_pb2
from serving.tensors import string_array, to_numpy, to_proto, value_field


class UnjoinableError(Exception):
    """These tensors can't be rows of one tensor."""


def join(protos: Sequence[Any], *, pad: bool, rows: Sequence[int] | None = None) -> Any:
    """Joins TensorProtos of one type along their first axis.

    Args:
        protos: at least one.
        rows: sizes of the first axis that they must have; None: any.
        pad: fill up sizes that differ beyond the first axis, with zeros or empty strings, to the largest.

    Raises:
        UnjoinableError: their shapes don't allow it.
        TensorParseError: one of them is malformed.
    """
    shapes = [[dimension.size for dimension in proto.tensor_shape.dim] for proto in protos]
    if any(not shape for shape in shapes):
        raise UnjoinableError("a tensor without rows")
    if rows is not None and [shape[0] for shape in shapes] != list(rows):
        raise UnjoinableError("inputs of one request have different numbers of rows")
    joined = _join_values(protos, shapes)
    if joined is not None:
        return joined
    arrays = [to_numpy(proto) for proto in protos]
    if any(shape[1:] != shapes[0][1:] for shape in shapes):
        if not pad or any(len(shape) != len(shapes[0]) for shape in shapes):
            raise UnjoinableError("sizes beyond the first axis differ")
        arrays = _padded(arrays)
    return to_proto(np.concatenate(arrays))


def _join_values(protos: Sequence[Any], shapes: Sequence[list[int]]) -> Any:
    """The usual case, all values given one by one: joined without looking at any; None in other cases."""
    first = protos[0]
    field = value_field(first.dtype)
    rest = shapes[0][1:]
    width = 1
    for size in rest:
        width *= size
    joined = tensor_pb2.TensorProto(dtype=first.dtype)
    values = getattr(joined, field)
    rows = 0
    for proto, shape in zip(protos, shapes, strict=True):
        own = getattr(proto, field)
        if shape[1:] != rest or len(own) != shape[0] * width:
            return None
        values.extend(own)
        rows += shape[0]
    add = joined.tensor_shape.dim.add
    for size in (rows, *rest):
        add(size=size)
    return joined


def _padded(arrays: Sequence[Any]) -> list[Any]:
    sizes = [max(array.shape[axis] for array in arrays) for axis in range(1, arrays[0].ndim)]
    padded = []
    for array in arrays:
        full = np.zeros((len(array), *sizes), dtype=array.dtype)
        if array.dtype.hasobject:
            full = string_array([b""] * full.size).reshape(full.shape)
        full[tuple(slice(size) for size in array.shape)] = array
        padded.append(full)
    return padded


def rows_of(proto: Any) -> int | None:
    """Size of a TensorProto's first axis; None for a scalar or what can't be joined."""
    if not proto.tensor_shape.dim or proto.dtype == types_pb2.DT_INVALID:
        return None
    return int(proto.tensor_shape.dim[0].size)
