"""JSON predict requests -> PredictRequest.

Formats, checks and messages are those of ``util/json_tensor.cc`` (``FillPredictRequestFromJson``). A list is
first converted as a whole, with operations that don't look at elements one by one; only if something is wrong with
it does ``_walk`` go through it like the real server and find the error.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from enum import Enum
from itertools import chain
from typing import Any

import numpy as np

from serving.protos import model_pb2, predict_pb2, tensor_pb2, types_pb2
from serving.server.errors import StatusError, invalid_argument
from serving.server.rest import json_text
from serving.server.rest.json_defaults import Inputs, filled_rows
from serving.server.rest.json_text import format_error, is_base64, value_text
from serving.server.rest.statuses import unimplemented
from serving.tensors import dtype_name, numpy_dtype, to_proto

# TensorFlow's limit on the rank of a tensor.
_MAX_RANK = 254
# Integers: lowest and highest value, field. JSON numbers for the small types are only checked against int32, and
# TensorFlow truncates the high bits, as in the real server.
_INTEGERS: dict[int, tuple[int, int, str]] = {
    types_pb2.DT_INT32: (-(1 << 31), (1 << 31) - 1, "int_val"),
    types_pb2.DT_INT16: (-(1 << 31), (1 << 31) - 1, "int_val"),
    types_pb2.DT_INT8: (-(1 << 31), (1 << 31) - 1, "int_val"),
    types_pb2.DT_UINT8: (-(1 << 31), (1 << 31) - 1, "int_val"),
    types_pb2.DT_INT64: (-(1 << 63), (1 << 63) - 1, "int64_val"),
    types_pb2.DT_UINT32: (0, (1 << 32) - 1, "uint32_val"),
    types_pb2.DT_UINT64: (0, (1 << 64) - 1, "uint64_val"),
    # The real server has no uint16.
    types_pb2.DT_UINT16: (0, (1 << 16) - 1, "int_val"),
}
# Of these the real server supports neither half nor bfloat16.
_FLOATS = frozenset({types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16})
_NUMBER_KINDS = {int, float}

# The inputs of a request's signature, by its ModelSpec.
FindInputs = Callable[[model_pb2.ModelSpec], Inputs]


class Format(Enum):
    """How a predict request, and so its response, lists its tensors."""

    ROW = "row"
    COLUMNAR = "columnar"


def predict_request(
    body: bytes, spec: model_pb2.ModelSpec, find_inputs: FindInputs
) -> tuple[predict_pb2.PredictRequest, Format]:
    """Reads a predict request.

    Args:
        body: the JSON document.
        spec: ModelSpec from the URL; the request gets a copy with the document's signature name.
        find_inputs: returns the inputs of the signature; called once the document's signature name is known.

    Returns:
        The ``PredictRequest`` and the format it came in.

    Raises:
        StatusError: the document is invalid, with the real server's message; or ``find_inputs`` raised it.
    """
    document = json_text.parse(body)
    request = predict_pb2.PredictRequest(model_spec=spec)
    fill_signature(document, request.model_spec)
    inputs = find_inputs(request.model_spec)
    if not inputs.types:
        raise invalid_argument(
            f"Failed to get input map for signature: {request.model_spec.signature_name or 'DEFAULT'}"
        )
    if "instances" in document:
        if "inputs" in document:
            raise format_error(
                document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            )
        instances = document["instances"]
        if type(instances) is not list:
            raise format_error(document, "Excepting 'instances' to be an list/array")
        if not instances:
            raise format_error(document, "No values in 'instances' array")
        _fill_from_instances(instances, inputs, request.inputs)
        return request, Format.ROW
    if "inputs" in document:
        _fill_from_inputs(document["inputs"], inputs, request.inputs)
        return request, Format.COLUMNAR
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def fill_signature(document: Mapping[str, Any], spec: model_pb2.ModelSpec) -> None:
    """Copies ``signature_name`` into a request's ModelSpec."""
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    spec.signature_name = name


def _fill_from_inputs(value: object, inputs: Inputs, tensors: MutableMapping[str, tensor_pb2.TensorProto]) -> None:
    types = inputs.types
    if type(value) is not dict or is_base64(value):
        if len(types) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (alias,) = types
        tensors[alias].CopyFrom(_tensor(value, types[alias]))
        return
    for alias in sorted(types):
        if alias in value:
            tensors[alias].CopyFrom(_tensor(value[alias], types[alias]))
        elif alias not in inputs.defaults:
            raise invalid_argument(f"Missing named input: {alias} in 'inputs' object.")


def _fill_from_instances(
    instances: list[Any], inputs: Inputs, tensors: MutableMapping[str, tensor_pb2.TensorProto]
) -> None:
    first, types = instances[0], inputs.types
    if type(first) is not dict and len(types) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    columns: dict[str, Any] = {"": None}
    if not (named := _is_object(first)):
        # A list of base64 objects also gets here with several inputs; missing ones are found later.
        alias = min(types)
        columns = {alias: None if any(map(_is_object, instances)) else _dense(instances, types[alias])}
    elif all(map(_is_object, instances)):
        rows = filled_rows(instances, inputs) if inputs.defaults else instances
        aliases = rows[0].keys()
        if inputs.required <= aliases <= types.keys() and all(row.keys() == aliases for row in rows):
            instances = rows
            columns = {alias: _dense([row[alias] for row in rows], types[alias]) for alias in aliases}
    if any(column is None for column in columns.values()):
        columns = _walk_instances(instances, inputs, named)
    for alias, column in columns.items():
        tensors[alias].CopyFrom(column)


def _is_object(value: object) -> bool:
    return type(value) is dict and not is_base64(value)


def _walk_instances(instances: list[Any], inputs: Inputs, named: bool) -> dict[str, Any]:
    """Converts one element after another, to find errors. What it accepts is correct, too."""
    types = inputs.types
    seen: dict[str, tuple[list[Any], list[int]]] = {}
    for position, element in enumerate(instances):
        if not named:
            if _is_object(element):
                raise invalid_argument(f"Expecting value/list but got object at item {position} of input list")
            try:
                _walk_item(element, min(types), types, seen)
            except StatusError as error:
                raise invalid_argument(
                    f"Failed to process element: {position} of 'instances' list. Error: {error}"
                ) from None
            continue
        if not _is_object(element):
            raise invalid_argument(f"Expecting object but got list at item {position} of input list")
        for alias, value in element.items():
            try:
                _walk_item(value, alias, types, seen)
            except StatusError as error:
                raise invalid_argument(
                    f"Failed to process element: {position} key: {alias} of 'instances' list. Error: {error}"
                ) from None
        if not inputs.required <= element.keys() or element.keys() != instances[0].keys():
            optional = f" (may be left out: {','.join(sorted(inputs.defaults))})" if inputs.defaults else ""
            raise invalid_argument(
                f"Failed to process element: {position} of 'instances' list. JSON object: {value_text(element)} "
                f"keys must be equal to: {','.join(sorted(types))}{optional}"
            )
    return {alias: _built(values, types[alias], [len(instances), *shape]) for alias, (values, shape) in seen.items()}


def _walk_item(
    value: object, alias: str, types: Mapping[str, int], seen: dict[str, tuple[list[Any], list[int]]]
) -> None:
    if alias not in types:
        raise invalid_argument(f"JSON object: does not have named input: {alias}")
    shape = _shape(value)
    values: list[Any] = []
    _walk(value, 0, shape, types[alias], values)
    if alias not in seen:
        seen[alias] = (values, shape)
        return
    known, expected = seen[alias]
    size = int(np.prod(expected, dtype=np.int64))
    if size != len(values):
        raise invalid_argument(f"Expecting tensor size: {size} but got: {len(values)}")
    if expected != shape:
        raise invalid_argument(f"Expecting shape {_shape_text(expected)} but got: {_shape_text(shape)}")
    known += values


def _tensor(value: object, dtype: int) -> tensor_pb2.TensorProto:
    tensor = _dense(value, dtype)
    if tensor is None:
        shape = _shape(value)
        values: list[Any] = []
        _walk(value, 0, shape, dtype, values)
        tensor = _built(values, dtype, shape)
    return tensor


def _shape(value: object) -> list[int]:
    """The shape of a nested list, assuming that all of it is like its first elements."""
    shape: list[int] = []
    while type(value) is list:
        shape.append(len(value))
        if len(shape) > _MAX_RANK:
            raise invalid_argument(f"Lists are nested too deeply: a tensor has at most {_MAX_RANK} dimensions")
        if not value:
            break
        value = value[0]
    return shape


def _shape_text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _dense(value: object, dtype: int) -> tensor_pb2.TensorProto | None:
    """The tensor of a value or a nested list, or None if it needs a closer look."""
    shape = _shape(value)
    flat: list[Any] = [value]
    for size in shape:
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {size}:
            return None
        flat = list(chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if dtype in _FLOATS:
        return _from_floats(flat, dtype, shape) if kinds <= _NUMBER_KINDS else None
    if dtype in _INTEGERS:
        low, high, _ = _INTEGERS[dtype]
        if kinds and (kinds != {int} or min(flat) < low or max(flat) > high):
            return None
    elif dtype == types_pb2.DT_STRING:
        if kinds == {str}:
            flat = list(map(str.encode, flat))
        elif kinds:
            return None
    elif dtype != types_pb2.DT_BOOL or not kinds <= {bool}:
        return None
    return _built(flat, dtype, shape)


def _built(values: list[Any], dtype: int, shape: list[int]) -> tensor_pb2.TensorProto:
    if dtype in _FLOATS:
        return _from_floats(values, dtype, shape)
    proto = tensor_pb2.TensorProto(dtype=dtype)
    if values:
        field = "string_val" if dtype == types_pb2.DT_STRING else "bool_val"
        getattr(proto, _INTEGERS[dtype][2] if dtype in _INTEGERS else field).extend(values)
    return _shaped(proto, shape)


def _from_floats(numbers: list[Any], dtype: int, shape: list[int]) -> tensor_pb2.TensorProto:
    # Like RapidJSON's GetFloat: integers are rounded, and values out of range become infinite.
    with np.errstate(over="ignore"):
        proto = to_proto(np.array(numbers, np.float64).astype(numpy_dtype(dtype)))
    del proto.tensor_shape.dim[:]
    return _shaped(proto, shape)


def _shaped(proto: tensor_pb2.TensorProto, shape: list[int]) -> tensor_pb2.TensorProto:
    proto.tensor_shape.SetInParent()
    add = proto.tensor_shape.dim.add
    for size in shape:
        add(size=size)
    return proto


def _walk(value: object, level: int, shape: list[int], dtype: int, values: list[Any]) -> None:
    """Appends the elements of a nested list, or raises the real server's error for the first invalid one."""
    rank = len(shape)
    if type(value) is not list:
        if level != rank:
            raise format_error(
                value, f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
            )
        values.append(_element(value, dtype))
        return
    if level >= rank:
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _walk(item, level + 1, shape, dtype, values)


def _element(value: object, dtype: int) -> object:
    kind = type(value)
    if kind is dict:
        if dtype != types_pb2.DT_STRING:
            raise _type_error(value, dtype)
        return json_text.base64_bytes(value)
    if dtype in _FLOATS:
        if kind not in _NUMBER_KINDS:
            raise _type_error(value, dtype)
    elif dtype in _INTEGERS:
        low, high, _ = _INTEGERS[dtype]
        if type(value) is not int or not low <= value <= high:
            raise _type_error(value, dtype)
    elif dtype == types_pb2.DT_STRING:
        if type(value) is not str:
            raise _type_error(value, dtype)
        return value.encode()
    elif dtype == types_pb2.DT_BOOL:
        if kind is not bool:
            raise _type_error(value, dtype)
    else:
        raise unimplemented(f"Conversion of JSON Value: {value_text(value)} to type: {dtype_name(dtype)}")
    return value


def _type_error(value: object, dtype: int) -> StatusError:
    return format_error(value, f"Type: {json_text.type_name(value)} is not of expected type: {dtype_name(dtype)}")
