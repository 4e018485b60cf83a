"""Attacks by clients: the server keeps answering others, or answers again as soon as the attack is over."""

import contextlib
import json
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc

from benchmarks.speed import http2
from benchmarks.speed.attacks import PREDICT, STATUS, few_descriptors, half_sent, reset_streams
from serving.native.library import why_not
from tests.certificates import Party, client_credentials, ssl_config_flag
from tests.serving.live import LiveServer, own_channel, wait_for
from tests.serving.models import copy_version
from tests.serving.server.api.test_rpc import RECOMMEND, failure, request_of

# A server under attack on a busy machine is slow; the tests only assert that it answers.
_SECONDS = 60.0
_MAX_BYTES, _MAX_ROWS = 1_000_000, 50
_NEEDS_FRONT = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
_WAYS = [pytest.param("front", marks=_NEEDS_FRONT), pytest.param("tls", marks=_NEEDS_FRONT), "off"]


class Attacked(LiveServer):
    """A server under attack.

    Attributes:
        way: ``front``, ``tls`` (the front, encrypted), or ``off``, without the front.
        root: the authority of its certificate; None: it is not encrypted.
    """

    def __init__(self, base: Path, way: str, *flags: str, root: trustme.CA | None = None) -> None:
        super().__init__(base, f"--native_predict={'off' if way == 'off' else 'on'}", *flags)
        self.way = way
        self.root = root

    def connect(self) -> socket.socket:
        """An HTTP/2 connection."""
        context = None
        if self.root is not None:
            context = ssl.create_default_context(cadata=self.root.cert_pem.bytes().decode())
            context.set_alpn_protocols(["h2"])
        return http2.connect(self.port, context)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def new_channel(self) -> grpc.Channel:
        """A channel with its own connection."""
        return own_channel(self.address, None if self.root is None else client_credentials(self.root))


@pytest.fixture(scope="module", params=_WAYS)
def server(
    request: pytest.FixtureRequest, exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    base = tmp_path_factory.mktemp("attacked")
    copy_version(exports[1], base / "1")
    monitoring = base / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = ["--enable_batching", "--rest_api_port=-1", f"--monitoring_config_file={monitoring}"]
    flags += [f"--max_request_bytes={_MAX_BYTES}", f"--max_batch_rows={_MAX_ROWS}"]
    root = None
    if request.param == "tls":
        root = trustme.CA()
        flags.append(ssl_config_flag(base, Party(root, "localhost")))
    with Attacked(base, request.param, *flags, root=root) as running:
        predicts(running)
        yield running


def predicts(server: Attacked) -> None:
    """Checks that a separate client with its own connection is answered."""
    with server.new_channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request_of(RECOMMEND), timeout=_SECONDS, wait_for_ready=True).outputs


def says_its_status(server: Attacked) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = server.model_name
    with server.new_channel() as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert stub.GetModelStatus(request, timeout=_SECONDS).model_version_status


def test_the_server_survives_descriptor_exhaustion(server: Attacked) -> None:
    for _ in range(3):
        with few_descriptors(server.process.pid, spare=24), contextlib.ExitStack() as stack:
            connections = [stack.enter_context(tcp(server.port)) for _ in range(250)]
            if server.way != "off":
                # Only refused connections count: an attack that did not exhaust the descriptors shows nothing.
                wait_for(lambda: sum(map(is_cut, connections)) >= 200, _SECONDS, "refused connections")  # noqa: B023
        predicts(server)
        says_its_status(server)


def tcp(port: int) -> socket.socket:
    """A connection on which nothing is sent."""
    return socket.create_connection(("localhost", port), timeout=_SECONDS)


def is_cut(connection: socket.socket) -> bool:
    """Whether the other end has closed the connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("method", [PREDICT, STATUS])
def test_half_sent_messages_do_not_block_others(server: Attacked, method: str) -> None:
    if server.way == "off":
        pytest.skip("without the front a request takes one of grpcio's threads from its first byte on")
    with contextlib.closing(server.connect()) as connection:
        connection.sendall(half_sent(method, 200))
        predicts(server)
        says_its_status(server)


@pytest.mark.parametrize("method", [PREDICT, STATUS, "/test/Unknown"])
def test_reset_streams_do_not_block_others(server: Attacked, method: str) -> None:
    if server.root is not None:
        pytest.skip("one connection of Python's ssl can't be read and written at once")
    if server.way == "off":
        pytest.skip("without the front grpcio cancels others' requests now and then")
    attacker = threading.Thread(target=reset_streams, args=(server.port, method, 30_000))
    attacker.start()
    while attacker.is_alive():
        predicts(server)
    attacker.join()
    predicts(server)
    says_its_status(server)


def rest_answers(server: Attacked) -> None:
    with urllib.request.urlopen(
        f"http://localhost:{server.rest_port}/v1/models/{server.model_name}", timeout=_SECONDS
    ) as page:
        assert page.status == 200


def refused_by(server: Attacked, flag: str) -> int:
    with urllib.request.urlopen(f"http://localhost:{server.rest_port}/metrics", timeout=_SECONDS) as page:
        found = re.search(rf'refused_request_count{{flag="{flag}"}} (\d+)', page.read().decode())
    return int(found[1]) if found else 0


def test_requests_beyond_a_limit_are_refused_and_counted(server: Attacked) -> None:
    with server.new_channel() as channel:
        predict: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        rows = {name: np.repeat(value, _MAX_ROWS, 0) for name, value in RECOMMEND.items()}
        assert predict(request_of({name: value[:_MAX_ROWS] for name, value in rows.items()}), timeout=_SECONDS)
        code, message = failure(predict, request_of(rows))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "--max_batch_rows" in message
        text = {name: value[:1] for name, value in RECOMMEND.items()} | {"query": np.array(["x" * _MAX_BYTES])}
        assert failure(predict, request_of(text))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    body = json.dumps({"inputs": {"query": ["x" * _MAX_BYTES]}}).encode()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(
            f"http://localhost:{server.rest_port}/v1/models/{server.model_name}:predict", body, timeout=_SECONDS
        )
    assert caught.value.code == 413
    assert "--max_request_bytes" in caught.value.read().decode()
    for flag in "max_batch_rows", "max_request_bytes":
        assert refused_by(server, flag) == 1
    predicts(server)


def test_clients_that_never_begin_do_not_block_others(server: Attacked) -> None:
    with contextlib.ExitStack() as connections:
        for _ in range(100):
            connections.enter_context(tcp(server.port))
        predicts(server)
        says_its_status(server)


_POST = b"POST /v1/models/recommender:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n"


@pytest.mark.parametrize("part", [b"POST /v1/mod", _POST + b"A: ", _POST + b"\r\n" + b" " * 5000])
def test_half_sent_rest_requests_do_not_block_others(server: Attacked, part: bytes) -> None:
    with contextlib.ExitStack() as connections:
        for _ in range(300):
            connections.enter_context(rest_connection(server)).sendall(part)
        rest_answers(server)


def test_rest_clients_that_do_not_read_do_not_block_others(server: Attacked) -> None:
    request = b"GET /v1/models/recommender/metadata HTTP/1.1\r\nHost: h\r\n\r\n"
    with contextlib.ExitStack() as connections:
        for _ in range(100):
            # Many responses, of which not even the first is read.
            connections.enter_context(rest_connection(server)).sendall(request * 200)
        rest_answers(server)


def rest_connection(server: Attacked) -> socket.socket:
    return socket.create_connection(("localhost", server.rest_port), timeout=_SECONDS)


def test_rest_survives_descriptor_exhaustion(server: Attacked) -> None:
    with few_descriptors(server.process.pid, spare=24), contextlib.ExitStack() as connections:
        for _ in range(250):
            with contextlib.suppress(OSError):
                connections.enter_context(rest_connection(server))
    rest_answers(server)
    predicts(server)
