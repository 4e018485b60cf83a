"""The client's gRPC side against real gRPC servers: requests, deadlines, waiting, balancing, compression."""

import asyncio
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from tensorflow_serving.apis import predict_pb2

from serving.client import (
    AsyncRecommenderClient,
    DeadlineExceededError,
    Keepalive,
    RecommenderClient,
    RetryPolicy,
    TlsOptions,
    UnreachableError,
)
from tests.serving.client.servers import QUICK, Rpcs, Use, X, both, free_port, grpc_server, predict, tls_server


@both
def test_request(rpcs: Rpcs, use: Use) -> None:
    predict(use, rpcs.address, signature="s", version_label="stable")
    assert rpcs.paths == ["/tensorflow.serving.PredictionService/Predict"]
    request = predict_pb2.PredictRequest.FromString(rpcs.requests[0])
    assert (request.model_spec.name, request.model_spec.version_label) == ("m", "stable")
    assert request.model_spec.signature_name == "s"
    assert list(request.inputs["x"].float_val) == [1.0, 2.0]


def test_large_requests_are_retried_too(rpcs: Rpcs) -> None:
    """By gRPC itself, which by default retries nothing over 256 KiB."""
    rpcs.fail("UNAVAILABLE", "not yet")
    with RecommenderClient(rpcs.address, retry=QUICK) as client:
        client.predict("s", {"x": np.zeros(2_000_000, np.float32)})
    assert [len(request) > 8_000_000 for request in rpcs.requests] == [True, True]
    assert [got.get("grpc-previous-rpc-attempts") for got in rpcs.headers] == [None, "1"]


@both
def test_deadline_covers_all_attempts(rpcs: Rpcs, use: Use) -> None:
    rpcs.fail("UNAVAILABLE", "not yet", 10)
    with pytest.raises(DeadlineExceededError, match=r"within 0\.3 s"):
        predict(use, rpcs.address, timeout=0.3, retry=RetryPolicy(initial_backoff=5.0, max_backoff=5.0))


@both
def test_wait_for_ready(use: Use) -> None:
    with pytest.raises(DeadlineExceededError):
        predict(use, f"localhost:{free_port()}", timeout=0.3, wait_for_ready=True)


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
                    values: list[float] = (await answer)["y"].tolist()
                    return values

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


@both
def test_tls_without_a_scheme(authority: trustme.CA, pems: Path, use: Use) -> None:
    with tls_server("grpc", authority, "localhost") as rpcs:
        target = rpcs.address.removeprefix("grpcs://")
        assert predict(use, target, tls=TlsOptions(ca=pems / "ca.pem"))["y"].tolist() == [1.0, 2.0]
        with pytest.raises(UnreachableError, match="requires TLS write grpcs://"):
            predict(use, target, retry=None)
