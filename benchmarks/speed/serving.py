"""Cost of the model server compared with the graph that it serves (protocol P6).

For each model, in one run on one machine: the graph called directly, in a separate process without a server, at
several batch sizes; then the server under closed load (1, 8, 32, 64 clients), open load (60 % and 200 % of the rate
of 32 clients), and open load while a new version is swapped in. Every request is complete: a text in one of many
languages -> encoder -> index -> 200 candidates -> ranking -> 20 items.

Load generator, server and other work on the machine share its cores. Ratios of processor seconds are therefore
the reliable figures: ``cpu_ratio_32`` is the processor time of a request in the direct call at its best batch
size over that of the whole server process with 32 clients. Closed loads alternate with direct calls, as the
machine's speed varies.
"""

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from rich.console import Console

from benchmarks.harness.runner import Options, Result, run
from benchmarks.harness.server import Server, newest_version
from benchmarks.harness.table import Table, at_least, at_most
from benchmarks.speed.direct import Direct
from benchmarks.speed.load import Load, closed_loop, open_loop, together
from benchmarks.speed.traffic import in_process, request_of, text_queries
from serving.arguments import argument
from serving.native.library import why_not
from serving.protos import config_pb2
from serving.runtime.batching import BatchingOptions

_PACKAGES = ("tensorflow", "grpcio", "protobuf", "numpy", "scann", "tensorflow-text")
# Rounds of a closed load, each compared with direct calls.
_ROUNDS = 5
# Seconds of load before a new version appears.
_SWAP_START = 8.0
_CLIENTS = (1, 8, 32, 64)
# Summary figures of a run, and whether a larger value is better.
_BARS: dict[str, tuple[float, bool]] = {
    "cpu_ratio_32": (0.75, True),
    "ratio_closed_32": (0.65, True),
    "ratio_64_to_32": (0.95, True),
    "overhead_ms_p50": (1.0, False),
    "open60_p99_over_p50": (5.0, False),
    "open60_errors": (0, False),
    "swap_failed": (0, False),
    "swap_p99_ratio": (3.0, False),
}


@dataclass(frozen=True)
class _Options(Options):
    model_dir: Path = argument(
        "--model-dir", type=Path, default=Path("models/recommender"), help="exported MovieLens model (make demo)"
    )
    synthetic: Path = argument(
        "--synthetic", type=Path, default=Path("runs/bench/synthetic"), help="folder of the large catalogue"
    )
    no_synthetic: bool = argument("--no-synthetic", action="store_true", help="skip the large catalogue")
    seconds: float = argument(
        "--seconds", type=float, default=8.0, help="duration of an open load, and of half the rounds of a closed one"
    )
    threads: int = argument("--threads", type=int, default=16, help="the server's --grpc_max_threads")
    max_concurrent: int = argument(
        "--max-concurrent", type=int, default=160, help="the server's --max_concurrent_requests"
    )
    batch_threads: int = argument("--batch-threads", type=int, default=1, help="num_batch_threads")
    batch_size: int = argument("--batch-size", type=int, default=32, help="max_batch_size")
    timeout_micros: int = argument("--timeout-micros", type=int, default=4000, help="batch_timeout_micros")
    intra: int = argument("--intra", type=int, default=1, help="the server's intra-op threads; 0: TensorFlow's choice")
    inter: int = argument("--inter", type=int, default=2, help="the server's inter-op threads; 0: TensorFlow's choice")
    native_predict: str = argument(
        "--native-predict", choices=("on", "off"), default="on", help="the server's --native_predict"
    )
    grappler: bool = argument(
        "--grappler", action="store_true", help="keep TensorFlow's graph optimiser enabled in the server"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code: 0, 1 while a bar does not hold, or 2 if there is no model to serve."""
    return run("speed.serving", __doc__, _Options, _run, _page, arguments, packages=_PACKAGES)


def _run(options: _Options, console: Console) -> Result:
    versions = {"movielens": newest_version(options.model_dir)}
    if not options.no_synthetic:
        from benchmarks.speed.catalogue import export_catalogue

        console.print("Building the synthetic catalogue (once; several minutes)")
        versions["synthetic-100k"] = newest_version(export_catalogue(options.synthetic))
    result: dict[str, Any] = {
        "server_flags": _flags(options),
        "native_front": why_not() or "yes",
        "batching": _text_proto(_batching(options)).split("\n")[:-1],
        "session": _session(options).split("\n")[:-1],
        "models": {},
    }
    for name, version in versions.items():
        console.rule(name)
        result["models"][name] = _measure(version, options, console)
    for figure, (_, larger) in _BARS.items():
        values = [measured[figure] for measured in result["models"].values()]
        result[figure] = min(values) if larger else max(values)
    bars = [
        (at_least if larger else at_most)(f"{name}: {figure}", measured[figure], bar)
        for name, measured in result["models"].items()
        for figure, (bar, larger) in _BARS.items()
    ]
    return result | {"bars": bars}


def _flags(options: _Options) -> list[str]:
    return [
        "--enable_batching",
        f"--grpc_max_threads={options.threads}",
        f"--max_concurrent_requests={options.max_concurrent}",
        f"--native_predict={options.native_predict}",
        "--file_system_poll_wait_seconds=1",
    ]


def _session(options: _Options) -> str:
    config = config_pb2.ConfigProto(
        intra_op_parallelism_threads=options.intra, inter_op_parallelism_threads=options.inter
    )
    # It speeds up nothing in these models, but makes loading several times slower.
    config.graph_options.rewrite_options.disable_meta_optimizer = not options.grappler
    return str(text_format.MessageToString(config))


def _batching(options: _Options) -> BatchingOptions:
    return BatchingOptions(
        max_batch_size=options.batch_size,
        batch_timeout_micros=options.timeout_micros,
        num_batch_threads=options.batch_threads,
        max_enqueued_batches=8,
        pad_variable_length_inputs=True,
    )


def _measure(version: Path, options: _Options, console: Console) -> dict[str, Any]:
    queries = text_queries(512)
    requests = [request_of([query]) for query in queries]
    session = _session(options)
    batching = _text_proto(_batching(options))
    with (
        Direct(version, queries, session) as direct,
        tempfile.TemporaryDirectory() as folder,
        Server(version, Path(folder), _flags(options), batching=batching, session=session) as server,
    ):
        table = direct.table(options.seconds / 2)
        best = max((row for row in table if row["callers"] == 1), key=lambda row: row["throughput"])
        _direct_table("The graph called directly", table).show(console)
        result: dict[str, Any] = {"direct": table, "direct_best": best}
        result["start_seconds"] = round(server.start_seconds, 1)
        in_process(closed_loop, server.address, requests, 32, 2.0)  # warms both sides up
        closed = {}
        for clients in _CLIENTS:
            closed[clients] = _closed_with_direct(server, requests, clients, direct, best["batch_size"], options)
            result[f"closed_{clients}"] = closed[clients]
            console.print(f"closed {clients:3}: {json.dumps(closed[clients])}")
        throughput = closed[32]["throughput"]
        rate = 0.6 * throughput
        memory = server.memory()
        quiet = in_process(open_loop, server.address, requests, rate, options.seconds)
        result["open_60"] = quiet.summary() | {"rate": round(rate, 1)}
        console.print(f"open  60 %: {json.dumps(result['open_60'])}")
        flood = in_process(open_loop, server.address, requests, 2 * throughput, options.seconds)
        result["open_200"] = flood.summary() | {
            "rate": round(2 * throughput, 1),
            "memory_mb_before": round(memory / 2**20),
            "memory_mb_after": round(server.memory() / 2**20),
        }
        console.print(f"open 200 %: {json.dumps(result['open_200'])}")
        swap = _swap(server, requests, rate, options)
        result["swap"] = swap
        console.print(f"swap: {json.dumps(swap)}")
        result["memory_mb"] = round(server.memory() / 2**20)
    result |= {
        "cpu_ratio_32": closed[32]["cpu_ratio"],
        "ratio_closed_32": closed[32]["throughput_ratio"],
        "ratio_64_to_32": round(closed[64]["throughput_ratio"] / closed[32]["throughput_ratio"], 3),
        "overhead_ms_p50": closed[1]["overhead_ms_p50"],
        "open60_p99_over_p50": round(
            result["open_60"]["latency_ms"]["p99"] / result["open_60"]["latency_ms"]["p50"], 2
        ),
        "open60_errors": sum(count for status, count in quiet.statuses.items() if status != "OK"),
        "swap_failed": swap["failed"],
        "swap_p99_ratio": swap["p99_ratio"],
    }
    return result


def _closed_with_direct(
    server: Server, requests: Sequence[bytes], clients: int, direct: Direct, size: int, options: _Options
) -> dict[str, Any]:
    """A closed load in several rounds, with direct graph calls before and after each.

    The machine's speed changes within a minute. So each round is compared with the adjacent direct calls (for a
    single client those with pauses, else those at the best batch size), and the result is the median of the rounds.
    """

    def call() -> dict[str, Any]:
        return direct.alone(seconds / 2) if clients == 1 else direct.measure(size, seconds / 2)

    seconds = 2 * options.seconds / _ROUNDS
    calls, loads, costs = [call()], [], []
    for _ in range(_ROUNDS):
        before = server.processor_seconds()
        load: Load = in_process(closed_loop, server.address, requests, clients, seconds)
        costs.append(1e3 * (server.processor_seconds() - before) / len(load.latencies))
        loads.append(load)
        calls.append(call())

    def adjacent(figure: str) -> npt.NDArray[np.float64]:
        values: npt.NDArray[np.float64] = np.array([row[figure] for row in calls])
        return (values[:-1] + values[1:]) / 2

    def median(values: npt.NDArray[np.float64]) -> float:
        return round(float(np.median(values)), 3)

    result = together(loads).summary() | {
        "server_cpu_ms": median(np.array(costs)),
        "direct_cpu_ms": median(adjacent("cpu_ms")),
        "direct_throughput": median(adjacent("throughput")),
    }
    if clients == 1:
        p50 = np.array([1e3 * float(np.median(load.latencies)) for load in loads])
        return result | {"overhead_ms_p50": median(p50 - adjacent("p50_ms"))}
    ratios = {
        "cpu_ratio": adjacent("cpu_ms") / costs,
        "throughput_ratio": np.array([load.throughput for load in loads]) / adjacent("throughput"),
    }
    result |= {name: median(values) for name, values in ratios.items()}
    return result | {f"{name}s": values.round(3).tolist() for name, values in ratios.items()}


def _swap(server: Server, requests: Sequence[bytes], rate: float, options: _Options) -> dict[str, Any]:
    """Adds a new version during an open load; compares latencies before and during the swap."""
    seconds = _SWAP_START + max(60.0, 4 * options.seconds)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        running = pool.apply_async(open_loop, (server.address, requests, rate, seconds))
        time.sleep(_SWAP_START)
        began = time.monotonic()
        server.add_version(2)
        took = server.wait_for_version(2) - began
        load: Load = running.get()
    appeared = began - load.started
    ends, latencies = np.array(load.ends), np.array(load.latencies) * 1e3
    before = latencies[ends < appeared]
    during = latencies[(ends >= appeared) & (ends < appeared + took + 1.0)]
    p99_before, p99_during = np.percentile(before, 99), np.percentile(during, 99)
    return {
        "failed": sum(count for status, count in load.statuses.items() if status != "OK"),
        "requests": sum(load.statuses.values()),
        "statuses": dict(load.statuses),
        "seconds_until_available": round(took, 1),
        "p99_ms_before": round(float(p99_before), 2),
        "p99_ms_during": round(float(p99_during), 2),
        "p50_ms_before": round(float(np.median(before)), 2),
        "p50_ms_during": round(float(np.median(during)), 2),
        "p99_ratio": round(float(p99_during / p99_before), 2),
        "was_done_under_load": bool(took < seconds - _SWAP_START),
    }


def _text_proto(options: BatchingOptions) -> str:
    lines = []
    for name, value in asdict(options).items():
        if isinstance(value, bool):
            lines.append(f"{name}: {str(value).lower()}" if name == "pad_variable_length_inputs" else "")
        elif isinstance(value, int):
            lines.append(f"{name} {{ value: {value} }}")
    return "\n".join(filter(None, lines)) + "\n"


def _direct_table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    columns = ("batch size", "callers", "pause ms", "requests/s", "processor ms/request", "p50 ms/call")
    keys = ("batch_size", "callers", "pause_ms", "throughput", "cpu_ms", "p50_ms")
    return Table(title, columns, [[str(row[key]) for key in keys] for row in rows])


def _page(result: Result) -> list[Table | str]:
    return [
        _direct_table(f"{name}: the graph called directly", measured["direct"])
        for name, measured in result["models"].items()
    ]


if __name__ == "__main__":
    sys.exit(main())
