"""JSON classify and regress requests -> ClassificationRequest, RegressionRequest.

Source: ``FillClassifyRegressRequestFromJson`` in ``util/json_tensor.cc``.
"""

from typing import Any, TypeVar

import numpy as np

from serving.protos import classification_pb2, example_pb2, feature_pb2, model_pb2, regression_pb2
from serving.server.errors import invalid_argument
from serving.server.rest import json_text
from serving.server.rest.json_decode import fill_signature
from serving.server.rest.json_text import format_error

_INT64 = range(-(1 << 63), 1 << 63)
_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}

R = TypeVar("R", classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest)


def classification_request(body: bytes, spec: model_pb2.ModelSpec) -> classification_pb2.ClassificationRequest:
    """Reads a classify request.

    Args:
        body: the JSON document.
        spec: ModelSpec from the URL.

    Returns:
        A ``ClassificationRequest``.

    Raises:
        StatusError: INVALID_ARGUMENT with the real server's message.
    """
    return _request(body, spec, classification_pb2.ClassificationRequest)


def regression_request(body: bytes, spec: model_pb2.ModelSpec) -> regression_pb2.RegressionRequest:
    """Reads a regress request into a ``RegressionRequest``; see ``classification_request``."""
    return _request(body, spec, regression_pb2.RegressionRequest)


def _request(body: bytes, spec: model_pb2.ModelSpec, make: type[R]) -> R:
    document = json_text.parse(body)
    request = make(model_spec=spec)
    fill_signature(document, request.model_spec)
    if "context" in document:
        with_context = request.input.example_list_with_context
        with_context.context.SetInParent()
        _fill_example(document["context"], with_context.context)
        listed = with_context.examples
    else:
        listed = request.input.example_list.examples
    if "examples" not in document:
        # The real server says "classify" for regress as well.
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if type(examples) is not list:
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    for example in examples:
        _fill_example(example, listed.add())
    return request


def _fill_example(value: object, example: example_pb2.Example) -> None:
    if type(value) is not dict:
        raise invalid_argument(f"Example must be JSON object but got JSON {json_text.type_name(value)}")
    features = example.features.feature
    for name, content in value.items():
        _fill_feature(name, content if type(content) is list else [content], features[name])


def _fill_feature(name: str, values: list[Any], feature: feature_pb2.Feature) -> None:
    kinds = set(map(type, values))
    if kinds == {str}:
        feature.bytes_list.value.extend(map(str.encode, values))
    elif kinds == {float}:
        feature.float_list.value.extend(_floats(values))
    elif kinds and kinds <= {int, bool} and all(value in _INT64 for value in values):
        feature.int64_list.value.extend(map(int, values))
    else:
        for value in values:
            _add_value(name, value, feature)


def _add_value(name: str, value: object, feature: feature_pb2.Feature) -> None:
    if type(value) is str:
        _list_of("bytes_list", name, feature).append(value.encode())
    elif json_text.is_base64(value):
        _list_of("bytes_list", name, feature).append(json_text.base64_bytes(value))
    elif type(value) is float:
        _list_of("float_list", name, feature).extend(_floats([value]))
    elif isinstance(value, int):
        integers = _list_of("int64_list", name, feature)
        if value not in _INT64:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        integers.append(int(value))
    else:
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {json_text.type_name(value)}")


def _floats(values: list[float]) -> list[float]:
    """Numbers rounded to float32; those out of range become infinite."""
    with np.errstate(over="ignore"):
        rounded: list[float] = np.array(values, np.float64).astype(np.float32).tolist()
    return rounded


def _list_of(kind: str, name: str, feature: feature_pb2.Feature) -> Any:
    """The list of a feature's values; the first value determines its type."""
    chosen = feature.WhichOneof("kind")
    if chosen not in (None, kind):
        raise invalid_argument(f"Unexpected element type in feature: {name} expecting type: {_KINDS[chosen]}")
    return getattr(feature, kind).value
