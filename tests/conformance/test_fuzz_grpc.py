"""Fuzzed gRPC requests: no crash, no hang, no failure reported as the server's fault."""

from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.conformance.models import VALUE_FIELDS
from tests.conformance.server import SECONDS, Target

_Code = grpc.StatusCode
_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
_METHODS = {
    f"{_PREDICTION}Predict": predict_pb2.PredictRequest,
    f"{_PREDICTION}Classify": classification_pb2.ClassificationRequest,
    f"{_PREDICTION}Regress": regression_pb2.RegressionRequest,
    f"{_PREDICTION}MultiInference": inference_pb2.MultiInferenceRequest,
    f"{_PREDICTION}GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    f"{_MODEL}GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}
# Statuses of client errors. UNIMPLEMENTED: MultiInference of an unknown method.
_CLIENTS = {
    _Code.OK,
    _Code.INVALID_ARGUMENT,
    _Code.NOT_FOUND,
    _Code.FAILED_PRECONDITION,
    _Code.OUT_OF_RANGE,
    _Code.UNIMPLEMENTED,
    _Code.RESOURCE_EXHAUSTED,
}
_LIMITS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def _answers_afterwards(server: Target) -> Any:
    yield
    assert server.predict("half_plus_two", {"x": [2.0]})["y"].tolist() == [3.0]


def _status(server: Target, method: str, content: bytes) -> tuple[grpc.StatusCode, str]:
    call = server.raw(method)
    try:
        call(content, timeout=SECONDS)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return _Code.OK, ""


def _check(server: Target, method: str, content: bytes) -> None:
    code, details = _status(server, method, content)
    allowed = _CLIENTS
    try:
        _METHODS[method].FromString(content)
    except Exception:
        # gRPC's own status for unparseable requests (doc/statuscodes.md).
        allowed = _CLIENTS | {_Code.INTERNAL}
    assert code in allowed, (code, details)


@pytest.mark.parametrize("method", _METHODS)
@settings(_LIMITS, max_examples=40)
@given(content=st.binary(max_size=60))
def test_any_bytes(server: Target, method: str, content: bytes) -> None:
    _check(server, method, content)


# Sizes whose product is either small or beyond any memory: nothing here may fill the memory.
_SIZES = st.one_of(st.integers(-2, 4), st.sampled_from([-(2**63), 2**40, 2**62, 2**63 - 1]))
_DTYPES = st.one_of(
    st.sampled_from([getattr(types_pb2, name) for name in dir(types_pb2) if name.startswith("DT_")]),
    st.integers(-1, 140),
)
_FLOATS = st.floats(width=32)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "float_val": _FLOATS,
    "double_val": st.floats(),
    "int_val": st.integers(-(2**31), 2**31 - 1),
    "string_val": st.binary(max_size=6),
    "scomplex_val": _FLOATS,
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "bool_val": st.booleans(),
    "dcomplex_val": st.floats(),
    "half_val": st.integers(-(2**31), 2**31 - 1),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
}


@st.composite
def _tensors(draw: st.DrawFn, right_dtype: int) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=draw(st.one_of(st.just(right_dtype), _DTYPES)))
    proto.tensor_shape.unknown_rank = draw(st.sampled_from([False, False, False, True]))
    for size in draw(st.lists(_SIZES, max_size=4)):
        proto.tensor_shape.dim.add(size=size)
    for field in draw(st.sets(st.sampled_from(sorted(_VALUES)), max_size=2)):
        getattr(proto, field).extend(draw(st.lists(_VALUES[field], max_size=5)))
    if draw(st.booleans()):
        proto.tensor_content = draw(st.binary(max_size=40))
    if draw(st.integers(0, 9)) == 0:
        proto.resource_handle_val.add(name="x", container="y")
        proto.variant_val.add(type_name="z", metadata=b"\x00")
    return proto


@pytest.mark.parametrize("name", VALUE_FIELDS)
@settings(_LIMITS, max_examples=40)
@given(data=st.data())
def test_tensors_that_contradict_themselves(server: Target, name: str, data: st.DataObject) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "echo", name
    right = getattr(types_pb2, {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF"}.get(
        name, f"DT_{name.upper()}"))  # fmt: skip
    request.inputs["x"].CopyFrom(data.draw(_tensors(right)))
    _check(server, f"{_PREDICTION}Predict", request.SerializeToString())


@_LIMITS
@given(
    signal=_tensors(types_pb2.DT_FLOAT),
    count=_tensors(types_pb2.DT_INT64),
    tag=_tensors(types_pb2.DT_STRING),
    wanted=st.lists(st.sampled_from(["total", "doubled", "label", "raw_bytes", "nope", ""]), max_size=3),
)
def test_inputs_that_contradict_each_other(
    server: Target,
    signal: tensor_pb2.TensorProto,
    count: tensor_pb2.TensorProto,
    tag: tensor_pb2.TensorProto,
    wanted: list[str],
) -> None:
    request = predict_pb2.PredictRequest(output_filter=wanted)
    request.model_spec.name = "multi"
    for alias, proto in (("signal", signal), ("count", count), ("tag", tag)):
        request.inputs[alias].CopyFrom(proto)
    _check(server, f"{_PREDICTION}Predict", request.SerializeToString())


_TEXTS = st.one_of(
    st.sampled_from(
        ["", "half_plus_two", "numbered", "serving_default", "regress_x_to_y", "classify_x_to_y", "stable"]
    ),
    st.text(max_size=20),
)


@_LIMITS
@given(
    method=st.sampled_from(sorted(_METHODS)),
    name=_TEXTS,
    signature=_TEXTS,
    version=st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    label=st.one_of(st.none(), _TEXTS),
    fields=st.lists(_TEXTS, max_size=2),
)
def test_any_names(
    server: Target,
    method: str,
    name: str,
    signature: str,
    version: int | None,
    label: str | None,
    fields: list[str],
) -> None:
    request = _METHODS[method]()
    spec = request.tasks.add().model_spec if method.endswith("MultiInference") else request.model_spec
    spec.name, spec.signature_name = name, signature
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    if method.endswith("GetModelMetadata"):
        request.metadata_field.extend(fields)
    _check(server, method, request.SerializeToString())


@_LIMITS
@given(
    regress=st.booleans(),
    signature=st.sampled_from(["regress_x_to_y", "classify_x_to_y", "regress_x2_to_y3", "serving_default"]),
    examples=st.lists(
        st.dictionaries(
            st.one_of(st.sampled_from(["x", "x2"]), st.text(max_size=3)),
            st.one_of(
                st.lists(_FLOATS, max_size=3).map(lambda v: ("float_list", v)),
                st.lists(_VALUES["int64_val"], max_size=3).map(lambda v: ("int64_list", v)),
                st.lists(st.binary(max_size=3), max_size=3).map(lambda v: ("bytes_list", v)),
            ),
            max_size=3,
        ),
        max_size=4,
    ),
    context=st.booleans(),
)
def test_any_examples(
    server: Target, regress: bool, signature: str, examples: list[dict[str, tuple[str, list[Any]]]], context: bool
) -> None:
    kind = regression_pb2.RegressionRequest if regress else classification_pb2.ClassificationRequest
    request = kind()
    request.model_spec.name, request.model_spec.signature_name = "half_plus_two", signature
    target = request.input.example_list_with_context if context else request.input.example_list
    for features in examples:
        example = target.examples.add()
        for name, (field, values) in features.items():
            getattr(example.features.feature[name], field).value.extend(values)
    if context and examples:
        target.context.CopyFrom(target.examples[0])
    _check(server, f"{_PREDICTION}{'Regress' if regress else 'Classify'}", request.SerializeToString())


@_LIMITS
@given(data=st.data())
def test_good_requests_with_flipped_bytes(server: Target, data: st.DataObject) -> None:
    """Invalid UTF-8 in names, wrong lengths, unknown fields: by modifying good requests."""
    request = predict_pb2.PredictRequest(output_filter=["y"])
    request.model_spec.name, request.model_spec.signature_name = "half_plus_two", "serving_default"
    request.model_spec.version.value = 123
    request.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0]))
    request.inputs["x"].tensor_shape.dim.add(size=2)
    content = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    method = data.draw(st.sampled_from(sorted(_METHODS)))
    # The bytes of a size may happen to ask for gigabytes, which is a valid request and not a bug.
    _check(server, method, bytes(content[:end]))
