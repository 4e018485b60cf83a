"""A recommender's graph called directly: in a loop, at several batch sizes, without any server."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from serving.client.encoding import recommend_inputs
from serving.client.types import Query
from serving.protos import config_pb2
from serving.runtime.c_api import library
from serving.runtime.session import SavedModelSession
from serving.runtime.tensors import tensor_from_proto
from serving.server import ops
from serving.tensors import to_proto

_BATCH_SIZES = (1, 8, 16, 32, 64, 128)
# Between the requests of a single client its own work and the network's pass, in which caches and cores cool down.
# The graph's own time for it is therefore measured with a pause of about that length too.
_PAUSE_SECONDS = 0.0005


def call_directly(version: Path, queries: Sequence[Query], seconds: float, session_config: str) -> list[dict[str, Any]]:
    """The graph alone, in a session of the same settings: TensorFlow's C API, no batching, no server.

    Runs in a process of its own.
    """
    ops.register()
    session = SavedModelSession(version, ["serve"], text_format.Parse(session_config, config_pb2.ConfigProto()))
    signature = session.meta_graph.signature_def["serving_default"]
    aliases = sorted(signature.inputs)
    call = session.callable(
        [session.output(signature.inputs[alias].name) for alias in aliases],
        [session.output(signature.outputs[alias].name) for alias in sorted(signature.outputs)],
    )
    rows = []
    for size, pause in ((1, _PAUSE_SECONDS), *((size, 0.0) for size in _BATCH_SIZES)):
        batches = []
        for start in range(0, min(len(queries), 8 * size), size):
            inputs = recommend_inputs(queries[start : start + size])
            batches.append([tensor_from_proto(to_proto(inputs[alias])) for alias in aliases])

        def run(index: int, batches: list[list[int]] = batches) -> None:
            for tensor in call(batches[index % len(batches)]):
                library().TF_DeleteTensor(tensor)

        for callers in (1,) if pause else (1, 2):
            for index in range(3):
                run(index)
            taken: list[float] = []

            def loop(
                end: float, taken: list[float] = taken, run: Callable[[int], None] = run, pause: float = pause
            ) -> None:
                index = 0
                while (start := time.perf_counter()) < end:
                    run(index)
                    taken.append(time.perf_counter() - start)
                    index += 1
                    if pause:
                        time.sleep(pause)

            began, processor = time.perf_counter(), time.process_time()
            threads = [threading.Thread(target=loop, args=(began + seconds / 2,)) for _ in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            count = len(taken) * size
            rows.append(
                {
                    "batch_size": size,
                    "callers": callers,
                    "pause_ms": 1e3 * pause,
                    "throughput": round(count / (time.perf_counter() - began), 1),
                    "cpu_ms": round(1e3 * (time.process_time() - processor) / count, 3),
                    "p50_ms": round(1e3 * float(np.median(taken)), 3),
                }
            )
    return rows
