"""What clients do to hurt: the server goes on answering others, or answers again as soon as it is over."""

import contextlib
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc

from benchmarks import http2
from benchmarks.attacks import PREDICT, STATUS, few_descriptors, half_sent, reset_streams
from serving.native.library import why_not
from tests.serving.live import LiveServer
from tests.serving.models import copy_version
from tests.serving.test_rpc import RECOMMEND, request_of

# A server under attack on a busy machine is slow; what is asserted is that it answers.
_SECONDS = 60.0
_WAYS = [
    pytest.param("on", marks=pytest.mark.skipif(why_not() is not None, reason=str(why_not()))),
    "off",
]


@pytest.fixture(scope="module", params=_WAYS)
def server(
    request: pytest.FixtureRequest, exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    base = tmp_path_factory.mktemp("attacked")
    copy_version(exports[1], base / "1")
    monitoring = base / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = (
        "--enable_batching",
        f"--native_predict={request.param}",
        "--rest_api_port=-1",
        f"--monitoring_config_file={monitoring}",
    )
    with LiveServer(base, *flags) as running:
        predicts(running)
        yield running


def port_of(server: LiveServer) -> int:
    return int(server.address.rpartition(":")[2])


def predicts(server: LiveServer) -> None:
    """A client of its own, with a connection of its own, is answered."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request_of(RECOMMEND), timeout=_SECONDS, wait_for_ready=True).outputs


def says_its_status(server: LiveServer) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = server.model_name
    with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert stub.GetModelStatus(request, timeout=_SECONDS).model_version_status


def test_used_up_descriptors_are_no_end(server: LiveServer, request: pytest.FixtureRequest) -> None:
    for _ in range(3):
        with few_descriptors(server.process.pid, spare=24), contextlib.ExitStack() as connections:
            for _ in range(250):
                with contextlib.suppress(OSError):
                    connections.enter_context(http2.connect(port_of(server)))
        predicts(server)
        says_its_status(server)
    if "on" in request.node.callspec.id:
        # Not what a limit on descriptors leaves out: an attack that did not use them up shows nothing.
        assert refused(server) >= 3 * 200


def refused(server: LiveServer) -> int:
    """Connections that the front has closed as they were made."""
    with urllib.request.urlopen(f"http://localhost:{server.rest_port}/metrics", timeout=_SECONDS) as page:
        found = re.search(r'grpc_connection_count{outcome="refused"} (\d+)', page.read().decode())
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("method", [PREDICT, STATUS])
def test_half_sent_messages_stop_nobody_else(server: LiveServer, method: str, request: pytest.FixtureRequest) -> None:
    if "off" in request.node.callspec.id:
        pytest.skip("without the front a request takes one of grpcio's threads from its first byte on")
    with contextlib.closing(http2.connect(port_of(server))) as connection:
        connection.sendall(half_sent(method, 200))
        predicts(server)
        says_its_status(server)


@pytest.mark.parametrize("method", [PREDICT, STATUS, "/test/Unknown"])
def test_reset_streams_stop_nobody_else(server: LiveServer, method: str, request: pytest.FixtureRequest) -> None:
    if "off" in request.node.callspec.id:
        pytest.skip("without the front a flood of reset streams may cancel others' requests")

    attacker = threading.Thread(target=reset_streams, args=(port_of(server), method, 30_000))
    attacker.start()
    while attacker.is_alive():
        predicts(server)
    attacker.join()
    predicts(server)
    says_its_status(server)


def rest_answers(server: LiveServer) -> None:
    with urllib.request.urlopen(
        f"http://localhost:{server.rest_port}/v1/models/{server.model_name}", timeout=_SECONDS
    ) as page:
        assert page.status == 200


_POST = b"POST /v1/models/recommender:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n"


@pytest.mark.parametrize("part", [b"POST /v1/mod", _POST + b"A: ", _POST + b"\r\n" + b" " * 5000])
def test_half_sent_rest_requests_stop_nobody_else(server: LiveServer, part: bytes) -> None:
    with contextlib.ExitStack() as connections:
        for _ in range(300):
            connections.enter_context(rest_connection(server)).sendall(part)
        rest_answers(server)


def test_rest_clients_that_do_not_read_stop_nobody_else(server: LiveServer) -> None:
    request = b"GET /v1/models/recommender/metadata HTTP/1.1\r\nHost: h\r\n\r\n"
    with contextlib.ExitStack() as connections:
        for _ in range(100):
            # Many answers, of which not even the first is read.
            connections.enter_context(rest_connection(server)).sendall(request * 200)
        rest_answers(server)


def rest_connection(server: LiveServer) -> socket.socket:
    return socket.create_connection(("localhost", server.rest_port), timeout=_SECONDS)


def test_used_up_descriptors_are_no_end_of_rest(server: LiveServer) -> None:
    with few_descriptors(server.process.pid, spare=24), contextlib.ExitStack() as connections:
        for _ in range(250):
            with contextlib.suppress(OSError):
                connections.enter_context(rest_connection(server))
    rest_answers(server)
    predicts(server)
