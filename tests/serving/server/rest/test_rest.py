"""The API over HTTP, with real models: routes, statuses, headers, messages."""

import base64
import gzip
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.server.api.handlers import Handlers
from serving.server.operations.metrics import Metrics
from serving.server.rest import RestServer, start_rest
from tests.conformance.server import Answer
from tests.serving.server.rest.conftest import METRICS_PATH, rest_options
from tests.serving.server.rest.rest_models import Client

JSON_TYPE = "application/json"


def test_predict_in_rows(client: Client) -> None:
    answer = client.predict({"instances": [1.0, 2.0, 5.0]})
    assert answer.status == 200
    assert answer.text == '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
    assert answer.headers["Content-Type"] == JSON_TYPE
    assert int(answer.headers["Content-Length"]) == len(answer.body)


def test_predict_in_columns(client: Client) -> None:
    assert client.predict({"inputs": {"x": [[1.0, 2.0]]}}).json == {"outputs": [[2.5, 3.0]]}
    assert client.predict({"inputs": 1.0}).json == {"outputs": 2.5}


def test_several_inputs_and_outputs(client: Client) -> None:
    rows = [{"a": 2**62, "s": "流浪地球"}, {"a": -3, "s": {"b64": base64.b64encode(b"\x00z").decode()}}]
    answer = client.predict({"signature_name": "named", "instances": rows})
    wanted = [
        {
            "half": 2.30584301e18,
            "raw_bytes": {"b64": base64.b64encode("流浪地球".encode()).decode()},
            "text": "流浪地球",
        },
        {"half": -1.5, "raw_bytes": {"b64": "AHo="}, "text": "\x00z"},
    ]
    got = answer.json["predictions"]
    assert [row.pop("twice") for row in got] == [-(2**63), -6]
    assert got == wanted
    columns = client.predict({"signature_name": "named", "inputs": {"a": [1, 2, 3], "s": "one"}}).json["outputs"]
    assert columns == {"half": [0.5, 1.0, 1.5], "raw_bytes": {"b64": "b25l"}, "text": "one", "twice": [2, 4, 6]}


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", [0.1, -2.0, 3e38]),
        ("float64", [0.1, 1e300, -0.0]),
        ("int8", [-128, 127]),
        ("int16", [-32768, 32767]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint8", [0, 255]),
        ("uint16", [0, 65535]),
        ("uint32", [0, 2**32 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("bool", [True, False]),
        ("string", ["", "漢字"]),
        ("float16", [0.5, -65504.0]),
        ("bfloat16", [0.5, -3.0]),
    ],
)
def test_every_type_in_and_out(client: Client, dtype: str, values: list[Any]) -> None:
    cases: list[list[Any]] = [values, [values, values], [], [[]]]
    for given_values in cases:
        answer = client.predict({"signature_name": dtype, "inputs": given_values})
        assert answer.status == 200, answer.text
        got = answer.json["outputs"]
        if dtype == "float32":
            got = np.array(got, np.float32).tolist()
            assert got == np.array(given_values, np.float32).tolist()
        else:
            assert got == given_values


def test_not_a_number(client: Client) -> None:
    answer = client.predict(b'{"signature_name": "float32", "instances": [NaN, Infinity, -Infinity]}')
    assert answer.text == '{\n    "predictions": [NaN, Infinity, -Infinity\n    ]\n}'


def test_outputs_without_a_json_form(client: Client) -> None:
    answer = client.predict({"signature_name": "complex64", "inputs": 1})
    assert (answer.status, answer.error) == (501, "Conversion of JSON Value: 1 to type: complex64")
    whole = client.predict({"signature_name": "whole", "instances": [1.0]})
    assert (whole.status, whole.error) == (400, "Tensor name: total has no shape information ")
    assert client.predict({"signature_name": "whole", "inputs": [1.0]}).json == {"outputs": 1.0}
    uneven = client.predict({"signature_name": "uneven", "instances": [1.0]})
    assert (uneven.status, uneven.error) == (400, "Tensor name: two has inconsistent batch size: 2 expecting: 1")


@pytest.mark.parametrize(
    ("target", "offset"),
    [
        ("m", 2.0),
        ("m/versions/1", 1.0),
        ("m/versions/002", 2.0),
        ("m/labels/old", 1.0),
        ("m/labels/" + quote("neu-新"), 2.0),
        ("a%2Fb%20c", 7.0),
        ("a%2fb%20c/versions/7", 7.0),
    ],
)
def test_models_versions_labels(client: Client, target: str, offset: float) -> None:
    assert client.predict({"instances": [2.0]}, target).json == {"predictions": [1.0 + offset]}
    assert client.get(f"/v1/models/{target}/metadata").status == 200
    assert client.get(f"/v1/models/{target}").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
        ("POST", "/v1/models/m/versions/9:predict", 404, "Servable not found for request: Specific(m, 9)"),
        ("POST", "/v1/models/m/labels/new:predict", 400, "Unrecognized servable version label: new"),
        ("POST", "/v1/models/m", 400, "Malformed request: POST /v1/models/m"),
        ("POST", "/v1/models/m/version/1:predict", 400, "Malformed request: POST /v1/models/m/version/1:predict"),
        ("GET", "/v1/models/m:predict", 400, "Malformed request: GET /v1/models/m:predict"),
        ("DELETE", "/v1/models/m", 400, "Malformed request: DELETE /v1/models/m"),
        ("PATCH", "/v1/models/m", 400, "Malformed request: PATCH /v1/models/m"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/none", 404, "Could not find any versions of model none"),
        ("GET", "/v1/models/m/versions/9", 404, "Could not find version 9 of model m"),
        ("GET", "/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("GET", f"/v1/models/m/versions/{2**70}", 400, f"Failed to convert version: {2**70} to numeric."),
    ],
)
def test_refused_requests(client: Client, method: str, path: str, status: int, error: str) -> None:
    answer = client.request(method, path, {"instances": [1.0]} if method == "POST" else None)
    assert (answer.status, answer.error) == (status, error)
    assert answer.headers["Content-Type"] == JSON_TYPE


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", 400, "JSON Parse error: Invalid value. at offset: 0"),
        ({"instances": ["a"]}, 400, None),
        ({"signature_name": "s", "instances": [1.0]}, 400, 'Serving signature name: "s" not found in signature def'),
        ({"signature_name": "no_inputs", "instances": [1.0]}, 400, "Failed to get input map for signature: no_inputs"),
        ({"signature_name": "named", "instances": [{"a": 1}]}, 400, None),
        ({"signature_name": "named", "inputs": {"a": 1}}, 400, "Missing named input: s in 'inputs' object."),
    ],
)
def test_refused_documents(client: Client, body: object, status: int, error: str | None) -> None:
    answer = client.predict(body)
    assert answer.status == status
    assert answer.error
    assert error in (None, answer.error)


def test_paths_that_are_not_the_api(client: Client) -> None:
    for path in ("/", "/v1", "/v2/models/m", "/favicon.ico"):
        answer = client.get(path)
        assert answer.status == 404
        assert answer.headers["Content-Type"] == "text/html"
        assert "<H1>Not Found</H1>" in answer.text


def test_head_has_no_body(client: Client) -> None:
    answer = client.request("HEAD", "/v1/models/m")
    assert (answer.status, answer.body) == (400, b"")
    assert client.get("/v1/models/m").status == 200  # on the same connection


def test_status(client: Client) -> None:
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    both = [{"version": "2"} | available, {"version": "1"} | available]
    answer = client.get("/v1/models/m")
    assert answer.json == {"model_version_status": both}
    assert answer.text.startswith('{\n "model_version_status": [\n  {\n   "version": "2",\n   "state": "AVAILABLE",\n')
    assert client.get("/v1/models/m/versions/1").json == {"model_version_status": both[1:]}


def test_metadata(client: Client) -> None:
    document = client.get("/v1/models/m/versions/1/metadata").json
    assert document["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_classify(client: Client) -> None:
    examples = [{"x": 0.5}, {"x": [-1.0], "name": "e"}]
    answer = client.request("POST", "/v1/models/examples:classify", {"examples": examples})
    assert answer.text == (
        '{\n    "results": [[["neg", 0.5], ["mid", 1.0], ["位置-é", 1.5]], '
        '[["neg", -1.0], ["mid", -2.0], ["位置-é", 0.0]]\n    ]\n}'
    )
    assert client.request("POST", "/v1/models/examples:classify", {"examples": []}).status == 400


def test_regress_with_a_context(client: Client) -> None:
    body = {"signature_name": "regress", "context": {"x": 3.0}, "examples": [{}, {"x": 1.0}]}
    answer = client.request("POST", "/v1/models/examples/versions/123:regress", body)
    assert answer.text == '{\n    "results": [3.5, 2.5]\n}'
    wrong = client.request("POST", "/v1/models/examples:regress", {"signature_name": "none", "examples": [{}]})
    assert (wrong.status, wrong.error) == (400, "No signature was found with the name: none")


def test_a_refusal_by_the_graph_is_a_client_error(client: Client) -> None:
    body = {"signature_name": "features", "inputs": {"inputs": ["no example"]}}
    answer = client.predict(body, "examples")
    assert answer.status == 400
    assert "example" in answer.error.lower()


def test_gzip_in(client: Client) -> None:
    body = gzip.compress(b'{"instances": [1.0') + gzip.compress(b", 2.0]}")
    for encoding in ("gzip", "x-gzip, identity", "GZIP"):
        assert client.predict(body, headers={"Content-Encoding": encoding}).json == {"predictions": [2.5, 3.0]}
    for broken, why in ((b"{}", "incorrect header"), (body[:-4], "ends early"), (body[:-30] + bytes(30), "")):
        answer = client.predict(broken, headers={"Content-Encoding": "gzip"})
        assert answer.status == 400
        assert answer.error.startswith("Request body is not valid gzip data: ")
        assert why in answer.error


def test_gzip_bombs_are_not_decompressed(client: Client) -> None:
    bomb = gzip.compress(bytes(1 << 28))
    answer = client.predict(bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.error) == (413, f"Request body is larger than {1 << 25} bytes (--max_request_bytes)")


def test_gzip_out(client: Client) -> None:
    body = {"instances": [[1.5] * 1000]}
    plain = client.predict(body)
    assert "Content-Encoding" not in plain.headers
    for accepted in ("gzip", "deflate, GZIP;q=0.5", "br, x-gzip"):
        packed = client.predict(body, headers={"Accept-Encoding": accepted})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert int(packed.headers["Content-Length"]) < len(plain.body) / 10
        assert packed.body == plain.body
    for refused in ("identity", "gzip;q=0", "gzip; q=0.000", "br", ""):
        assert "Content-Encoding" not in client.predict(body, headers={"Accept-Encoding": refused}).headers
    small = client.predict({"instances": [1.0]}, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


def test_body_limit(client: Client) -> None:
    fitting = b'{"instances": [1.0]' + b" " * ((1 << 25) - 20) + b"}"
    assert len(fitting) == 1 << 25
    assert client.predict(fitting).json == {"predictions": [2.5]}
    answer = client.predict(fitting + b" ")
    assert (answer.status, answer.error) == (413, f"Request body is larger than {1 << 25} bytes (--max_request_bytes)")
    chunks = (fitting[i : i + 65536] for i in range(0, len(fitting), 65536))
    assert client.predict(chunks).json == {"predictions": [2.5]}
    more = (part for part in (fitting, b" "))
    assert client.predict(more).status == 413
    assert client.predict({"instances": [1.0]}).status == 200


def test_metrics(client: Client, metrics: Metrics) -> None:
    def counts() -> dict[str, str]:
        answer = client.get(METRICS_PATH)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain"
        return dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))

    client.predict({"instances": [1.0]})
    client.predict({"instances": ["a"]})
    before = counts()
    client.predict({"instances": [1.0]})
    client.predict({"instances": ["a"]})
    client.predict(b"{")
    after = counts()
    grown = {name: float(value) - float(before.get(name, 0)) for name, value in after.items()}
    count = ":tensorflow:serving:request_count"
    assert grown[f'{count}{{model_name="m",status="OK"}}'] == 1
    assert grown[f'{count}{{model_name="m",status="INVALID_ARGUMENT"}}'] == 2
    latency = ":tensorflow:serving:request_latency_count"
    assert grown[f'{latency}{{model_name="m",API="predict",entrypoint="REST"}}'] == 1
    # ProcessRequest in model_servers/http_server.cc counts all requests to the API, under the model name in the path,
    # and observes the latency of successful ones; only inference has a method name.
    before = after
    client.get("/v1/models/m")
    client.get("/v1/models/m/versions/1/metadata")
    client.get("/v1/models/none")
    client.get("/v1/models")
    client.predict({"signature_name": "whole", "instances": [1.0]})
    client.request("OPTIONS", "/v1/models/m", headers={"Origin": "http://example.org"})
    client.request("OPTIONS", "/v1/models/m")
    client.request("PUT", "/v1/models/m:predict", b"{}")
    client.get("/elsewhere")
    after = counts()
    grown = {name: float(value) - float(before.get(name, 0)) for name, value in after.items()}
    assert {name.removeprefix(count): value for name, value in grown.items() if name.startswith(count) and value} == {
        '{model_name="m",status="OK"}': 2,
        '{model_name="m",status="INVALID_ARGUMENT"}': 1,
        '{model_name="none",status="NOT_FOUND"}': 1,
        '{model_name="",status="OK"}': 1,
        '{model_name="",status="INVALID_ARGUMENT"}': 2,
        '{model_name="",status="FAILED_PRECONDITION"}': 1,
    }
    observed = {name.removeprefix(latency): n for name, n in grown.items() if name.startswith(latency) and n}
    assert observed == {
        '{model_name="m",API="",entrypoint="REST"}': 2,
        '{model_name="",API="",entrypoint="REST"}': 1,
    }
    wrong = client.get(METRICS_PATH + "?x=1")
    assert wrong.status == 400
    assert wrong.text == f"Unexpected path: {METRICS_PATH}?x=1. Should be {METRICS_PATH}"


@pytest.fixture
def cors(handlers: Handlers, metrics: Metrics) -> Iterator[Client]:
    server = start_rest(rest_options(rest_api_enable_cors_support=True), handlers, metrics)
    client = Client(server.port)
    yield client
    client.close()
    server.stop(5.0)


def cors_headers(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


ALLOWED = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


def test_health(client: Client, handlers: Handlers, metrics: Metrics) -> None:
    found = client.get("/healthz")
    assert (found.status, found.text, found.headers["Content-Type"]) == (200, "ok\n", "text/plain")
    assert client.get("/healthz?verbose=1").status == 200
    assert client.get("/healthz/more").status == 404
    assert client.request("POST", "/healthz", {}).status == 404
    server = start_rest(rest_options(), handlers, metrics, lambda: False)
    stopping = Client(server.port)
    try:
        found = stopping.get("/healthz")
        assert (found.status, found.text) == (503, "the server is stopping\n")
    finally:
        stopping.close()
        server.stop(5.0)


def test_cors(cors: Client) -> None:
    preflight = cors.request("OPTIONS", "/v1/models/m:predict", headers={"Origin": "https://example.org"})
    assert (preflight.status, preflight.body, cors_headers(preflight)) == (200, b"", ALLOWED)
    without = cors.request("OPTIONS", "/v1/models/m:predict")
    assert (without.status, without.body, cors_headers(without)) == (400, b"", ALLOWED)
    for answer in (
        cors.predict({"instances": [1.0]}),
        cors.predict(b"{"),
        cors.get("/v1/models/m"),
        cors.get("/v1/models/none"),
    ):
        assert cors_headers(answer) == ALLOWED


def test_without_cors(client: Client) -> None:
    # ProcessRequest in model_servers/http_server.cc answers OPTIONS for any path of the API before it checks whether
    # CORS is enabled, and writes no body.
    for path in ("/v1/models/m:predict", "/v1/anything"):
        preflight = client.request("OPTIONS", path, headers={"Origin": "http://example.org"})
        assert (preflight.status, preflight.body, cors_headers(preflight)) == (200, b"", {})
        assert "Content-Type" not in preflight.headers
        for headers in ({}, {"Origin": "example.org"}):
            refused = client.request("OPTIONS", path, headers=headers)
            assert (refused.status, refused.body) == (400, b"")
    assert cors_headers(client.get("/v1/models/m")) == {}
    assert client.get("/monitoring").status == 404


def test_without_monitoring(cors: Client) -> None:
    assert cors.get(METRICS_PATH).status == 404


def test_timeout(handlers: Handlers, metrics: Metrics) -> None:
    server = start_rest(rest_options(rest_api_timeout_in_ms=300, rest_api_num_threads=1), handlers, metrics)
    spin = {"signature_name": "spin", "inputs": [2**31 - 1]}
    answers: list[Answer] = []

    def ask() -> None:
        client = Client(server.port)
        answers.append(client.predict(spin))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One is cancelled while it runs; the other has no thread until then, or is cancelled soon after.
    assert [answer.status for answer in answers] == [504, 504]
    assert all(answer.error for answer in answers)
    client = Client(server.port)
    assert client.predict({"signature_name": "spin", "inputs": [3]}).json == {"outputs": [6]}
    client.close()
    server.stop(5.0)


def test_many_clients_at_once(rest: RestServer) -> None:
    failures: list[str] = []

    def ask(number: int) -> None:
        client = Client(rest.port)
        for i in range(30):
            answer = client.predict({"instances": [float(number), float(i)]})
            if answer.json != {"predictions": [number / 2 + 2, i / 2 + 2]}:
                failures.append(answer.text)
        client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text() | st.sampled_from(["b64", "a", "s", "x"]), values),
    max_leaves=15,
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["instances", "inputs", "signature_name", "examples", "context"]),
    JSON_VALUES | st.sampled_from(["named", "string", "int64", "bool", "features"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["m", "examples"]),
    st.sampled_from(["predict", "classify", "regress"]),
    st.binary(max_size=200) | DOCUMENTS | JSON_VALUES,
)
def test_no_document_is_the_servers_fault(client: Client, model: str, method: str, body: object) -> None:
    answer = client.request("POST", f"/v1/models/{model}:{method}", body)
    assert answer.status in (200, 400, 404, 501), answer.text
    if answer.status != 200:
        assert answer.error
