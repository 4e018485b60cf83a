"""The client's gRPC side against real gRPC servers: retries, deadlines, headers, TLS, balancing."""

import asyncio
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from tensorflow_serving.apis import predict_pb2

from serving.client import (
    AccessDeniedError,
    AsyncRecommenderClient,
    BadRequestError,
    DeadlineExceededError,
    Keepalive,
    OverloadedError,
    RecommenderClient,
    RetryPolicy,
    ServingError,
    TlsOptions,
    UnreachableError,
)
from tests.serving.client.client_servers import Rpcs, grpc_server
from tests.serving.live import ROOT

X = {"x": np.array([1.0, 2.0], np.float32)}
UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "not yet")
QUICK = RetryPolicy(initial_backoff=0.01, max_backoff=0.02)


@pytest.fixture
def rpcs() -> Iterator[Rpcs]:
    with grpc_server() as server:
        yield server


def predict_sync(target: str, **options: object) -> list[float]:
    with RecommenderClient(target, **options) as client:  # type: ignore[arg-type]
        return client.predict("s", X)["y"].tolist()


def predict_async(target: str, **options: object) -> list[float]:
    async def run() -> list[float]:
        async with AsyncRecommenderClient(target, **options) as client:  # type: ignore[arg-type]
            return (await client.predict("s", X))["y"].tolist()

    return asyncio.run(run())


both = pytest.mark.parametrize("predict", [predict_sync, predict_async])


@both
def test_request_and_headers(rpcs: Rpcs, predict: Callable[..., list[float]]) -> None:
    options = {"metadata": {"Authorization": "Bearer x", "trace-bin": b"\x00\xff"}, "version_label": "stable"}
    assert predict(rpcs.address, **options) == [1.0, 2.0]
    assert rpcs.paths == ["/tensorflow.serving.PredictionService/Predict"]
    request = predict_pb2.PredictRequest.FromString(rpcs.requests[0])
    assert (request.model_spec.name, request.model_spec.version_label) == ("recommender", "stable")
    assert request.model_spec.signature_name == "s"
    assert list(request.inputs["x"].float_val) == [1.0, 2.0]
    assert rpcs.metadata[0]["authorization"] == "Bearer x"
    assert rpcs.metadata[0]["trace-bin"] == b"\x00\xff"


def test_headers_of_one_call(rpcs: Rpcs) -> None:
    with RecommenderClient(rpcs.address, metadata=[("a", "1")]) as client:
        client.predict("s", X, metadata={"b": "2"})
        client.predict("s", X)
    assert [(got.get("a"), got.get("b")) for got in rpcs.metadata] == [("1", "2"), ("1", None)]


@both
def test_unavailable_is_retried(rpcs: Rpcs, predict: Callable[..., list[float]]) -> None:
    rpcs.failures = [UNAVAILABLE, UNAVAILABLE]
    assert predict(rpcs.address, retry=QUICK) == [1.0, 2.0]
    assert [got.get("grpc-previous-rpc-attempts") for got in rpcs.metadata] == [None, "1", "2"]


@pytest.mark.parametrize(("attempts", "made"), [(1, 1), (2, 2), (4, 4)])
def test_attempts_are_limited(rpcs: Rpcs, attempts: int, made: int) -> None:
    rpcs.failures = [UNAVAILABLE] * 10
    policy = RetryPolicy(max_attempts=attempts, initial_backoff=0.01, max_tokens=0)
    with pytest.raises(UnreachableError, match=r"can't respond now: not yet"):
        predict_sync(rpcs.address, retry=policy)
    assert len(rpcs.paths) == made


def test_no_retry_when_turned_off_or_for_other_codes(rpcs: Rpcs) -> None:
    rpcs.failures = [UNAVAILABLE]
    with pytest.raises(UnreachableError):
        predict_sync(rpcs.address, retry=None)
    rpcs.failures = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")]
    with pytest.raises(OverloadedError, match="too much"):
        predict_sync(rpcs.address, retry=QUICK)
    assert len(rpcs.paths) == 2
    rpcs.failures = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")]
    policy = RetryPolicy(initial_backoff=0.01, codes=("UNAVAILABLE", "RESOURCE_EXHAUSTED"))
    assert predict_sync(rpcs.address, retry=policy) == [1.0, 2.0]


def test_throttle_stops_retries_of_a_server_that_keeps_failing(rpcs: Rpcs) -> None:
    rpcs.failures = [UNAVAILABLE] * 100
    with RecommenderClient(rpcs.address, retry=RetryPolicy(initial_backoff=0.01, max_tokens=4)) as client:
        for _ in range(4):
            with pytest.raises(UnreachableError):
                client.predict("s", X)
    # 4 tokens; a retry needs more than 2 after the failure: 1 retry, then none.
    assert len(rpcs.paths) == 5


def test_large_requests_are_retried_too(rpcs: Rpcs) -> None:
    """By default gRPC retries nothing over 256 KiB."""
    rpcs.failures = [UNAVAILABLE]
    with RecommenderClient(rpcs.address, retry=QUICK) as client:
        client.predict("s", {"x": np.zeros(2_000_000, np.float32)})
    assert [len(request) > 8_000_000 for request in rpcs.requests] == [True, True]


@both
def test_deadline_covers_all_attempts(rpcs: Rpcs, predict: Callable[..., list[float]]) -> None:
    rpcs.failures = [UNAVAILABLE] * 10
    with pytest.raises(DeadlineExceededError, match=r"within 0\.3 s"):
        predict(rpcs.address, timeout=0.3, retry=RetryPolicy(initial_backoff=5.0, max_backoff=5.0))


@pytest.mark.parametrize(
    ("code", "details", "kind", "message"),
    [
        # shared_batch_scheduler.h
        ("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full", OverloadedError, "full"),
        (
            "UNAVAILABLE",
            "The batch scheduling queue to which this task was submitted is full; task size is 8 but scheduling "
            "capacity is only 2",
            OverloadedError,
            "start more servers",
        ),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", OverloadedError, "Try again later"),
        ("UNAVAILABLE", "the server is stopping", UnreachableError, "try again shortly"),
        ("UNAUTHENTICATED", "no token", AccessDeniedError, "-H authorization"),
        ("PERMISSION_DENIED", "", AccessDeniedError, "PERMISSION_DENIED"),
    ],
)
def test_kinds_of_refusal(rpcs: Rpcs, code: str, details: str, kind: type[ServingError], message: str) -> None:
    rpcs.failures = [(grpc.StatusCode[code], details)]
    with pytest.raises(kind, match=message) as caught:
        predict_sync(rpcs.address, retry=None)
    assert type(caught.value) is kind
    assert caught.value.code is grpc.StatusCode[code]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


@both
def test_wait_for_ready(predict: Callable[..., list[float]]) -> None:
    target = f"localhost:{free_port()}"
    with pytest.raises(UnreachableError, match="Start one with"):
        predict(target, retry=None)
    with pytest.raises(DeadlineExceededError):
        predict(target, timeout=0.3, wait_for_ready=True)


def test_wait_for_ready_gets_a_server_that_starts_later(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def run() -> list[float]:
        async with AsyncRecommenderClient(f"unix:{path}", wait_for_ready=True, timeout=60) as client:
            answer = asyncio.create_task(client.predict("s", X))
            await asyncio.sleep(0.2)
            assert not answer.done()
            with grpc_server() as rpcs:
                proxy = await asyncio.start_unix_server(lambda r, w: tunnel(r, w, rpcs.address), path)
                async with proxy:
                    return (await answer)["y"].tolist()

    assert asyncio.run(run()) == [1.0, 2.0]


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
    host, port = address.split(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        sink.close()

    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)


def test_round_robin_over_several_addresses() -> None:
    with grpc_server() as one, grpc_server() as two:
        ports = [server.address.split(":")[1] for server in (one, two)]
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        with RecommenderClient(target) as client:
            deadline = time.monotonic() + 30
            while not (one.paths and two.paths) and time.monotonic() < deadline:
                client.predict("s", X)
        assert one.paths
        assert two.paths
        one.paths.clear()
        two.paths.clear()
        with RecommenderClient(target, load_balancing="pick_first") as client:
            for _ in range(20):
                client.predict("s", X)
        # Usually the first; the other one if that connects sooner.
        assert bool(one.paths) != bool(two.paths)


def test_one_connection_for_all_calls(rpcs: Rpcs) -> None:
    with RecommenderClient(rpcs.address, keepalive=Keepalive(seconds=400)) as client:
        for _ in range(5):
            client.predict("s", X)
    assert len(rpcs.peers) == 1


def test_compression_shrinks_requests() -> None:
    """Counted on the wire, between client and server."""
    sent = {None: 0, "gzip": 0}

    async def run(compression: str | None, address: str) -> None:
        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(*address.split(":"))

            async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, counts: bool) -> None:
                while data := await source.read(1 << 16):
                    sent[compression] += len(data) * counts
                    sink.write(data)
                    await sink.drain()
                sink.close()

            await asyncio.gather(
                copy(reader, far_writer, True), copy(far_reader, writer, False), return_exceptions=True
            )

        proxy = await asyncio.start_server(count, "localhost", 0)
        async with proxy:
            port = proxy.sockets[0].getsockname()[1]
            async with AsyncRecommenderClient(f"localhost:{port}", compression=compression) as client:
                await client.predict("s", {"x": np.zeros(100_000, np.float32)})

    with grpc_server() as rpcs:
        asyncio.run(run(None, rpcs.address))
        asyncio.run(run("gzip", rpcs.address))
    assert sent[None] > 400_000
    assert sent["gzip"] < 20_000


def test_closed_client_says_so(rpcs: Rpcs) -> None:
    client = RecommenderClient(rpcs.address)
    client.close()
    with pytest.raises(ServingError, match="closed"):
        client.predict("s", X)


def test_async_client_takes_a_channel_and_many_calls_at_once(rpcs: Rpcs) -> None:
    async def run() -> int:
        channel = grpc.aio.insecure_channel(rpcs.address)
        async with AsyncRecommenderClient(channel=channel) as client:
            answers = await asyncio.gather(*(client.predict("s", X) for _ in range(50)))
        state = channel.get_state()
        assert state is not grpc.ChannelConnectivity.SHUTDOWN
        await channel.close(None)
        return sum(answer["y"].tolist() == [1.0, 2.0] for answer in answers)

    assert asyncio.run(run()) == 50


def test_cancelled_call(rpcs: Rpcs) -> None:
    async def run() -> None:
        async with AsyncRecommenderClient(f"localhost:{free_port()}", wait_for_ready=True) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.predict("s", X), 0.1)

    asyncio.run(run())


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def pems(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, other-ca.pem, client.pem, client.key."""
    root = tmp_path_factory.mktemp("pems")
    authority.cert_pem.write_to_path(str(root / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(root / "other-ca.pem"))
    client = authority.issue_cert("client@example.org")
    client.cert_chain_pems[0].write_to_path(str(root / "client.pem"))
    client.private_key_pem.write_to_path(str(root / "client.key"))
    authority.issue_cert("b").private_key_pem.write_to_path(str(root / "other.key"))
    (root / "garbage.pem").write_text("no certificate")
    return root


def server_credentials(authority: trustme.CA, name: str, *, mutual: bool) -> grpc.ServerCredentials:
    certificate = authority.issue_cert(name)
    return grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes() if mutual else None,
        require_client_auth=mutual,
    )


@both
def test_tls(authority: trustme.CA, pems: Path, predict: Callable[..., list[float]]) -> None:
    with grpc_server(server_credentials(authority, "localhost", mutual=False)) as rpcs:
        for target in (rpcs.address, f"grpcs://{rpcs.address}"):
            assert predict(target, tls=TlsOptions(ca=pems / "ca.pem")) == [1.0, 2.0]
        with pytest.raises(UnreachableError, match=r"does not trust .*--tls-ca"):
            predict(f"grpcs://{rpcs.address}", retry=None)
        with pytest.raises(UnreachableError, match="--tls-ca"):
            predict(rpcs.address, tls=TlsOptions(ca=pems / "other-ca.pem"), retry=None)
        with pytest.raises(UnreachableError, match="requires TLS write grpcs://"):
            predict(rpcs.address, retry=None)


def test_tls_server_name(authority: trustme.CA, pems: Path) -> None:
    with grpc_server(server_credentials(authority, "models.example", mutual=False)) as rpcs:
        with pytest.raises(UnreachableError, match="--tls-server-name"):
            predict_sync(rpcs.address, tls=TlsOptions(ca=pems / "ca.pem"), retry=None)
        options = TlsOptions(ca=pems / "ca.pem", server_name="models.example")
        assert predict_sync(rpcs.address, tls=options) == [1.0, 2.0]


def test_mutual_tls(authority: trustme.CA, pems: Path) -> None:
    with grpc_server(server_credentials(authority, "localhost", mutual=True)) as rpcs:
        shown = TlsOptions(ca=pems / "ca.pem", certificate=pems / "client.pem", key=pems / "client.key")
        assert predict_sync(rpcs.address, tls=shown) == [1.0, 2.0]
        with pytest.raises(UnreachableError):
            predict_sync(rpcs.address, tls=TlsOptions(ca=pems / "ca.pem"), retry=None)
        assert len(rpcs.paths) == 1


def test_tls_on_a_plain_port(rpcs: Rpcs) -> None:
    with pytest.raises(UnreachableError, match="does not speak TLS"):
        predict_sync(f"grpcs://{rpcs.address}", retry=None)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ca": "none.pem"}, r"ca file .*none\.pem can't be read: No such file"),
        ({"ca": "garbage.pem"}, r"ca file .*garbage\.pem holds no PEM certificates"),
        ({"certificate": "client.pem"}, "`key` is missing"),
        ({"key": "client.key"}, "`certificate` is missing"),
        ({"certificate": "client.pem", "key": "none"}, "key file .*none can't be read"),
        ({"certificate": "client.pem", "key": "other.key"}, "is not the key of"),
        ({"certificate": "client.pem", "key": "garbage.pem"}, "can't be read: .*PEM"),
        ({"certificate": "client.pem", "key": "locked.key"}, "encrypted"),
    ],
)
@pytest.mark.parametrize("target", ["localhost:1", "https://localhost:1"])
@pytest.mark.parametrize("kind", [RecommenderClient, AsyncRecommenderClient])
def test_unusable_tls_files_are_named_before_anything_is_sent(
    pems: Path, files: dict[str, str], message: str, target: str, kind: type
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((pems / "client.key").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (pems / "locked.key").write_bytes(key.private_bytes(*form, locked))
    with pytest.raises(BadRequestError, match=message):
        kind(target, tls=TlsOptions(**{name: str(pems / file) for name, file in files.items()}))  # type: ignore[arg-type]


def test_command_line_reports_tls_errors_in_one_line(authority: trustme.CA, pems: Path) -> None:
    with grpc_server(server_credentials(authority, "localhost", mutual=False)) as rpcs:
        arguments = ["status", "--address", rpcs.address, "--tls-ca", str(pems / "other-ca.pem"), "--retries", "0"]
        done = subprocess.run(
            [sys.executable, "-m", "serving.client", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "--tls-ca" in done.stderr


def test_ssl_context_is_verified_by_default() -> None:
    from serving.client.settings import http_context

    context = http_context(TlsOptions())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
