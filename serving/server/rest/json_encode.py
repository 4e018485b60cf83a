"""Responses -> JSON, laid out like RapidJSON's PrettyWriter in the real server.

Source: ``util/json_tensor.cc`` (``MakeJsonFromTensors``, ``MakeJsonFromClassificationResult``, ...) and
RapidJSON's ``prettywriter.h``: 4 spaces per level; arrays of row-format responses, of classes and of regressions on a
single line, with the outermost one closed on its own line. The order of names, which is random there, is
alphabetical here.
"""

import math
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from google.protobuf import json_format
from google.protobuf.message import Message

from serving.protos import classification_pb2, get_model_metadata_pb2, get_model_status_pb2, regression_pb2, tensor_pb2
from serving.server.errors import StatusError, invalid_argument
from serving.server.rest.json_decode import Format
from serving.server.rest.json_numbers import decimal32, number_rows
from serving.server.rest.statuses import internal
from serving.tensors import TensorParseError, dtype_name, to_numpy

_INDENT = "    "
_BYTES_SUFFIX = "_bytes"
_METADATA_FIELD = "signature_def"
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {chr(i): f"\\u{i:04X}" for i in range(32)} | {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
# NumPy's limit, minus the one that columns are wrapped in. TensorFlow's is 254.
_MAX_RANK = 63


def predict_response(outputs: Mapping[str, tensor_pb2.TensorProto], layout: Format) -> bytes:
    """The response to a predict request.

    Args:
        outputs: TensorProtos by alias.
        layout: the format of the request.

    Raises:
        StatusError: INVALID_ARGUMENT with the real server's message: the tensors can't be written in this format.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    return _text(_rows(outputs) if layout is Format.ROW else _columns(outputs))


def classification_response(result: classification_pb2.ClassificationResult) -> bytes:
    """A ``ClassificationResult`` as JSON."""
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    rows = [
        "[" + ", ".join([f"[{_string(c.label)}, {decimal32(c.score)}]" for c in item.classes]) + "]"
        for item in result.classifications
    ]
    return _text(f'{{\n{_INDENT}"results": [{", ".join(rows)}\n{_INDENT}]\n}}')


def regression_response(result: regression_pb2.RegressionResult) -> bytes:
    """A ``RegressionResult`` as JSON."""
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = ", ".join([decimal32(item.value) for item in result.regressions])
    return _text(f'{{\n{_INDENT}"results": [{values}]\n}}')


def status_response(response: get_model_status_pb2.GetModelStatusResponse) -> bytes:
    """A ``GetModelStatusResponse`` as JSON."""
    return (_proto(response, names=False) + "\n").encode()


def metadata_response(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    """A ``GetModelMetadataResponse`` as JSON."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    if _METADATA_FIELD not in response.metadata:
        raise internal("Failed to find 'signature_def' key in the GetModelMetadataResponse metadata map.")
    if not response.metadata[_METADATA_FIELD].Unpack(signatures):
        raise internal("Failed to unpack 'Any' object to 'SignatureDefMap'.")
    spec = _proto(response.model_spec, names=True)
    defs = _proto(signatures, names=True)
    return f'{{\n"model_spec":{spec}\n,\n"metadata": {{"signature_def": {defs}\n}}\n}}\n'.encode()


def error_response(message: str) -> bytes:
    """An error as JSON."""
    return _text(f'{{\n{_INDENT}"error": {_string(message)}\n}}')


def _proto(message: Message, *, names: bool) -> str:
    # C++ indents by one space.
    return json_format.MessageToJson(
        message, preserving_proto_field_name=names, always_print_fields_with_no_presence=True, indent=1
    )


def _rows(outputs: Mapping[str, tensor_pb2.TensorProto]) -> str:
    arrays: dict[str, npt.NDArray[Any]] = {}
    batch = -1
    for alias in sorted(outputs):
        shape = outputs[alias].tensor_shape.dim
        if not shape:
            raise invalid_argument(f"Tensor name: {alias} has no shape information ")
        if batch not in (-1, shape[0].size):
            raise invalid_argument(
                f"Tensor name: {alias} has inconsistent batch size: {shape[0].size} expecting: {batch}"
            )
        batch = shape[0].size
        arrays[alias] = _array(alias, outputs[alias])
    if not batch:
        return f'{{\n{_INDENT}"predictions": []\n}}'
    named = len(arrays) > 1
    depth = 3 if named else 2
    columns = [_nested(array, alias, depth, single_line=True) for alias, array in arrays.items()]
    if not named:
        body = ", ".join(columns[0])
    else:
        inner, outer = "\n" + _INDENT * 3, "\n" + _INDENT * 2
        keys = [f"{inner}{_string(alias)}: " for alias in arrays]
        body = ",".join(
            [
                outer + "{" + ",".join([key + value for key, value in zip(keys, row, strict=True)]) + outer + "}"
                for row in zip(*columns, strict=True)
            ]
        )
    return f'{{\n{_INDENT}"predictions": [{body}\n{_INDENT}]\n}}'


def _columns(outputs: Mapping[str, tensor_pb2.TensorProto]) -> str:
    named = len(outputs) > 1
    texts: list[str] = []
    for alias in sorted(outputs):
        array = _array(alias, outputs[alias])[None]
        (value,) = _nested(array, alias, 2 if named else 1, single_line=False)
        texts.append(f"\n{_INDENT * 2}{_string(alias)}: {value}" if named else value)
    body = "{" + ",".join(texts) + f"\n{_INDENT}}}" if named else texts[0]
    return f'{{\n{_INDENT}"outputs": {body}\n}}'


def _array(alias: str, tensor: tensor_pb2.TensorProto) -> npt.NDArray[Any]:
    rank = len(tensor.tensor_shape.dim)
    if rank > _MAX_RANK:
        raise invalid_argument(
            f"Tensor name: {alias} has {rank} dimensions, more than the {_MAX_RANK} that fit into JSON"
        )
    try:
        array = to_numpy(tensor)
    except TensorParseError:
        array = None
    if array is None or array.dtype.kind == "c":
        raise _unwritable(tensor.dtype)
    return array


def _unwritable(dtype: int) -> StatusError:
    return invalid_argument(f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")


def _nested(array: npt.NDArray[Any], alias: str, depth: int, *, single_line: bool) -> list[str]:
    """The JSON of the items of an array's first dimension, to be written inside ``depth`` open brackets."""
    items, *shape = array.shape
    if not items:
        return []
    if 0 in shape:
        # Empty brackets, inside as many brackets as there are dimensions before the 0.
        shape = shape[: shape.index(0)]
        texts = ["[]"] * (items * math.prod(shape))
    elif not shape:
        return _rows_of(array[:, None], alias, ", ", depth)
    else:
        level = depth + len(shape)
        rows = _rows_of(array.reshape(-1, shape.pop()), alias, _separator(level, single_line), level)
        texts = _bracketed(rows, level, single_line)
    while shape:
        level, length = depth + len(shape), shape.pop()
        separator = _separator(level, single_line)
        rows = [separator.join(texts[i : i + length]) for i in range(0, len(texts), length)]
        texts = _bracketed(rows, level, single_line)
    return texts


def _separator(level: int, single_line: bool) -> str:
    return ", " if single_line else ",\n" + _INDENT * level


def _bracketed(rows: list[str], level: int, single_line: bool) -> list[str]:
    if single_line:
        return [f"[{row}]" for row in rows]
    inner, outer = "\n" + _INDENT * level, "\n" + _INDENT * (level - 1)
    return [f"[{inner}{row}{outer}]" for row in rows]


def _rows_of(array: npt.NDArray[Any], alias: str, separator: str, depth: int) -> list[str]:
    if array.dtype.kind != "O":
        return number_rows(array, separator)
    if not alias.endswith(_BYTES_SUFFIX):
        return [separator.join([_string(value) for value in row]) for row in array.tolist()]
    inner, outer = "\n" + _INDENT * (depth + 1), "\n" + _INDENT * depth
    return [
        separator.join([f'{{{inner}"b64": "{b64encode(value).decode()}"{outer}}}' for value in row])
        for row in array.tolist()
    ]


def _string(value: str | bytes) -> str:
    # Bytes that are not UTF-8 are sent as they are, like the real server does.
    text = value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
    if _ESCAPED.search(text) is not None:
        text = _ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)
    return f'"{text}"'


def _text(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
