"""Throughput of one, two and three replicas of a model server behind gRPC's own balancing.

The servers are separate processes on free ports, and a load generator deals its requests out to the first n of them in
turn, with as many clients for each. On machines of their own n replicas answer n times as many requests if a request
costs each of them what it costs one alone, and if each gets its share. Both are measured here; the machine's cores are
shared by all of it, so requests a second of wall clock would say nothing. Rounds of one, two and three alternate.
"""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness.runner import Options, Result, run
from benchmarks.harness.server import Server, newest_version
from benchmarks.harness.table import Table, at_least, at_most
from benchmarks.speed.load import Load, closed_loop
from benchmarks.speed.traffic import in_process, request_of, text_queries
from serving.arguments import argument

_PACKAGES = ("tensorflow", "grpcio", "protobuf", "numpy")
_FLAGS = ("--enable_batching", "--max_concurrent_requests=160")
_BATCHING = """max_batch_size { value: 32 }
batch_timeout_micros { value: 4000 }
max_enqueued_batches { value: 8 }
num_batch_threads { value: 1 }
pad_variable_length_inputs: true
"""
_SESSION = "intra_op_parallelism_threads: 1\ninter_op_parallelism_threads: 2\n"
_WARM_SECONDS = 3.0
# Queries a processor second, relative to one server's.
_LEAST_RATIO = 0.9
# Of the requests, the smallest share of a server relative to an equal one.
_LEAST_SHARE = 0.9


@dataclass(frozen=True)
class _Options(Options):
    model_dir: Path = argument(
        "--model-dir", type=Path, default=Path("models/recommender"), help="exported model (make demo)"
    )
    most: int = argument("--servers", type=int, default=3, help="largest number of servers (default: %(default)s)")
    clients: int = argument("--clients", type=int, default=16, help="clients for each server (default: %(default)s)")
    rounds: int = argument("--rounds", type=int, default=5, help="loads of each number of servers")
    seconds: float = argument("--seconds", type=float, default=6.0, help="duration of a load (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code: 0, 1 while a bar does not hold, or 2 if there is no model to serve."""
    return run("speed.replicas", __doc__, _Options, _run, _page, arguments, packages=_PACKAGES)


def _run(options: _Options, console: Console) -> Result:
    version = newest_version(options.model_dir)
    requests = [request_of([query]) for query in text_queries(512)]
    counts = range(1, options.most + 1)
    rounds: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    with ExitStack() as stack:
        servers = []
        for _ in counts:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = Server(version, folder, _FLAGS, batching=_BATCHING, session=_SESSION)
            servers.append(stack.enter_context(server))
        _load(servers, requests, options.clients, _WARM_SECONDS)
        for _ in range(options.rounds):
            for count in counts:
                measured = _load(servers[:count], requests, options.clients, options.seconds)
                rounds[count].append(measured)
                console.print(f"{count} servers: {measured}")
    result = [_summary(count, rounds[count], rounds[1]) for count in counts]
    last = result[-1]
    bars = [
        at_least(f"{options.most} servers: queries a processor second over one's", last["ratio"], _LEAST_RATIO),
        at_least(f"{options.most} servers: smallest share of the requests", last["least_share"], _LEAST_SHARE),
        at_most("requests that failed", sum(row["failed"] for row in result), 0),
    ]
    return {"clients_each": options.clients, "servers": result, "rounds": rounds, "bars": bars}


def _load(servers: Sequence[Server], requests: Sequence[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """One load over some servers: processor milliseconds of a request, and each server's part of the processor time."""
    address = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    before = [server.processor_seconds() for server in servers]
    load: Load = in_process(closed_loop, address, requests, clients * len(servers), seconds)
    spent = np.array([server.processor_seconds() for server in servers]) - before
    return {
        "queries_per_cpu_second": round(len(load.latencies) / float(spent.sum()), 1),
        "least_share": round(float(spent.min() / spent.mean()), 3),
        "answered": len(load.latencies),
        "failed": sum(count for status, count in load.statuses.items() if status != "OK"),
        "wall_throughput": round(load.throughput, 1),
    }


def _summary(count: int, rounds: Sequence[dict[str, Any]], alone: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, each compared with one server's load in the same round."""

    def figures(name: str, of: Sequence[dict[str, Any]] = rounds) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return np.array([each[name] for each in of], np.float64)

    ratios = figures("queries_per_cpu_second") / figures("queries_per_cpu_second", alone)
    return {
        "servers": count,
        "queries_per_cpu_second": round(float(np.median(figures("queries_per_cpu_second"))), 1),
        "ratio": round(float(np.median(ratios)), 3),
        "ratios": ratios.round(3).tolist(),
        "least_share": round(float(np.median(figures("least_share"))), 3),
        "answered": int(figures("answered").sum()),
        "failed": int(figures("failed").sum()),
    }


def _page(result: Result) -> list[Table | str]:
    columns = ("servers", "queries / processor second", "ratio to one", "least share", "answered", "failed")
    keys = ("servers", "queries_per_cpu_second", "ratio", "least_share", "answered", "failed")
    rows = [[str(row[key]) for key in keys] for row in result["servers"]]
    return [Table(f"Replicas, {result['clients_each']} clients for each", columns, rows)]


if __name__ == "__main__":
    sys.exit(main())
