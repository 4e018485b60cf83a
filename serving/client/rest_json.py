"""Tensors in TensorFlow Serving's JSON, columnar form (``g3doc/api_rest.md``, ``util/json_tensor.cc``).

JSON does not say what type a number or an empty list has, so arrays are read back using the signature's types.
"""

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.client.errors import BadRequestError
from serving.protos import types_pb2
from serving.tensors import dtype_name, numpy_dtype, string_array

_BASE64_KEY = "b64"
# NumPy's own limit.
_MAX_RANK = 64
# Python types of JSON values by NumPy kind; any other kind is a float.
_KINDS: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}}
_BFLOAT16 = numpy_dtype(types_pb2.DT_BFLOAT16)


class MisfitError(ValueError):
    """A JSON value does not fit the type that the signature says it has."""


def request_body(signature_name: str, inputs: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A predict request.

    Raises:
        BadRequestError: an array has no JSON form; the message names it.
    """
    document = {"signature_name": signature_name, "inputs": {name: to_json(name, a) for name, a in inputs.items()}}
    # NaN and Infinity are written as those words, which is what the server reads.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def to_json(name: str, array: npt.NDArray[Any]) -> Any:
    """A tensor as nested lists; bytes that are not UTF-8 as ``{"b64": ...}``.

    Raises:
        BadRequestError: it has no JSON form.
    """
    if 0 in array.shape[:-1]:
        raise BadRequestError(
            f"REST can't send {name} of shape {list(array.shape)}: JSON keeps no dimensions after an empty one. "
            "Use gRPC for it"
        )
    if array.dtype.kind == "O":
        values = np.empty(array.size, dtype=object)
        values[:] = [_string(name, value) for value in array.ravel().tolist()]
        return values.reshape(array.shape).tolist()
    if array.dtype == _BFLOAT16:
        return array.astype(np.float32).tolist()
    if array.dtype.kind not in "biuf":
        raise BadRequestError(f"REST can't send {name}: JSON has no form for arrays of {array.dtype}")
    return array.tolist()


def read(body: bytes) -> Any:
    """Parses a document from the server.

    Strings may hold bytes that are not UTF-8, which the server writes as they are; they become lone surrogates.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(body.decode(errors="surrogateescape"))


def from_json(value: Any, info: Any) -> npt.NDArray[Any]:
    """Nested lists as a tensor.

    Args:
        value: a value of the document.
        info: the ``TensorInfo`` of the signature, or anything with its ``dtype`` and ``tensor_shape``.

    Raises:
        MisfitError: the lists are ragged or hold values that the type does not allow.
    """
    dtype = numpy_dtype(info.dtype)
    if dtype is None or dtype.kind == "c":
        raise MisfitError(f"JSON has no form for tensors of {dtype_name(info.dtype)}")
    shape, flat = _flatten(value)
    array = string_array([_bytes(element) for element in flat]) if dtype.kind == "O" else _numbers(flat, dtype)
    if not flat:
        # The dimensions after an empty one are not in the JSON, but in the signature.
        rank = len(info.tensor_shape.dim)
        shape += [max(dimension.size, 0) for dimension in info.tensor_shape.dim[len(shape) : rank]]
    return array.reshape(shape)


def _flatten(value: Any) -> tuple[list[int], list[Any]]:
    shape: list[int] = []
    flat = [value]
    while flat and isinstance(flat[0], list):
        size = len(flat[0])
        if not all(isinstance(element, list) and len(element) == size for element in flat):
            raise MisfitError(f"lists of different lengths at depth {len(shape)}")
        shape.append(size)
        if len(shape) > _MAX_RANK:
            raise MisfitError(f"lists are nested more than {_MAX_RANK} deep")
        flat = list(chain.from_iterable(flat))
    return shape, flat


def _numbers(flat: list[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    kinds = set(map(type, flat))
    allowed = _KINDS.get(dtype.kind, {int, float})
    if not kinds <= allowed:
        wrong = next(element for element in flat if type(element) not in allowed)
        raise MisfitError(f"{wrong!r} is not {dtype}")
    try:
        return np.array(flat, dtype=dtype)
    except OverflowError as error:
        raise MisfitError(str(error)) from None


def _string(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise BadRequestError(f"{name} must hold bytes or str, got {type(value).__name__} {value!r}")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {_BASE64_KEY: b64encode(value).decode()}


def _bytes(value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode(errors="surrogateescape")
        if isinstance(value, dict) and value.keys() == {_BASE64_KEY}:
            return b64decode(value[_BASE64_KEY], validate=True)
    except (UnicodeEncodeError, binascii.Error, TypeError) as error:
        raise MisfitError(f"{value!r} can't be decoded: {error}") from None
    raise MisfitError(f'{value!r} is neither a string nor {{"{_BASE64_KEY}": ...}}')
