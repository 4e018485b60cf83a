"""HTTP itself: keep-alive, compression, CORS, sizes, time limits."""

import base64
import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.server import Server, Target, held, model_config

_PATH = "/v1/models/half_plus_two:predict"


@pytest.fixture(scope="module")
def cors_server(models: Path) -> Iterator[Server]:
    config = f"model_config_list {{ {model_config('half_plus_two', models / 'half_plus_two')} "
    config += f"{model_config('gate', models / 'gate')} }}"
    flags = "--rest_api_enable_cors_support=true", "--rest_api_timeout_in_ms=500", "--rest_api_num_threads=2"
    with Server(*flags, config=config) as server:
        yield server.wait_until_ready()


def test_connections_are_kept(server: Target) -> None:
    host, _, port = server.rest_address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.connect()
        first = connection.sock
        for number in range(5):
            connection.request("POST", _PATH, json.dumps({"instances": [float(number)]}))
            assert json.loads(connection.getresponse().read()) == {"predictions": [number / 2 + 2]}
        connection.request("POST", _PATH, "no json")
        assert connection.getresponse().read()
        connection.request("GET", "/v1/models/half_plus_two")
        assert connection.getresponse().read()
        assert connection.sock is first
    finally:
        connection.close()


def test_gzip_requests(server: Target) -> None:
    body = gzip.compress(b'{"instances": [1.0, 2.0]}')
    answer = server.rest("POST", _PATH, body, {"Content-Encoding": "gzip"})
    assert answer.json == {"predictions": [2.5, 3.0]}
    answer = server.rest("POST", _PATH, b"this is no gzip", {"Content-Encoding": "gzip"})
    assert 400 <= answer.status < 500


def test_gzip_responses_only_on_request(server: Target) -> None:
    body = {"instances": [0.0] * 5000}
    plain = server.rest("POST", _PATH, body)
    assert "content-encoding" not in plain.headers
    packed = server.rest("POST", _PATH, body, {"Accept-Encoding": "gzip"})
    # Whether it is compressed is up to the server.
    text = gzip.decompress(packed.body) if packed.headers.get("content-encoding") == "gzip" else packed.body
    assert text == plain.body


@pytest.mark.babelrec_only
def test_large_responses_are_compressed(server: Target) -> None:
    packed = server.rest("POST", _PATH, {"instances": [0.0] * 5000}, {"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"


def test_a_hundred_megabytes(server: Target) -> None:
    value = base64.b64encode(bytes(75 * 2**20)).decode()
    body = f'{{"signature_name": "length", "instances": [{{"b64": "{value}"}}]}}'
    assert server.post("/v1/models/echo:predict", body) == {"predictions": [75 * 2**20]}


def test_head_and_other_methods(server: Target) -> None:
    for method in ("PUT", "DELETE", "PATCH", "HEAD"):
        answer = server.rest(method, "/v1/models/half_plus_two")
        assert answer.status >= 400, (method, answer)
    assert server.post(_PATH, {"instances": [1.0]}) == {"predictions": [2.5]}


def test_no_cors_by_default(server: Target) -> None:
    answer = server.rest("POST", _PATH, {"instances": [1.0]}, {"Origin": "https://example.org"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.own_server
def test_cors(cors_server: Server) -> None:
    origin = {"Origin": "https://example.org"}
    for answer in (
        cors_server.rest("POST", _PATH, {"instances": [1.0]}, origin),
        cors_server.rest("GET", "/v1/models/half_plus_two", None, origin),
        cors_server.rest("POST", _PATH, "no json", origin),
        cors_server.rest("OPTIONS", _PATH, None, origin | {"Access-Control-Request-Method": "POST"}),
    ):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "access-control-allow-headers" in answer.headers
    preflight = cors_server.rest("OPTIONS", _PATH, None, origin)
    assert (preflight.status, preflight.body) == (200, b"")
    # No body and no reason: ProcessRequest in model_servers/http_server.cc.
    refused = cors_server.rest("OPTIONS", _PATH)
    assert (refused.status, refused.body) == (400, b"")


@pytest.mark.own_server
def test_requests_end_after_the_time_limit(cors_server: Server, tmp_path: Path) -> None:
    paths = {"started": [str(tmp_path / "started")], "released": [str(tmp_path / "released")]}
    try:
        answer = cors_server.rest("POST", "/v1/models/gate:predict", {"signature_name": "wait", "inputs": paths})
        assert answer.status == 504
        assert answer.error
    finally:
        (tmp_path / "released").touch()
    assert cors_server.post(_PATH, {"instances": [1.0]}) == {"predictions": [2.5]}


@pytest.mark.own_server
def test_grpc_has_no_such_limit(cors_server: Server, tmp_path: Path) -> None:
    with held(cors_server, tmp_path) as request:
        answer = cors_server.rest(
            "POST",
            "/v1/models/gate:predict",
            {"signature_name": "wait", "inputs": {"started": [str(tmp_path / "b")], "released": [str(tmp_path / "c")]}},
        )
        assert answer.status == 504
        (tmp_path / "c").touch()
        assert not request.call.done()
        request.release()
        assert list(request.result().outputs["y"].float_val) == [0.0]
