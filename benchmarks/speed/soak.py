"""The model server under attack for minutes: whether others are still served, and memory and descriptors stay flat.

Good clients send gRPC and REST requests all the time. Meanwhile attacks alternate: connections that idle, send half,
do not read, reset their streams, or use up the descriptors; bodies and inputs of hostile sizes; and new versions that
replace old ones. Every request of the good clients must be answered; the longest time without an answer is reported
for each attack.
"""

import contextlib
import gzip
import http.client
import itertools
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from benchmarks.harness.runner import Options, Result, progress, run
from benchmarks.harness.server import MODEL, Server, newest_version
from benchmarks.harness.table import Table, at_most
from benchmarks.speed import http2
from benchmarks.speed.attacks import PREDICT, STATUS, few_descriptors, half_sent, reset_streams
from serving.arguments import argument
from serving.client import Query, RecommenderClient, ServingError

_BATCHING = "max_batch_size { value: 32 } batch_timeout_micros { value: 4000 } max_enqueued_batches { value: 8 }"
_REQUEST = {"signature_name": "recommend", "inputs": {"query": ["space adventure"]}}
# How long an attack keeps its resources.
_HOLD_SECONDS = 3.0
_PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 30.0
_GROWTH = 1.1
_FEW = 16


@dataclass(frozen=True)
class _Options(Options):
    minutes: float = argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    model_dir: Path = argument(
        "--model-dir", type=Path, default=Path("models/recommender"), help="default: %(default)s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the soak test; returns 0, 1 while a bar does not hold, 2 for user errors."""
    packages = ("tensorflow", "grpcio", "h11")
    return run("speed.soak", __doc__, _Options, _measure, _page, arguments, packages=packages)


@dataclass
class _Good:
    """Results of the good clients; their threads only append.

    Attributes:
        ends: times of their answers.
        failures: errors, with the attack at that time.
    """

    attack: str = "none"
    ends: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def ask(self, request: Callable[[], None]) -> None:
        """Sends requests repeatedly until stopped."""
        while not self.is_over.wait(0.02):
            try:
                request()
                self.ends.append(time.monotonic())
            except (OSError, grpc.RpcError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(f"{self.attack}: {type(error).__name__}: {error}"[:300])

    def longest_gap(self, start: float, end: float) -> float:
        """The longest time between two answers, from ``start`` to ``end``."""
        moments = [start, *sorted(moment for moment in self.ends if start <= moment <= end), end]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))


def _measure(options: _Options, console: Console) -> Result:
    source = newest_version(options.model_dir)
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--rest_api_port=-1", "--enable_batching", "--file_system_poll_wait_seconds=1")
        with Server(source, Path(folder), flags, batching=_BATCHING, session="") as server:
            good = _Good()
            with _good_clients(server, good):
                rounds = _rounds(server, good, options.minutes * 60, console)
    names = list(dict.fromkeys(each["attack"] for each in rounds))
    before, after = _later_thirds([rounds[start : start + len(names)] for start in range(0, len(rounds), len(names))])
    worst = {name: max(each["gap_seconds"] for each in rounds if each["attack"] == name) for name in names}
    bars = [
        at_most("failed good requests", len(good.failures), 0),
        at_most("longest time without a good answer, s", round(max(worst.values()), 2), 1.0),
        at_most("memory, last third over the middle", round(after["memory"] / before["memory"], 3), _GROWTH),
        at_most("descriptors, last third minus the middle", after["descriptors"] - before["descriptors"], _FEW),
        at_most("threads, last third minus the middle", after["threads"] - before["threads"], _FEW),
    ]
    return {
        "minutes": options.minutes,
        "answered": len(good.ends),
        "failures": good.failures[:100],
        "longest_gap_seconds": worst,
        "rounds": rounds,
        "bars": bars,
    }


def _later_thirds(rounds: list[list[dict[str, Any]]]) -> tuple[dict[str, int], dict[str, int]]:
    """Minimum memory, descriptors and threads in the middle third of the rounds, and in the last third.

    The minimum of a round is what remains after an attack's memory and connections have been released. Thread pools and
    TensorFlow's memory reach their limits in the first third.
    """
    third = max(len(rounds) // 3, 1)
    middle, last = rounds[-2 * third : -third] or rounds[:1], rounds[-third:]

    def least(part: list[list[dict[str, Any]]]) -> dict[str, int]:
        return {
            name: min(each[name] for group in part for each in group) for name in ("memory", "descriptors", "threads")
        }

    return least(middle), least(last)


@contextlib.contextmanager
def _good_clients(server: Server, good: _Good) -> Iterator[None]:
    client = RecommenderClient(server.address, MODEL, timeout=_TIMEOUT_SECONDS)

    def by_grpc() -> None:
        assert client.recommend(Query(query="space adventure", k=5))

    def by_new_connection() -> None:
        with RecommenderClient(server.address, MODEL, timeout=_TIMEOUT_SECONDS) as other:
            assert other.recommend(Query(user_id="7", k=5))

    def by_rest() -> None:
        connection = http.client.HTTPConnection("localhost", server.rest_port(), timeout=_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", f"/v1/models/{MODEL}:predict", json.dumps(_REQUEST))
            response = connection.getresponse()
            assert response.status == 200, response.read()[:200]
            response.read()

    threads = [threading.Thread(target=good.ask, args=(each,)) for each in (by_grpc, by_new_connection, by_rest)]
    for thread in threads:
        thread.start()
    try:
        # The first requests wait for the model, not because of an attack.
        while len(good.ends) < 100 and not good.failures:
            time.sleep(0.1)
        yield
    finally:
        good.is_over.set()
        for thread in threads:
            thread.join()
        client.close()


def _rounds(server: Server, good: _Good, seconds: float, console: Console) -> list[dict[str, Any]]:
    rounds: list[dict[str, Any]] = []
    end = time.monotonic() + seconds
    versions = iter(range(2, 1 << 30))
    with progress(console) as bar:
        task = bar.add_task("seconds", total=seconds)
        while not rounds or time.monotonic() < end:
            for name, attack in _ATTACKS.items():
                good.attack = name
                started = time.monotonic()
                attack(server, next(versions) if attack is _swap else len(rounds))
                time.sleep(_PAUSE_SECONDS)
                now = time.monotonic()
                rounds.append({"attack": name, "gap_seconds": good.longest_gap(started, now), **server.figures()})
                bar.update(task, completed=seconds - max(end - now, 0.0))
    return rounds


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("localhost", port), timeout=_TIMEOUT_SECONDS)


def _hold(connections: Sequence[Callable[[], socket.socket]], data: bytes) -> None:
    """Opens connections, sends something on each, and closes them after a while."""
    with contextlib.ExitStack() as stack:
        for connect in connections:
            with contextlib.suppress(OSError):
                stack.enter_context(connect()).sendall(data)
        time.sleep(_HOLD_SECONDS)


def _idle(server: Server, _: int) -> None:
    ports = (server.port, server.rest_port())
    _hold([lambda port=port: _connect(port) for port in ports for _ in range(200)], b"")  # type: ignore[misc]


def _half_rest(server: Server, turn: int) -> None:
    head = f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n".encode()
    parts = (head[:30], head, head + b" " * 50_000)
    _hold([lambda: _connect(server.rest_port())] * 300, parts[turn % len(parts)])


def _unread_rest(server: Server, _: int) -> None:
    request = f"GET /v1/models/{MODEL}/metadata HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    _hold([lambda: _connect(server.rest_port())] * 50, request * 100)


def _half_grpc(server: Server, turn: int) -> None:
    _hold([lambda: http2.connect(server.port)] * 4, half_sent((PREDICT, STATUS)[turn % 2], 100))


def _resets(server: Server, turn: int) -> None:
    with contextlib.suppress(OSError):
        reset_streams(server.port, (PREDICT, STATUS, "/test/Unknown")[turn % 3], 100_000)


def _garbage(server: Server, turn: int) -> None:
    draws = random.Random(turn)
    for port in (server.port, server.rest_port()):
        for _ in range(100):
            with contextlib.suppress(OSError), contextlib.closing(_connect(port)) as connection:
                connection.sendall(draws.randbytes(draws.randrange(1, 5000)))


def _descriptors(server: Server, _: int) -> None:
    with few_descriptors(server.pid, spare=64), contextlib.ExitStack() as stack:
        for _ in range(250):
            with contextlib.suppress(OSError):
                stack.enter_context(http2.connect(server.port))


def _bombs(server: Server, _: int) -> None:
    body = gzip.compress(bytes(200 << 20), 1)
    head = f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n"
    for _ in range(4):
        with contextlib.suppress(OSError), contextlib.closing(_connect(server.rest_port())) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            connection.recv(1 << 16)


def _sizes(server: Server, _: int) -> None:
    hostile: list[dict[str, Any]] = [
        {"query": "x" * (8 << 20)},
        {"query": "한국 " * 500_000},
        {"query": "tent", "languages": ["ko"] * 50_000},
        {"query": "tent", "languages": [f"l{number}" for number in range(50_000)]},
        {"query": "tent", "categories": ["Drama"] * 50_000},
        {"history": [str(number) for number in range(50_000)]},
        {"query": "tent", "exclude": [str(number) for number in range(50_000)]},
        {"query": "tent", "k": 100_000},
    ]
    with RecommenderClient(server.address, MODEL, timeout=_TIMEOUT_SECONDS) as client:
        for inputs in hostile:
            with contextlib.suppress(ServingError):
                client.recommend(Query(**inputs))


def _swap(server: Server, version: int) -> None:
    server.add_version(version)
    server.wait_for_version(version)
    server.remove_version(version - 1)


_ATTACKS: dict[str, Callable[[Server, int], None]] = {
    "idle connections": _idle,
    "half-sent REST requests": _half_rest,
    "REST clients that do not read": _unread_rest,
    "half-sent gRPC messages": _half_grpc,
    "reset streams": _resets,
    "garbage": _garbage,
    "used-up descriptors": _descriptors,
    "gzip bombs": _bombs,
    "hostile sizes": _sizes,
    "a new version": _swap,
}


def _page(result: Result) -> list[Table | str]:
    rows = [[name, f"{seconds:.2f}"] for name, seconds in result["longest_gap_seconds"].items()]
    title = f"{result['answered']:,} good answers in {result['minutes']:g} minutes"
    return [Table(title, ("attack", "longest time without a good answer, s"), rows), *result["failures"][:5]]


if __name__ == "__main__":
    sys.exit(main())
