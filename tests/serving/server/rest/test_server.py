"""HTTP itself, over plain sockets: valid requests, hostile clients, and how the server stops."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.server.api.handlers import Handlers
from serving.server.operations.metrics import Metrics
from serving.server.rest import RestServer, start_rest
from serving.server.rest import connection as connection_module
from tests.serving.live import wait_for
from tests.serving.server.rest.conftest import rest_options
from tests.serving.server.rest.rest_models import Client, exchange, statuses

BODY = b'{"instances": [1.0, 2.0]}'
ANSWER = b'{\n    "predictions": [2.5, 3.0\n    ]\n}'


def post(*headers: bytes, body: bytes = BODY) -> bytes:
    lines = [b"POST /v1/models/m:predict HTTP/1.1", b"Host: h", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(
    target: bytes = b"/v1/models/m", *, method: bytes = b"GET", version: bytes = b"1.1", headers: bytes = b"X: 1"
) -> bytes:
    return b"%s %s HTTP/%s\r\nHost: h\r\n%s\r\n\r\n" % (method, target, version, headers)


LENGTH = b"Content-Length: %d" % len(BODY)
PLAIN = post(LENGTH)
CHUNKED = post(
    b"Transfer-Encoding: chunked", body=b"5;ext=1\r\n" + BODY[:5] + b"\r\n14\r\n" + BODY[5:] + b"\r\n0\r\n\r\n"
)
TRAILERS = CHUNKED[:-2] + b"Checksum: 1\r\nOther: 2\r\n\r\n"


@pytest.mark.parametrize("request_", [PLAIN, CHUNKED, TRAILERS], ids=["length", "chunked", "trailers"])
def test_bodies(rest: RestServer, request_: bytes) -> None:
    data = exchange(rest.port, request_)
    assert statuses(data) == [200]
    assert data.endswith(ANSWER)


def test_pipelining(rest: RestServer) -> None:
    status = b"GET /v1/models/m HTTP/1.1\r\nHost: h\r\n\r\n"
    data = exchange(
        rest.port, PLAIN + status + CHUNKED + TRAILERS + b"GET /v1/models/x HTTP/1.1\r\nHost: h\r\n\r\n" + PLAIN
    )
    assert statuses(data) == [200, 200, 200, 200, 404, 200]


def test_continue(rest: RestServer) -> None:
    with socket.create_connection(("127.0.0.1", rest.port), timeout=60) as sock:
        sock.sendall(post(LENGTH, b"Expect: 100-continue", body=b""))
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_keep_alive_and_its_end(rest: RestServer) -> None:
    for request_, kept in (
        (PLAIN, True),
        (post(LENGTH, b"Connection: close"), False),
        (PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        # Not part of HTTP/1.1's own rules (RFC 9112, 9.3), nor of h11.
        (post(LENGTH, b"Connection: Keep-Alive").replace(b"HTTP/1.1", b"HTTP/1.0"), False),
    ):
        with socket.create_connection(("127.0.0.1", rest.port), timeout=60) as sock:
            for _ in range(2):
                sock.sendall(request_)
                data = b""
                while not data.endswith(ANSWER):
                    part = sock.recv(1 << 16)
                    assert part, data
                    data += part
                if not kept:
                    assert sock.recv(1) == b""
                    break


def test_a_request_in_single_bytes(rest: RestServer) -> None:
    with socket.create_connection(("127.0.0.1", rest.port), timeout=60) as sock:
        for i in range(len(CHUNKED)):
            sock.sendall(CHUNKED[i : i + 1])
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_absolute_targets(rest: RestServer) -> None:
    data = exchange(rest.port, PLAIN.replace(b"POST /", b"POST http://h:1/", 1))
    assert statuses(data) == [200]


def test_ipv4_and_ipv6(rest: RestServer) -> None:
    try:
        sock = socket.create_connection(("::1", rest.port), timeout=60)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with sock:
        sock.sendall(PLAIN)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"", None),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
        (b"GET /v1/models/m\r\n\r\n", 400),
        (get(version=b"2.0"), 505),
        (get(version=b"x"), 400),
        (b"GET /v1/models/m HTTP/1.1\r\n\r\n", 400),  # HTTP/1.1 requires a host
        (get(b"/v1/models/\xff"), 400),
        (get(b"//["), 404),
        (get(b"http://[::1/v1/models/m"), 200),  # the host is ignored
        (get(method=b"get"), 501),
        (get(method=b"BREW"), 501),
        (get(b"h:1", method=b"CONNECT"), 501),
        (get(method=b"TRACE"), 501),
        (b"GET /v1/models/m HTTP/1.1\r\n folded\r\n\r\n", 400),
        (get(headers=b"no colon"), 400),
        (get(headers=b"sp ace: 1"), 400),
        (get(headers=b": 1"), 400),
        (get(headers=b"A: 1\r\n B: 2"), 200),  # folded: obsolete, and joined (RFC 9112, 5.2)
        (get(headers=b"Host: b"), 400),
        (get(headers=b"A: a\0b"), 400),
        (get(headers=b"A: a\rb"), 400),
        (get(headers=b"A: " + b"x" * 100_000), 431),
        (get(headers=b"\r\n".join([b"A: 1"] * 20_000)), 431),
        (get(b"/" + b"x" * 100_000), 431),
        (post(b"Content-Length: -1"), 400),
        (post(b"Content-Length: +25"), 400),
        (post(b"Content-Length: 2_5"), 400),
        (post(b"Content-Length: x"), 400),
        (post(b"Content-Length: " + b"9" * 5000), 400),
        (post(b"Content-Length: 99999999999999999"), 413),
        (post(LENGTH, b"Content-Length: 3"), 400),
        (post(LENGTH, b"Transfer-Encoding: chunked"), 400),
        (post(b"Content-Length: 1000"), 400),
        (post(b"Transfer-Encoding: chunked", body=b"x\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", body=b"-1\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", body=b"0x5\r\nabcde\r\n0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", body=b"3\r\nabcde\r\n0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", body=b"5\r\nabc"), 400),
        (post(b"Transfer-Encoding: chunked", body=b"ffffffffffff\r\nabc"), 400),
        (post(b"Transfer-Encoding: chunked", body=b"f" * 10_000), 400),
        (post(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"A: 1\r\n" * 1000), 400),
        (post(b"Transfer-Encoding: gzip"), 501),
        (post(LENGTH, b"Content-Encoding: gzip"), 400),
    ],
)
def test_malformed_requests(rest: RestServer, request_: bytes, status: int | None) -> None:
    assert statuses(exchange(rest.port, request_)) == ([] if status is None else [status])
    # In any case, the next client is served.
    assert statuses(exchange(rest.port, PLAIN)) == [200]


def test_clients_that_hang_up(rest: RestServer) -> None:
    for part in (b"", b"POST", PLAIN[:-3], CHUNKED[:-12], PLAIN):
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", rest.port), timeout=60)
            sock.sendall(part)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
            sock.close()
    assert statuses(exchange(rest.port, PLAIN)) == [200]


def test_idle_connections_take_no_threads(rest: RestServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", rest.port), timeout=60) for _ in range(200)]
    try:
        assert statuses(exchange(rest.port, PLAIN)) == [200]
        idle[-1].sendall(PLAIN)
        assert idle[-1].recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        for sock in idle:
            sock.close()


_PATIENCE_SECONDS = 1.5


@pytest.fixture
def impatient(handlers: Handlers, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Iterator[RestServer]:
    """A server with a short patience instead of half a minute."""
    monkeypatch.setattr(connection_module, "_PATIENCE_SECONDS", _PATIENCE_SECONDS)
    monkeypatch.setattr(connection_module, "_IDLE_SECONDS", _PATIENCE_SECONDS)
    server = start_rest(rest_options(rest_api_num_threads=1), handlers, metrics)
    yield server
    server.stop(5.0)


@pytest.mark.parametrize("part", [PLAIN[:30], PLAIN[:-3], CHUNKED[:-14]], ids=["headers", "body", "chunk"])
def test_slow_requests_are_dropped(impatient: RestServer, part: bytes) -> None:
    def drip(sock: socket.socket) -> None:
        try:
            while True:  # a byte now and then would keep a plain timeout from expiring
                sock.sendall(b" ")
                time.sleep(0.05)
        except OSError:
            pass

    socks = [socket.create_connection(("127.0.0.1", impatient.port), timeout=60) for _ in range(4)]
    threads = [threading.Thread(target=drip, args=(sock,), daemon=True) for sock in socks]
    for sock, thread in zip(socks, threads, strict=True):
        sock.sendall(part)
        if part is PLAIN[:30]:
            thread.start()
    for sock in socks:
        data = b""
        try:
            while piece := sock.recv(1000):
                data += piece
        except ConnectionError:
            pass
        assert data == b"" or statuses(data) == [408]
        sock.close()
    assert statuses(exchange(impatient.port, PLAIN)) == [200]


def test_a_client_that_does_not_read_is_dropped(impatient: RestServer) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", impatient.port))
        body = b'{"inputs": [' + b"1," * 1_000_000 + b"1]}"
        sock.sendall(post(b"Content-Length: %d" % len(body), body=body))
        assert sock.recv(1, socket.MSG_PEEK) == b"H"
        # The response is being sent; after this multiple of the patience it has expired, even if a thread is late.
        time.sleep(3 * _PATIENCE_SECONDS)
        assert statuses(exchange(impatient.port, PLAIN)) == [200]
        received = 0
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(1 << 20):
                received += len(part)
        assert received < 1_000_000 * len(",\n        1.0")


HEADERS = st.lists(st.binary(max_size=30).filter(lambda line: b"\r\n" not in line), max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT"]), st.binary(max_size=30), HEADERS, st.binary(max_size=60))
def test_any_request_is_answered_or_dropped(
    rest: RestServer, method: bytes, path: bytes, headers: list[bytes], body: bytes
) -> None:
    head = b"\r\n".join([method + b" /v1/models/" + path + b" HTTP/1.1", *headers])
    found = exchange(rest.port, head + b"\r\n\r\n" + body)
    first = found.split(b"\r\n", 1)[0].split(b" ")
    assert found == b"" or first[0] == b"HTTP/1.1"
    assert found == b"" or int(first[1]) in (200, 400, 404, 413, 431, 501, 505)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.binary(max_size=300))
def test_any_bytes_are_answered_or_dropped(rest: RestServer, data: bytes) -> None:
    assert exchange(rest.port, data)[:9] in (b"", b"HTTP/1.1 ")


@pytest.fixture
def start(handlers: Handlers, metrics: Metrics) -> Iterator[Callable[..., RestServer]]:
    started: list[RestServer] = []

    def make(**options: object) -> RestServer:
        started.append(start_rest(rest_options(**options), handlers, metrics))
        return started[-1]

    yield make
    for server in started:
        server.stop(1.0)


def test_stopping_finishes_running_requests(start: Callable[..., RestServer], tmp_path: Path) -> None:
    server = start()
    idle = Client(server.port)
    assert idle.predict({"inputs": 1.0}).status == 200
    started, released = tmp_path / "started", tmp_path / "released"
    statuses_found: list[int] = []

    def ask() -> None:
        client = Client(server.port)
        inputs = {"started": [str(started)], "released": [str(released)]}
        statuses_found.append(client.predict({"signature_name": "wait", "inputs": inputs}).status)
        client.close()

    def is_closed() -> bool:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
        except ConnectionRefusedError:
            return True
        return False

    running = threading.Thread(target=ask)
    running.start()
    wait_for(started.exists, 60, "a request in the model")
    stopping = threading.Thread(target=server.stop, args=(60.0,))
    stopping.start()
    wait_for(is_closed, 60, "the closing of the port")
    assert stopping.is_alive()
    assert statuses_found == []
    released.touch()
    stopping.join()
    running.join()
    assert statuses_found == [200]
    idle.close()


def test_stopping_does_not_wait_forever(start: Callable[..., RestServer]) -> None:
    server = start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(PLAIN[:-3])
        stopping = threading.Thread(target=server.stop, args=(0.5,), daemon=True)
        stopping.start()
        stopping.join(60)
        assert not stopping.is_alive()
    server.stop(0.5)  # stopping again is not an error


def test_requests_while_it_stops_are_answered_or_refused(start: Callable[..., RestServer]) -> None:
    server = start()
    answered: list[bytes] = []
    lost: list[BaseException] = []

    def ask() -> None:
        while True:
            try:
                sock = socket.create_connection(("127.0.0.1", server.port), timeout=60)
            except OSError:
                return  # the port is closed
            with sock:
                try:
                    sock.sendall(PLAIN)
                    answered.append(sock.recv(1000))
                except OSError as error:
                    lost.append(error)
                    return
                if not answered[-1]:
                    return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answered) > 20, 60, "answers")
    server.stop(60.0)
    for thread in threads:
        thread.join()
    assert answered
    assert all(data.startswith(b"HTTP/1.1 200 OK\r\n") for data in answered if data)
    # A connection made between the last accept and the closing of the port is reset by the kernel.
    assert len(lost) + answered.count(b"") <= len(threads)


def test_a_port_in_use_is_an_error(rest: RestServer, start: Callable[..., RestServer]) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        start(rest_api_port=rest.port)


def test_several_processes_may_share_a_port(start: Callable[..., RestServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_WORKER", "0")
    with socket.socket(socket.AF_INET6) as reserved:
        reserved.bind(("::", 0))
        port = reserved.getsockname()[1]
    servers = [start(rest_api_port=port) for _ in range(2)]
    assert [server.port for server in servers] == [port, port]
    assert statuses(exchange(port, PLAIN)) == [200]
