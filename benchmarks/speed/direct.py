"""A recommender's graph called directly: in a loop, at several batch sizes, without any server."""

import multiprocessing
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from benchmarks.harness.timing import timed
from serving import contract
from serving.client.types import Query, inputs_of
from serving.private.tensorflow import library
from serving.protos import config_pb2
from serving.runtime.session import SavedModelSession
from serving.runtime.tensors import tensor_from_proto
from serving.server.execution import ops
from serving.tensors import to_proto

_BATCH_SIZES = (1, 8, 16, 32, 64, 128)
_PASSES = 5
# Between requests of a single client, time passes for its own work and the network, and caches and cores cool down.
# The graph's time is therefore also measured with a pause of about that length.
_PAUSE_SECONDS = 0.0005
_caller: "_Caller | None" = None


class Direct:
    """The graph alone, in a separate process: TensorFlow's C API, no batching, no server.

    Between measurements the process waits, so that others can be measured in alternation.

    Args:
        version: the version directory.
        queries: the queries that batches are made of.
        session_config: the server's ``ConfigProto`` as text.
        inline: whether a run stays in its calling thread, as in the server with batching.
    """

    def __init__(self, version: Path, queries: Sequence[Query], session_config: str, *, inline: bool = False) -> None:
        self._process = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_load,
            initargs=(version, queries, session_config, inline),
        )

    def __enter__(self) -> "Direct":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown()

    def table(self, seconds: float) -> list[dict[str, Any]]:
        """Every batch size with one and two callers, ``seconds`` each; first a single caller with pauses.

        In several passes, as the machine's speed varies; each row is the pass with the median throughput.
        """
        part = seconds / _PASSES
        passes = [
            [self.alone(part)]
            + [self.measure(size, part, callers=callers) for size in _BATCH_SIZES for callers in (1, 2)]
            for _ in range(_PASSES)
        ]
        return [sorted(rows, key=lambda row: row["throughput"])[_PASSES // 2] for rows in zip(*passes, strict=True)]

    def alone(self, seconds: float) -> dict[str, Any]:
        """One row at a time, with pauses in between."""
        return self.measure(1, seconds, pause=_PAUSE_SECONDS)

    def measure(self, size: int, seconds: float, *, callers: int = 1, pause: float = 0.0) -> dict[str, Any]:
        """Calls with batches of ``size`` rows: throughput in rows per second, processor time per row, time per call."""
        return self._process.submit(_measure, size, seconds, callers, pause).result()


class _Caller:
    def __init__(self, version: Path, queries: Sequence[Query], session_config: str, inline: bool) -> None:
        ops.register()
        session = SavedModelSession(version, ["serve"], text_format.Parse(session_config, config_pb2.ConfigProto()))
        signature = session.meta_graph.signature_def["serving_default"]
        self._aliases = sorted(signature.inputs)
        self._call = session.callable(
            [session.output(signature.inputs[alias].name) for alias in self._aliases],
            [session.output(signature.outputs[alias].name) for alias in sorted(signature.outputs)],
            inline=inline,
        )
        self._queries = queries
        self._batches: dict[int, list[list[int]]] = {}

    def batches(self, size: int) -> list[list[int]]:
        """Up to eight batches of ``size`` rows."""
        if size not in self._batches:
            made = self._batches[size] = []
            for start in range(0, min(len(self._queries), 8 * size), size):
                inputs = inputs_of(contract.DEFAULT, self._queries[start : start + size])
                made.append([tensor_from_proto(to_proto(inputs[alias])) for alias in self._aliases])
        return self._batches[size]

    def run(self, batch: list[int]) -> None:
        for tensor in self._call(batch):
            library().TF_DeleteTensor(tensor)


def _load(version: Path, queries: Sequence[Query], session_config: str, inline: bool) -> None:
    global _caller
    _caller = _Caller(version, queries, session_config, inline)


def _measure(size: int, seconds: float, callers: int, pause: float) -> dict[str, Any]:
    caller = _caller
    assert caller is not None
    batches = caller.batches(size)
    for batch in batches[:3]:
        caller.run(batch)
    taken: list[float] = []

    def loop(end: float) -> None:
        index = 0
        while (start := time.perf_counter()) < end:
            caller.run(batches[index % len(batches)])
            taken.append(time.perf_counter() - start)
            index += 1
            if pause:
                time.sleep(pause)

    def together() -> None:
        end = time.perf_counter() + seconds
        threads = [threading.Thread(target=loop, args=(end,)) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    took, _ = timed(together)
    count = len(taken) * size
    return {
        "batch_size": size,
        "callers": callers,
        "pause_ms": 1e3 * pause,
        "throughput": round(count / took.wall, 1),
        "cpu_ms": round(1e3 * took.cpu / count, 3),
        "p50_ms": round(1e3 * float(np.median(taken)), 3),
    }
