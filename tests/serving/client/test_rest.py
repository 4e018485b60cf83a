"""The client's REST side against an HTTP server that answers like TensorFlow Serving, according to its documentation.

The JSON is written by hand from TensorFlow Serving's ``g3doc/api_rest.md``.
"""

import gzip
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from serving.client import (
    AccessDeniedError,
    BadRequestError,
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    RecommenderClient,
    RetryPolicy,
    ServerFaultError,
    ServingError,
    UnreachableError,
)
from tests.serving.client.servers import ONE, Arrays, Http, Rpcs, Use, X, blocking, both, metadata, predict, tensor

STATUS = b"""{
 "model_version_status": [
  {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
  {"version": "9", "state": "END", "status": {"error_code": "NOT_FOUND", "error_message": "no file \xe2\x80\xa6"}}
 ]
}
"""


@both
def test_the_documented_example(http: Http, use: Use) -> None:
    http.routes[":predict"] = b'{"outputs": [3.5, 4.0]}'
    outputs = predict(use, http.address)
    np.testing.assert_array_equal(outputs["y"], np.array([3.5, 4.0], np.float32))
    assert outputs["y"].dtype == np.float32
    (exchange,) = http.predicts
    assert (exchange.verb, exchange.path) == ("POST", "/v1/models/m:predict")
    assert exchange.headers["Content-Type"] == "application/json"
    assert json.loads(exchange.body) == {"signature_name": "serving_default", "inputs": {"x": [1.0, 2.0]}}


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"version": 7}, "/v1/models/m/versions/7:predict"),
        ({"version_label": "canary ñ"}, "/v1/models/m/labels/canary%20%C3%B1:predict"),
    ],
)
def test_versions_labels_and_a_path_in_front(http: Http, options: dict[str, Any], path: str) -> None:
    predict(blocking, http.address, **options)
    assert http.predicts[0].path == path
    predict(blocking, http.address + "/gateway/", **options)
    assert http.predicts[1].path == "/gateway" + path


@both
def test_all_types_there_and_back(http: Http, use: Use) -> None:
    types = {
        "f": ("DT_FLOAT", np.float32),
        "d": ("DT_DOUBLE", np.float64),
        "h": ("DT_HALF", np.float16),
        "i8": ("DT_INT8", np.int8),
        "u8": ("DT_UINT8", np.uint8),
        "i": ("DT_INT32", np.int32),
        "l": ("DT_INT64", np.int64),
        "u": ("DT_UINT64", np.uint64),
        "b": ("DT_BOOL", np.bool_),
        "s": ("DT_STRING", np.object_),
        "raw_bytes": ("DT_STRING", np.object_),
    }
    specs = {name: tensor(dtype, -1, -1) for name, (dtype, _) in types.items()}
    http.routes["/metadata"] = metadata(s={"inputs": specs, "outputs": specs})
    # As the server writes it: special numbers unquoted, UTF-8, bytes in base 64 under names that end in _bytes.
    http.routes[":predict"] = (
        b'{"outputs": {"f": [[0.1, NaN], [Infinity, -Infinity]], "d": [[0.1, 5e-324]], "h": [[0.5]], '
        b'"i8": [[-128, 127]], "u8": [[255]], "i": [[-2147483648]], '
        b'"l": [[9223372036854775807]], "u": [[18446744073709551615]], "b": [[true], [false]], '
        b'"s": [["\xe7\xa7\x91\\u5e7b \\uD83C\\uDFAC", ""], ["\xff\\u0000", "q\\"\\\\\\u0000"]], '
        b'"raw_bytes": [[{"b64": "/wA="}]]}}'
    )
    strings = np.array([["科幻 🎬", ""], [b"\xff\x00", b'q"\\\0']], dtype=object)
    inputs: Arrays = {
        "f": np.array([[0.1, math.nan], [math.inf, -math.inf]], np.float32),
        "d": np.array([[0.1, 5e-324]], np.float64),
        "h": np.array([[0.5]], np.float16),
        "i8": np.array([[-128, 127]], np.int8),
        "u8": np.array([[255]], np.uint8),
        "i": np.array([[-(2**31)]], np.int32),
        "l": np.array([[2**63 - 1]], np.int64),
        "u": np.array([[2**64 - 1]], np.uint64),
        "b": np.array([[True], [False]], np.bool_),
        "s": strings,
        "raw_bytes": np.array([[b"\xff\x00"]], dtype=object),
    }
    outputs = predict(use, http.address, inputs, "s")
    assert outputs.keys() == inputs.keys()
    for name, (_, dtype) in types.items():
        assert outputs[name].dtype == dtype, name
        if name != "s":
            np.testing.assert_array_equal(outputs[name], inputs[name], name)
    assert outputs["s"].tolist() == [["科幻 🎬".encode(), b""], [b"\xff\x00", b'q"\\\0']]
    sent = http.predicts[0].body.decode()
    assert '"科幻 🎬"' in sent
    assert "NaN" in sent
    assert "-Infinity" in sent
    document = json.loads(sent)["inputs"]
    assert document["s"] == [["科幻 🎬", ""], [{"b64": "/wA="}, 'q"\\\0']]
    assert document["u"] == [[2**64 - 1]]
    assert document["b"] == [[True], [False]]
    assert np.float32(document["f"][0][0]) == np.float32(0.1)


@pytest.mark.parametrize(
    ("dtype", "shape", "value", "expected"),
    [
        ("DT_FLOAT", (-1, 512), "[]", np.zeros((0, 512), np.float32)),
        ("DT_STRING", (-1, -1), "[]", np.zeros((0, 0), object)),
        ("DT_INT64", (-1, -1), "[[], []]", np.zeros((2, 0), np.int64)),
        ("DT_INT64", (), "7", np.array(7, np.int64)),
        ("DT_FLOAT", (-1,), "[1, 2]", np.array([1, 2], np.float32)),
        ("DT_STRING", (), '{"b64": "AA=="}', np.array(b"\0", object)),
    ],
)
def test_shapes_that_json_does_not_convey(
    http: Http, dtype: str, shape: tuple[int, ...], value: str, expected: npt.NDArray[Any]
) -> None:
    http.routes["/metadata"] = metadata(serving_default={**ONE, "outputs": {"y": tensor(dtype, *shape)}})
    http.routes[":predict"] = f'{{"outputs": {value}}}'.encode()
    answer = predict(blocking, http.address)["y"]
    assert answer.dtype == expected.dtype
    assert answer.shape == expected.shape
    assert answer.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("dtype", "answer"),
    [
        ("DT_FLOAT", '{"outputs": [[1.0], [1.0, 2.0]]}'),
        ("DT_FLOAT", '{"outputs": ["a"]}'),
        ("DT_FLOAT", '{"outputs": {"z": [1.0]}}'),
        ("DT_INT8", '{"outputs": [300]}'),
        ("DT_INT64", '{"outputs": [0.5]}'),
        ("DT_BOOL", '{"outputs": [1]}'),
        ("DT_STRING", '{"outputs": [null]}'),
        ("DT_STRING", '{"outputs": [{"b64": "?"}]}'),
        ("DT_FLOAT", '{"predictions": [1.0]}'),
        ("DT_COMPLEX64", '{"outputs": [1.0]}'),
    ],
)
def test_mismatched_answers(http: Http, dtype: str, answer: str) -> None:
    http.routes["/metadata"] = metadata(serving_default={**ONE, "outputs": {"y": tensor(dtype, -1)}})
    http.routes[":predict"] = answer.encode()
    with pytest.raises(ServerFaultError, match="sent a tensor that can't be read"):
        predict(blocking, http.address)


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b"", b'{"a": 1', b"\xff"])
def test_something_else_behind_the_address(http: Http, body: bytes) -> None:
    http.routes["/metadata"] = body
    with pytest.raises(ServerFaultError, match=r"not like TensorFlow Serving's REST API .*Check the address"):
        predict(blocking, http.address)


def test_signatures_are_cached_and_fetched_again_when_they_no_longer_match(http: Http) -> None:
    def asked() -> int:
        return sum(exchange.path.endswith("/metadata") for exchange in http.exchanges)

    with RecommenderClient(http.address, "m") as client:
        for _ in range(3):
            client.predict("", X)
        assert asked() == 1
        # A new version: another output.
        http.routes["/metadata"] = metadata(4, serving_default={**ONE, "outputs": {"y": tensor("DT_STRING", -1)}})
        http.routes[":predict"] = b'{"outputs": ["a"]}'
        assert client.predict("", X)["y"].tolist() == [b"a"]
        assert asked() == 2
        http.routes["/metadata"] = metadata(5, serving_default=ONE, more=ONE)
        http.routes[":predict"] = b'{"outputs": [1.0]}'
        assert client.predict("more", X)["y"].tolist() == [1.0]
        assert asked() == 3
    assert http.connections == 1


def test_several_outputs_and_a_filter(http: Http) -> None:
    outputs = {"y": tensor("DT_FLOAT", -1), "z": tensor("DT_INT64", -1)}
    http.routes["/metadata"] = metadata(serving_default={**ONE, "outputs": outputs})
    http.routes[":predict"] = b'{"outputs": {"z": [1], "y": [2.0]}}'
    assert {name: a.tolist() for name, a in predict(blocking, http.address).items()} == {"y": [2.0], "z": [1]}
    assert list(predict(blocking, http.address, output_filter=["z"])) == ["z"]
    with pytest.raises(BadRequestError, match=r"no output w; it has y, z"):
        predict(blocking, http.address, output_filter=["w"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.zeros((0, 3), np.float32)}, r"can't send x of shape \[0, 3\]"),
        ({"x": np.zeros(1, np.complex64)}, "can.t represent arrays of complex64"),
        ({"x": np.array(["2020-01-01"], "datetime64[D]")}, "can.t represent arrays of datetime64"),
        ({"x": np.array([3], object)}, "x must hold bytes or str, got int"),
        ({"w": np.zeros(1)}, "has no input w; it has x"),
        ({"x": [1.0]}, "x must be a NumPy array, got list"),
    ],
)
def test_inputs_that_cannot_be_sent(http: Http, inputs: Any, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        predict(blocking, http.address, inputs)
    assert not http.predicts


def test_unknown_signature(http: Http) -> None:
    with pytest.raises(BadRequestError, match='no signature "none"; it has serving_default'):
        predict(blocking, http.address, signature="none")


def test_status_metadata_and_health(http: Http) -> None:
    http.routes["/m"] = STATUS
    with RecommenderClient(http.address, "m") as client:
        assert [(v.version, v.state, v.error_code, v.error_message) for v in client.status()] == [
            (9, "END", "NOT_FOUND", "no file …"),
            (3, "AVAILABLE", "OK", ""),
        ]
        found = client.metadata()
        assert (found.name, found.version) == ("m", 3)
        spec = found.signatures["serving_default"].inputs["x"]
        assert (spec.dtype, spec.shape) == ("float", (-1,))
        assert client.health() == "SERVING"
        http.routes["/m"] = STATUS.replace(b"AVAILABLE", b"UNLOADING")
        assert client.health() == "NOT_SERVING"
        with pytest.raises(BadRequestError, match="REST address"):
            client.health("tensorflow.serving.PredictionService")
        with pytest.raises(BadRequestError, match=r"can't reload .* give the gRPC address"):
            client.reload("")


@both
def test_compression(http: Http, use: Use) -> None:
    predict(use, http.address)
    predict(use, http.address, compression="gzip")
    plain, exchange = http.predicts
    assert plain.headers["Accept-Encoding"] == "identity"
    assert "Content-Encoding" not in plain.headers
    assert exchange.headers["Content-Encoding"] == "gzip"
    assert exchange.headers["Accept-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(exchange.body))["inputs"] == {"x": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "INVALID_ARGUMENT", BadRequestError),
        (401, "UNAUTHENTICATED", AccessDeniedError),
        (403, "PERMISSION_DENIED", AccessDeniedError),
        (404, "NOT_FOUND", ModelNotFoundError),
        (413, "INVALID_ARGUMENT", BadRequestError),
        (429, "RESOURCE_EXHAUSTED", OverloadedError),
        (431, "INVALID_ARGUMENT", BadRequestError),
        (500, "INTERNAL", ServerFaultError),
        (501, "UNIMPLEMENTED", BadRequestError),
        (503, "UNAVAILABLE", UnreachableError),
        (504, "DEADLINE_EXCEEDED", DeadlineExceededError),
    ],
)
@both
def test_statuses(http: Http, status: int, code: str, kind: type[ServingError], use: Use) -> None:
    http.script = [(status, '{"error": "warum nicht? 科"}'.encode())]
    with pytest.raises(kind, match=r"warum nicht\? 科") as caught:
        predict(use, http.address, retry=None)
    assert type(caught.value) is kind
    assert caught.value.code is grpc.StatusCode[code]
    assert http.address in str(caught.value)


def test_errors_of_proxies_have_no_json(http: Http) -> None:
    http.script = [(502, b"<html>Bad Gateway</html>")]
    with pytest.raises(UnreachableError, match="HTTP status 502 and no JSON error: <html>Bad Gateway"):
        predict(blocking, http.address, retry=None)
    http.script = [(404, b"<html>Not Found</html>")]
    with pytest.raises(ServerFaultError, match="Check the address"):
        predict(blocking, http.address, retry=None)


def test_no_retry_that_would_come_too_late(http: Http) -> None:
    http.script = [(503, b'{"error": "not yet"}')] * 5
    with pytest.raises(UnreachableError, match="not yet"):
        predict(blocking, http.address, timeout=5, retry=RetryPolicy(initial_backoff=60, max_backoff=60))
    assert len(http.predicts) == 1


def test_a_grpc_port(rpcs: Rpcs) -> None:
    with pytest.raises(UnreachableError, match="if it is the gRPC port write host:port"):
        predict(blocking, f"http://{rpcs.address}", retry=None)


@pytest.fixture
def slow() -> Iterator[str]:
    """Starts a response at once and never finishes it: a byte now and then."""
    stop = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                try:
                    while not stop.wait(0.05):
                        connection.sendall(b" ")
                except OSError:
                    pass

    with socket.create_server(("localhost", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://localhost:{listener.getsockname()[1]}"
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@both
def test_deadline_ends_an_answer_that_trickles(slow: str, use: Use) -> None:
    with pytest.raises(DeadlineExceededError, match=r"within 0\.3 s"):
        predict(use, slow, timeout=0.3)


@both
def test_deadline_ends_the_wait_for_a_silent_server(use: Use) -> None:
    with socket.create_server(("localhost", 0)) as mute:
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError, match=r"within 0\.3 s"):
            predict(use, f"http://localhost:{mute.getsockname()[1]}", timeout=0.3)
        assert time.monotonic() - started >= 0.3
