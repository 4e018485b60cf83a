"""Defaults for inputs that a JSON request leaves out.

TensorFlow Serving 2.20 reads JSON using the signature's inputs alone and requires all of them
(``FillTensorMapFromInputsMap`` and ``FillTensorMapFromInstancesList`` in ``util/json_tensor.cc``), though its gRPC API
supports defaults.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.protos import tensor_pb2, types_pb2
from serving.tensors import TensorParseError, rows_of, to_numpy

_SMALL_FLOATS = (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a signature.

    Attributes:
        types: DataTypes by alias.
        defaults: TensorProtos, by alias, of those that may be left out.
    """

    types: Mapping[str, int]
    defaults: Mapping[str, tensor_pb2.TensorProto] = field(default_factory=dict)

    @property
    def required(self) -> frozenset[str]:
        """Aliases of those without a default."""
        return frozenset(self.types.keys() - self.defaults.keys())


def filled_rows(rows: Sequence[dict[str, Any]], inputs: Inputs) -> list[dict[str, Any]]:
    """The rows of a request, each with a value for every input that appears in any row.

    An input that appears in no row is left to the code that runs the request. If all rows are empty, all inputs are
    filled in: they determine the number of rows.

    Args:
        rows: objects whose keys are inputs of the signature.
        inputs: the signature's inputs.

    Returns:
        The rows; a value is still missing where a default is not exactly one row.
    """
    given = set[str]().union(*rows) or set(inputs.defaults)
    defaults = {alias: _row(inputs.defaults[alias]) for alias in given & inputs.defaults.keys()}
    values = {alias: found[0] for alias, found in defaults.items() if found}
    return [row if row.keys() == given else values | row for row in rows]


def _row(default: tensor_pb2.TensorProto) -> list[Any]:
    """The only row of a TensorProto as a JSON value; nothing when it has none or several."""
    if rows_of(default) != 1:
        return []
    try:
        array = to_numpy(default)
    except TensorParseError:
        return []
    if default.dtype in _SMALL_FLOATS:
        array = array.astype(float)
    values: list[Any] = array.tolist()
    return [_texts(value) for value in values] if array.dtype.hasobject else values


def _texts(value: list[Any] | bytes) -> object:
    if isinstance(value, list):
        return [_texts(item) for item in value]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": b64encode(value).decode()}
