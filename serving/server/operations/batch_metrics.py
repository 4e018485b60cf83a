"""Metrics of batched requests, under the names of TensorFlow Serving's batching session.

As in its ``batching/batching_session.cc`` and ``batching_util.h``, every run of a server with ``--enable_batching`` is
a batch, even of a single request, however it was formed: by the native front, a group of Predict requests,
TensorFlow's queue, or a request that found the model idle. Warm-up is not counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.runtime.batching import BatchingOptions
from serving.server.operations.metric_values import Family, Histogram, Number, Snapshot, exponential

_SESSION = "/tensorflow/serving/batching_session/"
_OP = "/tensorflow/serving/batching/"
_WAITS = exponential(100, 1.2, 52)  # 100 us to about 1 s
_SIZES = exponential(1, 2, 14)  # 1 to 8,192
_POOL = ""  # The real server's label too: its sessions are made without the pool's name.


class BatchMetrics:
    """Batching metrics. Thread-safe.

    Attributes:
        families: all metrics.
    """

    def __init__(self) -> None:
        self._queuing_latency = self._histogram("queuing_latency", _WAITS, "thread_pool_name")
        self._wrapped_run_count = Family(_SESSION + "wrapped_run_count", "counter", (), Number)
        self._input_batch_size = self._histogram("input_batch_size", _SIZES)
        self._processed_batch_size = self._histogram("processed_batch_size", _SIZES)
        self._padding_size = self._histogram("padding_size", _SIZES, "execution_batch_size")
        self._settings = {
            name: Family(_OP + name, "gauge", ("model_name", "op_name"), Number)
            for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
        }
        self.families: list[Family[Any]] = [
            self._queuing_latency,
            self._wrapped_run_count,
            self._input_batch_size,
            self._processed_batch_size,
            self._padding_size,
            *self._settings.values(),
        ]

    def request(self, seconds: float, rows: int, inputs: int) -> None:
        """Counts a request that left the queue.

        Args:
            seconds: how long it waited.
            rows: its rows.
            inputs: its tensors, each with that many rows.
        """
        self._queuing_latency.cell(_POOL).observe(max(seconds, 0.0) * 1e6)
        observe = self._input_batch_size.cell().observe
        for _ in range(inputs):
            observe(rows)

    def run(self, size: int, rows: int) -> None:
        """Counts a run of the model.

        Args:
            size: its rows.
            rows: those of requests; the others are padding.
        """
        self._wrapped_run_count.cell().add()
        self._processed_batch_size.cell().observe(size)
        self._padding_size.cell(str(size)).observe(size - rows)

    def configure(self, model: str, operation: str, options: BatchingOptions) -> None:
        """Exports the settings of the operation that batches a signature."""
        for name, family in self._settings.items():
            family.cell(model, operation).set(getattr(options, name))

    @staticmethod
    def _histogram(name: str, bounds: Sequence[float], *labels: str) -> Family[Histogram]:
        return Family(_SESSION + name, "histogram", labels, lambda: Histogram(bounds), bounds)


def native_metrics(
    waits: tuple[list[int], float], inputs: tuple[list[int], float], runs: Mapping[int, int]
) -> Snapshot:
    """The native front's counts as metrics.

    Args:
        waits: (requests in each bucket of waiting times, their sum in microseconds).
        inputs: (input tensors in each bucket of sizes, the sum of their rows).
        runs: number of groups that it ran, by rows, none of which are padding.
    """
    counted = BatchMetrics()
    for size, count in runs.items():
        counted._wrapped_run_count.cell().add(count)
        counted._processed_batch_size.cell().observe(size, count)
        counted._padding_size.cell(str(size)).observe(0, count)
    return {family.name: family.read() for family in counted.families} | {
        counted._queuing_latency.name: {(_POOL,): waits},
        counted._input_batch_size.name: {(): inputs},
    }
