"""Default values for inputs that a request leaves out, as declared by its signature.

TensorFlow Serving feeds a declared default as is (``GetInputValues`` in ``tensorflow/cc/saved_model/util.cc``). Here a
default of one row also applies to each row of a request with several, if the input takes any number of rows:
otherwise nothing could be left out of such a request, nor of one that is batched with others.
"""

from collections.abc import Mapping

import numpy as np

from serving.protos import tensor_pb2
from serving.server.execution.servable import TensorSpec
from serving.tensors import TensorParseError, rows_of, to_numpy, to_proto


def is_row(default: tensor_pb2.TensorProto, spec: TensorSpec) -> bool:
    """Whether a default (a TensorProto) is one row of an input that takes any number of rows."""
    return (
        spec.shape is not None
        and spec.shape[:1] == (-1,)
        and default.dtype == spec.dtype
        and len(default.tensor_shape.dim) == len(spec.shape)
        and rows_of(default) == 1
    )


def filled(default: tensor_pb2.TensorProto, spec: TensorSpec, rows: int) -> tensor_pb2.TensorProto:
    """The TensorProto to feed for an input that was left out of a request with ``rows`` rows."""
    if rows == 1 or not is_row(default, spec):
        return default
    try:
        return to_proto(np.repeat(to_numpy(default), rows, axis=0))
    except TensorParseError:
        # A fault of the model: TensorFlow reports what is wrong with it.
        return default


def rows_given(inputs: Mapping[str, tensor_pb2.TensorProto], size: int) -> int:
    """The number of rows of a request.

    Args:
        inputs: the TensorProtos in the request.
        size: bytes of the serialised request.

    Returns:
        The rows that all inputs have. 1 when there are no inputs, when they differ, or when there are more rows than
        bytes: a shape alone must not cause unlimited repetition.
    """
    found = {rows_of(proto) for proto in inputs.values()}
    rows = found.pop() if len(found) == 1 else None
    return rows if rows is not None and 0 <= rows <= size else 1
