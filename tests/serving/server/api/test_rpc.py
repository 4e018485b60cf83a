"""Every RPC of the live server, through the stubs of TensorFlow Serving's own client package."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tests.serving.live import LiveServer
from tests.serving.models import ECHO_DTYPES

RECOMMEND: dict[str, Any] = {
    "user_id": tf.constant(["42", "", "x"]),
    "history": tf.constant([["", "1"], ["2", "5"], ["", ""]]),
    "query": tf.constant(["", "", "Солярис"]),
    "language": tf.constant(["zh", "", "ru"]),
    "country": tf.constant(["CN", "", ""]),
    "timestamp": tf.constant([0, 1_700_000_000, 0], tf.int64),
    "k": tf.constant([3, 8, 1], tf.int32),
    "exclude": tf.constant([["2"], [""], [""]]),
    "languages": tf.constant([["", ""], ["", ""], ["ru", "th"]]),
    "categories": tf.constant([["drama", "scifi"], ["", ""], ["", ""]]),
    "include_seen": tf.constant([False, True, False]),
}


def request_of(
    inputs: Mapping[str, Any],
    signature: str = "",
    output_filter: tuple[str, ...] = (),
    model: str = "recommender",
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def failure(call: Any, request: Any, timeout: float = 30.0) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=timeout)
    return caught.value.code(), str(caught.value.details())


def slow(seconds: float) -> predict_pb2.PredictRequest:
    return request_of({"seconds": tf.constant([seconds], tf.float64)}, "slow")


@pytest.mark.parametrize("signature", ["", "serving_default", "retrieve"])
def test_predict_equals_the_graph(server: LiveServer, graph: Any, signature: str) -> None:
    response = server.prediction.Predict(request_of(RECOMMEND, signature), timeout=30)
    expected = graph.signatures[signature or "serving_default"](**RECOMMEND)
    assert set(response.outputs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(tf.make_ndarray(response.outputs[name]), value.numpy(), err_msg=name)
    assert response.model_spec.name == "recommender"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == (signature or "serving_default")


def test_predict_returns_the_ids_worked_out_by_hand(server: LiveServer) -> None:
    response = server.prediction.Predict(request_of(RECOMMEND), timeout=30)
    ids = [[v.decode() for v in row] for row in tf.make_ndarray(response.outputs["item_ids"])]
    # Row 0: drama or scifi without the excluded 2. Row 1: all by popularity, including seen ones. Row 2: the
    # text is the title of 8.
    assert ids[0] == ["3", "5", "8", "", "", "", "", ""]
    assert ids[1] == ["1", "2", "3", "4", "5", "item-日本-🎬", "7", "8"]
    assert ids[2] == ["8", "", "", "", "", "", "", ""]
    scores = tf.make_ndarray(response.outputs["scores"])
    np.testing.assert_allclose(scores[2, 0], 0.2 + 0.25 + 5.0, rtol=1e-6)
    assert np.isneginf(scores[2, 1:]).all()


def test_output_filter(server: LiveServer) -> None:
    response = server.prediction.Predict(request_of(RECOMMEND, output_filter=("titles", "scores")), timeout=30)
    assert set(response.outputs) == {"titles", "scores"}


def test_predict_by_version(server: LiveServer) -> None:
    request = request_of({"text": tf.constant(["a"])}, "encode_text")
    request.model_spec.version.value = 1
    assert server.prediction.Predict(request, timeout=30).model_spec.version.value == 1


def test_empty_batch(server: LiveServer, graph: Any) -> None:
    inputs = {name: value[:0] for name, value in RECOMMEND.items()}
    response = server.prediction.Predict(request_of(inputs), timeout=30)
    for name, value in graph.signatures["serving_default"](**inputs).items():
        assert tf.make_ndarray(response.outputs[name]).shape == tuple(value.shape), name


def test_large_messages(server: LiveServer) -> None:
    texts = [f"{n:07d}" + "長" * 6_800 for n in range(1000)]
    request = request_of({"text": tf.constant(texts)}, "encode_text")
    assert request.ByteSize() > 20_000_000
    response = server.prediction.Predict(request, timeout=60)
    assert tf.make_ndarray(response.outputs["embeddings"]).shape == (1000, 512)
    many = request_of({"text": tf.constant(["x"] * 10_000)}, "encode_text")
    assert server.prediction.Predict(many, timeout=60).ByteSize() > 20_000_000


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 3), (2, 0, 4)])
def test_every_dtype_is_passed_unchanged(server: LiveServer, shape: tuple[int, ...]) -> None:
    values: dict[str, Any] = {}
    for dtype in ECHO_DTYPES:
        count = int(np.prod(shape))
        if dtype == "string":
            flat: Any = np.array([f"值{n}\0".encode() for n in range(count)], dtype=object)
        else:
            flat = (np.arange(count) % 5).astype(getattr(tf, dtype).as_numpy_dtype)
        values[dtype] = flat.reshape(shape)
    response = server.prediction.Predict(request_of(values, "echo"), timeout=30)
    for dtype, value in values.items():
        proto = response.outputs[dtype]
        assert not proto.tensor_content  # typed fields, as in the real server
        assert proto.dtype == getattr(tf, dtype).as_datatype_enum
        assert [d.size for d in proto.tensor_shape.dim] == list(shape)
        got = tf.make_ndarray(proto)
        assert got.shape == shape
        assert got.tolist() == value.tolist(), dtype


def test_unknown_model(server: LiveServer) -> None:
    assert failure(server.prediction.Predict, request_of(RECOMMEND, model="other")) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(other)",
    )


def test_unknown_version(server: LiveServer) -> None:
    request = request_of(RECOMMEND)
    request.model_spec.version.value = 99
    assert failure(server.prediction.Predict, request) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(recommender, 99)",
    )


def test_unknown_label(server: LiveServer) -> None:
    request = request_of(RECOMMEND)
    request.model_spec.version_label = "canary"
    code, details = failure(server.prediction.Predict, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == "Unrecognized servable version label: canary"


def test_missing_model_spec_and_name(server: LiveServer) -> None:
    for call, request in (
        (server.prediction.Predict, predict_pb2.PredictRequest()),
        (server.prediction.GetModelMetadata, get_model_metadata_pb2.GetModelMetadataRequest()),
        (server.models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest()),
    ):
        assert failure(call, request) == (grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        request.model_spec.SetInParent()
        if isinstance(request, get_model_status_pb2.GetModelStatusRequest):
            # TensorFlow Serving treats it like any other name, without a version.
            assert failure(call, request)[0] is grpc.StatusCode.NOT_FOUND
            continue
        if isinstance(request, get_model_metadata_pb2.GetModelMetadataRequest):
            request.metadata_field.append("signature_def")
        assert failure(call, request) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "ModelSpec has no name specified.",
        )


def test_unknown_signature(server: LiveServer) -> None:
    assert failure(server.prediction.Predict, request_of(RECOMMEND, "nothing")) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "nothing" not found.',
    )


def test_missing_input(server: LiveServer) -> None:
    inputs = {"seconds": tf.constant([0.0], tf.float64)}
    code, details = failure(server.prediction.Predict, request_of({}, "slow"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == (
        "input size does not match signature: 0!=1 len({}) != len({seconds}). "
        "Sent extra: {}. Missing but required: {seconds}."
    )
    code, details = failure(server.prediction.Predict, request_of(inputs | {"y": [1.0]}, "slow"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == (
        "input size does not match signature: 2!=1 len({seconds,y}) != len({seconds}). "
        "Sent extra: {y}. Missing but required: {}."
    )


def test_misnamed_input(server: LiveServer) -> None:
    code, details = failure(server.prediction.Predict, request_of({"texts": ["a"]}, "encode_text"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("Signature input alias: text(feed name: ")
    assert "Inputs expected to be in the request {texts}" in details


def test_wrong_dtype(server: LiveServer) -> None:
    code, details = failure(server.prediction.Predict, request_of(RECOMMEND | {"k": tf.constant([1.5])}))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "to be int32 but float is provided" in details
    assert "input alias: k" in details


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("history", ["1", "2"], "[2]"),
        ("query", "1", "[]"),
        ("k", [[1, 2], [3, 4]], "[2, 2]"),
    ],
)
def test_wrong_rank(server: LiveServer, name: str, value: object, shape: str) -> None:
    code, details = failure(server.prediction.Predict, request_of(RECOMMEND | {name: tf.constant(value)}))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert f'input "{name}" has shape {shape}, the signature expects' in details
    assert len(details) < 1500


def test_batch_sizes_that_differ(server: LiveServer) -> None:
    request = request_of(RECOMMEND | {"language": tf.constant(["a", "b"])})
    code, details = failure(server.prediction.Predict, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "[first dimensions differ: 2: language; 3: categories,country," in details


def test_malformed_tensors(server: LiveServer) -> None:
    def spoil(**changes: Any) -> str:
        request = request_of({"text": ["a"]}, "encode_text")
        proto = request.inputs["text"]
        del proto.tensor_shape.dim[:]
        for name, value in changes.items():
            if name == "dims":
                for size in value:
                    proto.tensor_shape.dim.add(size=size)
            elif name == "unknown_rank":
                proto.tensor_shape.unknown_rank = value
            else:
                setattr(proto, name, value)
        code, details = failure(server.prediction.Predict, request)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith("tensor parsing error: text")
        return str(details)

    for changes in ({"dims": [-1]}, {"dims": [3], "tensor_content": b"\x01"}):
        assert "Unparseable tensor proto" in spoil(**changes)
    assert "elements" in spoil(dims=[1 << 40])


def test_output_filter_errors(server: LiveServer) -> None:
    code, details = failure(server.prediction.Predict, request_of(RECOMMEND, output_filter=("prices",)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == (
        "output tensor alias not found in signature: prices Outputs expected to be in the set "
        "{item_ids,languages,predicted_rating,probability_like,scores,titles}."
    )
    code, details = failure(server.prediction.Predict, request_of(RECOMMEND, output_filter=("scores", "scores")))
    assert (code, details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "duplicate output tensor alias: scores",
    )


def test_deadline(server: LiveServer) -> None:
    code, _ = failure(server.prediction.Predict, slow(1.0), timeout=0.2)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_metadata(server: LiveServer, graph: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "recommender"
    response = server.prediction.GetModelMetadata(request, timeout=30)
    assert response.model_spec.version.value == 1
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(graph.signatures) <= set(signatures.signature_def)
    default = signatures.signature_def["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    assert set(default.inputs) == set(RECOMMEND)
    assert default.inputs["history"].dtype == tf.string.as_datatype_enum
    assert [d.size for d in default.inputs["history"].tensor_shape.dim] == [-1, -1]


def test_metadata_errors(server: LiveServer) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "recommender"
    assert failure(server.prediction.GetModelMetadata, request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    request.metadata_field.append("weights")
    code, details = failure(server.prediction.GetModelMetadata, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "weights" in details
    request.metadata_field[:] = ["signature_def"]
    request.model_spec.name = "other"
    assert failure(server.prediction.GetModelMetadata, request)[0] is grpc.StatusCode.NOT_FOUND


def test_status(server: LiveServer) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "recommender"
    for version in (None, 1):
        if version is not None:
            request.model_spec.version.value = version
        (status,) = server.models.GetModelStatus(request, timeout=30).model_version_status
        assert (status.version, status.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        assert (status.status.error_code, status.status.error_message) == (0, "")
    request.model_spec.version.value = 7
    assert failure(server.models.GetModelStatus, request) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find version 7 of model recommender",
    )
    request.model_spec.name = "other"
    request.model_spec.ClearField("version")
    assert failure(server.models.GetModelStatus, request) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find any versions of model other",
    )
