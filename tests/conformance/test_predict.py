"""Predict over gRPC. Sources: predict.proto, model.proto, tensor.proto and the real server's tests of predict_util."""

from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from tests.conformance.models import VALUE_FIELDS
from tests.conformance.server import SECONDS, Target, failure, predict_request, tensor

_Code = grpc.StatusCode
_SAMPLES = {
    "string": [b"", "bêta 日本".encode(), b"\x00\xff\xfe"],
    "bool": [True, False, True],
    "complex64": [1 + 2j, 0j, -3.5j],
    "complex128": [1 + 2j, 0j, -3.5j],
    "float16": [0.5, -2.0, float("inf")],
    "bfloat16": [0.5, -2.0, float("inf")],
    "float32": [0.5, -0.0, float("inf")],
    "float64": [1e300, -0.0, float("-inf")],
}


def _sample(name: str) -> npt.NDArray[Any]:
    if name in _SAMPLES:
        return np.array(_SAMPLES[name], object if name == "string" else getattr(tf, name).as_numpy_dtype)
    limits = np.iinfo(name)
    return np.array([limits.min, limits.max, 7], name)


def test_half_plus_two(server: Target) -> None:
    request = predict_request("half_plus_two", {"x": [2.0]}, outputs=["y"])
    response = server.prediction.Predict(request, timeout=30)
    y = response.outputs["y"]
    assert (y.dtype, list(y.float_val), y.tensor_content) == (types_pb2.DT_FLOAT, [3.0], b"")
    assert [dim.size for dim in y.tensor_shape.dim] == [1]
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("half_plus_two", "serving_default", 123)
    assert server.predict("half_plus_three", {"x": [2.0, 4.0]})["y"].tolist() == [4.0, 5.0]


@pytest.mark.parametrize("name", VALUE_FIELDS)
def test_types_use_typed_fields(server: Target, name: str) -> None:
    values = _sample(name)
    dtype = getattr(tf, name)
    for array in (values, values[:1], values.reshape(3, 1), np.tile(values, (2, 2, 1)), values[:0], values[1]):
        sent = tensor(array, dtype)
        request = predict_request("echo", {"x": sent}, signature=name)
        answer = server.prediction.Predict(request, timeout=30).outputs["y"]
        assert answer.dtype == dtype.as_datatype_enum
        assert not answer.tensor_content
        parts = 2 if name.startswith("complex") else 1
        assert len(getattr(answer, VALUE_FIELDS[name])) == parts * np.size(array)
        np.testing.assert_array_equal(tf.make_ndarray(answer), tf.make_ndarray(sent))
        if np.size(array) and name != "string":
            content = tensor_pb2.TensorProto(dtype=sent.dtype, tensor_shape=sent.tensor_shape)
            content.tensor_content = np.asarray(array, dtype.as_numpy_dtype).tobytes()
            request.inputs["x"].CopyFrom(content)
            again = server.prediction.Predict(request, timeout=30).outputs["y"]
            assert again == answer


@pytest.mark.parametrize("name", ["float32", "int32", "string"])
@pytest.mark.parametrize(
    "sizes", [[1] * 100, [0] * 200, [0, 2**62], [2**40, 0, 2**20]], ids=["rank 100", "rank 200", "0 x 2^62", "with 0"]
)
def test_shapes_at_the_limits_of_tensorflow(server: Target, name: str, sizes: list[int]) -> None:
    sent = tensor_pb2.TensorProto(dtype=getattr(tf, name).as_datatype_enum)
    if 0 not in sizes:
        getattr(sent, VALUE_FIELDS[name]).append(b"7" if name == "string" else 7)
    for size in sizes:
        sent.tensor_shape.dim.add(size=size)
    response = server.prediction.Predict(predict_request("echo", {"x": sent}, signature=name), timeout=SECONDS)
    assert response.outputs["y"] == sent


def test_missing_values_repeat_the_last(server: Target) -> None:
    # TensorProto: the last value given is repeated, no value at all means zero, and surplus values are dropped.
    for values, expected in (([7.0], [7, 7, 7]), ([1.0, 2.0], [1, 2, 2]), ([], [0, 0, 0]), ([1.0] * 9, [1, 1, 1])):
        x = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=values)
        x.tensor_shape.dim.add(size=3)
        assert server.predict("echo", {"x": x})["y"].tolist() == expected


def test_empty_batch(server: Target) -> None:
    y = server.predict("half_plus_two", {"x": np.zeros([0], np.float32)})["y"]
    assert (y.shape, y.dtype) == ((0,), np.float32)
    outputs = server.predict(
        "multi",
        {
            "signal": np.zeros([0, 2], np.float32),
            "count": np.zeros([0], np.int64),
            "tag": tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=tf.TensorShape([0]).as_proto()),
        },
    )
    assert {alias: value.shape for alias, value in outputs.items()} == dict.fromkeys(outputs, (0,))


def _multi() -> dict[str, object]:
    count = np.array([2, 3], np.int64)
    return {"signal": [[1.0, 2.0], [3.0, 4.0]], "count": count, "tag": ["été".encode(), b"\xff"]}


def test_several_inputs_and_outputs(server: Target) -> None:
    outputs = server.predict("multi", _multi())
    assert set(outputs) == {"total", "doubled", "label", "raw_bytes"}
    assert outputs["total"].tolist() == [42.0, 129.0]
    assert outputs["doubled"].tolist() == [4, 6]
    assert outputs["label"].tolist() == ["été-2".encode(), b"\xff-3"]


@pytest.mark.parametrize("wanted", [["total"], ["label", "doubled"], ["doubled", "label", "total", "raw_bytes"]])
def test_output_filter(server: Target, wanted: list[str]) -> None:
    everything = server.predict("multi", _multi())
    filtered = server.predict("multi", _multi(), outputs=wanted)
    assert sorted(filtered) == sorted(wanted)
    for alias in wanted:
        np.testing.assert_array_equal(filtered[alias], everything[alias])


def test_output_filter_of_unknown_and_repeated_outputs(server: Target) -> None:
    code, details = failure(server.prediction.Predict, predict_request("multi", _multi(), outputs=["nope"]))
    assert code is _Code.INVALID_ARGUMENT
    assert details.startswith("output tensor alias not found in signature: nope Outputs expected to be in the set {")
    assert failure(server.prediction.Predict, predict_request("multi", _multi(), outputs=["total", "total"])) == (
        _Code.INVALID_ARGUMENT,
        "duplicate output tensor alias: total",
    )


def test_defaults_of_inputs(server: Target) -> None:
    for given, expected in (({}, 7.0), ({"scale": 10.0}, 21.0), ({"scale": 0.0, "shift": -5.0}, -5.0)):
        inputs = {"x": [2.0]} | {alias: tensor(value) for alias, value in given.items()}
        assert server.predict("defaults", inputs)["y"].tolist() == [expected]
    code, _ = failure(server.prediction.Predict, predict_request("defaults", {"scale": tensor(1.0)}))
    assert code is _Code.INVALID_ARGUMENT


def test_versions_and_labels(server: Target) -> None:
    for options, expected in (({}, 3), ({"version": 1}, 1), ({"version": 2}, 2), ({"label": "stable"}, 1)):
        request = predict_request("numbered", {"x": [0.0]}, **options)
        response = server.prediction.Predict(request, timeout=30)
        assert list(response.outputs["y"].float_val) == [expected]
        assert response.model_spec.version.value == expected
        assert not response.model_spec.version_label
    assert server.predict("numbered", {"x": [0.0]}, label="カナリア")["y"].tolist() == [3.0]


def test_signature_names(server: Target) -> None:
    response = server.prediction.Predict(predict_request("multi", {"x": [1.0]}, signature="positive"), timeout=30)
    assert response.model_spec.signature_name == "positive"
    # Predict accepts signatures for other methods, unless --enable_signature_method_name_check is given.
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(4.0)
    outputs = server.predict("half_plus_two", {"inputs": [example.SerializeToString()]}, signature="regress_x_to_y")
    assert outputs["outputs"].tolist() == [[4.0]]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"model": ""}, _Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        ({"model": "half"}, _Code.NOT_FOUND, "Servable not found for request: Latest(half)"),
        ({"model": "модель"}, _Code.NOT_FOUND, "Servable not found for request: Latest(модель)"),
        ({"version": 7}, _Code.NOT_FOUND, "Servable not found for request: Specific(half_plus_two, 7)"),
        ({"version": -1}, _Code.NOT_FOUND, "Servable not found for request: Specific(half_plus_two, -1)"),
        ({"label": "stable"}, _Code.INVALID_ARGUMENT, "Unrecognized servable version label: stable"),
        ({"signature": "nope"}, _Code.FAILED_PRECONDITION, 'Serving signature key "nope" not found.'),
    ],
)
def test_unknown_names(server: Target, options: dict[str, object], code: _Code, message: str) -> None:
    model = str(options.pop("model", "half_plus_two"))
    request = predict_request(model, {"x": [1.0]}, **options)  # type: ignore[arg-type]
    assert failure(server.prediction.Predict, request) == (code, message)


def test_no_model_spec(server: Target) -> None:
    code, details = failure(server.prediction.Predict, predict_pb2.PredictRequest())
    assert code is _Code.INVALID_ARGUMENT
    assert "ModelSpec" in details


def _with(changes: dict[str, object]) -> dict[str, object]:
    return {alias: value for alias, value in (_multi() | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("inputs", "parts"),
    [
        (_with({"tag": None}), ["input size does not match signature", "tag"]),
        (_with({"extra": [1.0]}), ["input size does not match signature", "extra"]),
        (_with({"tag": None, "tags": [b""]}), ["tag"]),
        ({}, ["input size does not match signature"]),
        (_with({"count": np.array([2, 3], np.int32)}), ["int64", "int32"]),
        (_with({"signal": [[b"1", b"2"]]}), ["float", "string"]),
        (_with({"signal": [[1.0, 2.0, 3.0]] * 2}), []),
        (_with({"signal": [1.0, 2.0]}), []),
        (_with({"count": np.array([1, 2, 3], np.int64)}), []),
    ],
    ids=["missing", "extra", "misnamed", "none", "int32", "string", "wide", "rank", "rows"],
)
def test_inputs_that_do_not_fit(server: Target, inputs: dict[str, object], parts: list[str]) -> None:
    code, details = failure(server.prediction.Predict, predict_request("multi", inputs))
    assert code is _Code.INVALID_ARGUMENT, details
    for part in parts:
        assert part in details


def _broken(**fields: object) -> tensor_pb2.TensorProto:
    sizes = fields.pop("sizes", [2])
    proto = tensor_pb2.TensorProto(**{"dtype": types_pb2.DT_FLOAT, **fields})
    for size in sizes:  # type: ignore[attr-defined]
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        _broken(tensor_content=b"123"),
        _broken(tensor_content=b"1" * 12),
        _broken(sizes=[-1], float_val=[1.0]),
        _broken(sizes=[-3, -3], float_val=[1.0]),
        _broken(sizes=[2**62, 2**62], float_val=[1.0]),
        _broken(dtype=types_pb2.DT_INVALID, float_val=[1.0, 2.0]),
        _broken(dtype=types_pb2.DT_DOUBLE, float_val=[1.0, 2.0]),
        _broken(dtype=types_pb2.DT_FLOAT_REF, float_val=[1.0, 2.0]),
        _broken(dtype=types_pb2.DT_RESOURCE),
        _broken(dtype=999),
        tensor_pb2.TensorProto(),
    ],
    ids=["short", "long", "negative", "two negative", "huge", "invalid", "double", "ref", "resource", "999", "empty"],
)
def test_malformed_tensors(server: Target, proto: tensor_pb2.TensorProto) -> None:
    code, details = failure(server.prediction.Predict, predict_request("half_plus_two", {"x": proto}))
    assert code is _Code.INVALID_ARGUMENT, details
    assert details
    assert server.predict("half_plus_two", {"x": [2.0]})["y"].tolist() == [3.0]


@pytest.mark.babelrec_only
def test_small_requests_for_terabytes(server: Target) -> None:
    # The real server tries to allocate the memory.
    x = _broken(sizes=[2**20, 2**20], float_val=[1.0])
    code, details = failure(server.prediction.Predict, predict_request("echo", {"x": x}))
    assert code is _Code.INVALID_ARGUMENT
    assert str(2**40) in details


def test_failures_inside_the_model(server: Target) -> None:
    request = predict_request("multi", {"x": [1.0, -1.0]}, signature="positive")
    code, details = failure(server.prediction.Predict, request)
    assert code is _Code.INVALID_ARGUMENT
    assert "x must be positive" in details
    # The model's own code is passed on.
    request = predict_request("multi", {"path": [b"/there/is/no/such/file"]}, signature="read")
    code, details = failure(server.prediction.Predict, request)
    assert code is _Code.NOT_FOUND
    assert "/there/is/no/such/file" in details
    assert server.predict("multi", {"x": [1.0]}, signature="positive")["y"].tolist() == [0.0]


def test_a_hundred_megabytes_there_and_back(server: Target) -> None:
    x = np.arange(25 * 2**20, dtype=np.float32)
    request = predict_request("echo", {"x": x})
    # Reading the message in Python would take seconds: serialised, a packed field is the array's memory.
    call = server.raw("/tensorflow.serving.PredictionService/Predict")
    response = call(request.SerializeToString(), timeout=SECONDS)
    assert x.tobytes() in response
    assert len(response) < x.nbytes + 200
    text = bytes(range(256)) * (20 * 2**12)
    string = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[text])
    string.tensor_shape.dim.add(size=1)
    request = predict_request("echo", {"x": string}, signature="string")
    assert server.prediction.Predict(request, timeout=SECONDS).outputs["y"] == string


def test_unknown_methods(server: Target) -> None:
    call = server.raw("/tensorflow.serving.PredictionService/Guess")
    code, _ = failure(call, b"")
    assert code is _Code.UNIMPLEMENTED


def test_bytes_that_are_not_a_message(server: Target) -> None:
    # Status for a request that can't be parsed: INTERNAL, gRPC's own statuscodes.md.
    call = server.raw("/tensorflow.serving.PredictionService/Predict")
    code, _ = failure(call, b"\xff" * 9)
    assert code is _Code.INTERNAL
