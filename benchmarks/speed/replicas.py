"""Throughput of one, two and three replicas of a model server behind gRPC's own balancing.

The servers are separate processes on free ports, and a load generator deals its requests out to the first n of them in
turn. On machines of their own n replicas answer n times as many requests if a request costs each of them what it costs
one alone at the same rate, and if each gets its share. So each gets the same number of requests a second whatever n is
(open load, a part of what one server can do), and what counts is processor time: the machine's cores are shared by all
servers, the generator and whatever else runs, so requests a second of wall clock say nothing.

A closed load of as many clients for each server is shown as well, without a bar: the servers then share the cores, so
that each gets a part of the rate that it would have on a machine of its own, forms smaller batches, and spends more on
a request. Rounds of one, two and three servers alternate.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness.runner import Options, Result, run
from benchmarks.harness.server import Server, newest_version
from benchmarks.harness.table import Table, at_least, at_most
from benchmarks.speed.load import Load, closed_loop, open_loop
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
# As in `benchmarks.speed.serving`.
_SESSION = """intra_op_parallelism_threads: 1
inter_op_parallelism_threads: 2
graph_options { rewrite_options { disable_meta_optimizer: true } }
"""
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
    share: float = argument(
        "--share",
        type=float,
        default=0.15,
        help="rate of each server in an open load, relative to one server's throughput (default: %(default)s)",
    )
    clients: int = argument(
        "--clients", type=int, default=16, help="clients for each server in a closed load (default: %(default)s)"
    )
    rounds: int = argument("--rounds", type=int, default=5, help="loads of each number of servers")
    seconds: float = argument("--seconds", type=float, default=6.0, help="duration of a load (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code: 0, 1 while a bar does not hold, or 2 if there is no model to serve."""
    return run("speed.replicas", __doc__, _Options, _run, _page, arguments, packages=_PACKAGES)


def _run(options: _Options, console: Console) -> Result:
    version = newest_version(options.model_dir)
    requests = [request_of([query]) for query in text_queries(512)]
    counts = range(1, options.most + 1)
    rounds: dict[str, dict[int, list[dict[str, Any]]]] = {
        kind: {count: [] for count in counts} for kind in ("open", "closed")
    }
    with ExitStack() as stack:
        servers = []
        for _ in counts:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = Server(version, folder, _FLAGS, batching=_BATCHING, session=_SESSION)
            servers.append(stack.enter_context(server))
        _measure(servers, closed_loop, requests, options.clients, _WARM_SECONDS)
        alone = _measure(servers[:1], closed_loop, requests, options.clients, options.seconds)
        rate = options.share * alone["throughput"]
        for _ in range(options.rounds):
            for count in counts:
                some = servers[:count]
                rounds["open"][count].append(_measure(some, open_loop, requests, rate, options.seconds))
                console.print(f"open, {count} servers: {rounds['open'][count][-1]}")
                rounds["closed"][count].append(_measure(some, closed_loop, requests, options.clients, options.seconds))
                console.print(f"closed, {count} servers: {rounds['closed'][count][-1]}")
    result = {kind: [_summary(count, of[count], of[1]) for count in counts] for kind, of in rounds.items()}
    last, name = result["open"][-1], f"{options.most} servers, open load"
    failed = sum(row["failed"] for rows in result.values() for row in rows)
    bars = [
        at_least(f"{name}: queries a processor second over one's", last["ratio"], _LEAST_RATIO),
        at_least(f"{name}: smallest share of the requests", last["least_share"], _LEAST_SHARE),
        at_most("requests that failed", failed, 0),
    ]
    about = {"rate_each": round(rate, 1), "clients_each": options.clients}
    return about | {"servers": result, "rounds": rounds, "bars": bars}


def _measure(
    servers: Sequence[Server],
    load_of: Callable[[str, Sequence[bytes], Any, float], Load],
    requests: Sequence[bytes],
    each: float,
    seconds: float,
) -> dict[str, Any]:
    """One load over some servers: requests a processor second, and how evenly the servers' processor time is spread.

    Args:
        servers: Those that get requests.
        load_of: Of `benchmarks.speed.load`.
        requests: What is sent.
        each: Clients, or requests a second, of each server.
        seconds: How long.
    """
    address = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    before = [server.processor_seconds() for server in servers]
    load: Load = in_process(load_of, address, requests, each * len(servers), seconds)
    spent = np.array([server.processor_seconds() for server in servers]) - before
    return {
        "queries_per_cpu_second": round(len(load.latencies) / float(spent.sum()), 1),
        "least_share": round(float(spent.min() / spent.mean()), 3),
        "answered": len(load.latencies),
        "failed": sum(count for status, count in load.statuses.items() if status != "OK"),
        "throughput": round(load.throughput, 1),
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
    titles = {
        "open": f"Open load: {result['rate_each']} requests a second for each server",
        "closed": f"Closed load: {result['clients_each']} clients for each server",
    }
    return [
        Table(titles[kind], columns, [[str(row[key]) for key in keys] for row in rows])
        for kind, rows in result["servers"].items()
    ]


if __name__ == "__main__":
    sys.exit(main())
