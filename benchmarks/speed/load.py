"""A gRPC load generator: closed loop (fixed number of clients) and open loop (fixed request rate).

It runs in a separate process, sends pre-serialised requests, and never parses responses, so that it
uses as little of the shared processor as Python can.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.harness.timing import percentiles
from benchmarks.speed.attacks import PREDICT

# Requests to several addresses (``ipv4:HOST:PORT,HOST:PORT``) are dealt out in turn.
_CHANNEL = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
]


@dataclass
class Load:
    """Results of one load run.

    Attributes:
        started: ``time.monotonic()`` at its start.
        seconds: how long it lasted.
        latencies: seconds of each answered request; in an open loop from the scheduled time.
        ends: when each was answered, in seconds since the start.
        refusals: seconds until each refused request was refused.
        statuses: answers by gRPC status.
        processor_seconds: processor time of the generator.
    """

    started: float = 0.0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    processor_seconds: float = 0.0

    @property
    def throughput(self) -> float:
        """Answered requests per second."""
        return len(self.latencies) / self.seconds

    def answered(self, due: float) -> None:
        """Counts an answer received now to the request scheduled at ``due``."""
        now = time.monotonic()
        self.statuses["OK"] += 1
        self.latencies.append(now - due)
        self.ends.append(now - self.started)

    def summary(self) -> dict[str, Any]:
        """Figures for the JSON; times in milliseconds."""
        result: dict[str, Any] = {
            "requests": sum(self.statuses.values()),
            "seconds": round(self.seconds, 2),
            "throughput": round(self.throughput, 1),
            "statuses": dict(self.statuses),
            "client_cpu_ms": round(1e3 * self.processor_seconds / max(sum(self.statuses.values()), 1), 3),
        }
        for name, values in (("latency_ms", self.latencies), ("refusal_ms", self.refusals)):
            if values:
                points = percentiles([1e3 * value for value in values], (50, 95, 99))
                result[name] = {point: round(value, 3) for point, value in points.items()}
        return result


def together(loads: Sequence[Load]) -> Load:
    """Merges several runs of one load; ``ends`` stay relative to each run."""
    result = Load(started=loads[0].started)
    for load in loads:
        result.seconds += load.seconds
        result.processor_seconds += load.processor_seconds
        result.statuses += load.statuses
        for name in ("latencies", "ends", "refusals"):
            getattr(result, name).extend(getattr(load, name))
    return result


def closed_loop(address: str, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    """``clients`` at once, each sending its next request when the previous one is answered."""
    if clients == 1:
        return _alone(address, requests, seconds)
    return asyncio.run(_closed(address, requests, clients, seconds))


def open_loop(address: str, requests: Sequence[bytes], rate: float, seconds: float, deadline: float = 10.0) -> Load:
    """``rate`` requests per second at equal intervals, regardless of their outcome."""
    return asyncio.run(_open(address, requests, rate, seconds, deadline))


def _alone(address: str, requests: Sequence[bytes], seconds: float) -> Load:
    """One client, without asyncio, whose overhead would count as the server's."""
    load = Load()
    with grpc.insecure_channel(address, options=_CHANNEL) as channel:
        call = channel.unary_unary(PREDICT, _unchanged, _unchanged)
        grpc.channel_ready_future(channel).result(30)
        with _clocks(load):
            index = 0
            while (due := time.monotonic()) < load.started + seconds:
                call(requests[index % len(requests)])
                load.answered(due)
                index += 1
    return load


async def _closed(address: str, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    load = Load()
    async with grpc.aio.insecure_channel(address, options=_CHANNEL) as channel:
        call = channel.unary_unary(PREDICT, _unchanged, _unchanged)
        await channel.channel_ready()

        async def client(number: int) -> None:
            index = number
            while (due := time.monotonic()) < load.started + seconds:
                await _send(call, requests[index % len(requests)], due, load, None)
                index += clients

        with _clocks(load):
            await asyncio.gather(*(client(number) for number in range(clients)))
    return load


async def _open(address: str, requests: Sequence[bytes], rate: float, seconds: float, deadline: float) -> Load:
    load = Load()
    async with grpc.aio.insecure_channel(address, options=_CHANNEL) as channel:
        call = channel.unary_unary(PREDICT, _unchanged, _unchanged)
        await channel.channel_ready()
        with _clocks(load):
            running: set[asyncio.Task[None]] = set()
            for number in range(int(rate * seconds)):
                due = load.started + number / rate
                wait = due - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                elif number % 16 == 0:
                    await asyncio.sleep(0)  # behind schedule: answers must still be read
                task = asyncio.create_task(_send(call, requests[number % len(requests)], due, load, deadline))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.gather(*running)
    return load


async def _send(
    call: "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]",
    request: bytes,
    due: float,
    load: Load,
    deadline: float | None,
) -> None:
    try:
        await call(request, timeout=deadline)
    except grpc.aio.AioRpcError as error:
        load.statuses[error.code().name] += 1
        load.refusals.append(time.monotonic() - due)
        return
    load.answered(due)


@contextlib.contextmanager
def _clocks(load: Load) -> Iterator[None]:
    """Records the load's start, duration and processor time."""
    load.started, processor = time.monotonic(), time.process_time()
    yield
    load.seconds = time.monotonic() - load.started
    load.processor_seconds = time.process_time() - processor


def _unchanged(content: bytes) -> bytes:
    return content
