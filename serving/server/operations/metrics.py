"""The server's metrics, under TensorFlow Serving's names and in its Prometheus text format.

Names, labels and bucket bounds are those of TensorFlow Serving 2.20 (``servables/tensorflow/util.cc``,
``saved_model_warmup_util.cc``, ``machine_learning_metadata.cc``, ``core/request_logger.cc``,
``batching/batching_session.cc``, ``batching/batching_util.h``) and of the runtime under it
(``cc/saved_model/loader.cc``, ``core/framework/metrics.cc``,
``core/kernels/batching_util/batch_resource_base.cc``); the text is what ``util/prometheus_exporter.cc`` prints, so
that dashboards and alerts keep working.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from serving.server.errors import StatusError
from serving.server.operations.batch_metrics import BatchMetrics
from serving.server.operations.metric_values import (
    MAX_LABEL,
    Family,
    Histogram,
    Labels,
    Number,
    Snapshot,
    exponential,
    merge,
    total,
)

REFUSED = "/babelrec/serving/refused_request_count"
"""Requests that exceed a limit, by the flag that sets it."""
States = Callable[[], Mapping[str, Mapping[int, Any]]]

_LATENCY = exponential(10, 1.8, 33)  # 10 us to about 20 minutes
_EXAMPLES = exponential(1, 2, 15)  # 1 to 16,384


class Metrics:
    """All metrics of one server process. Thread-safe.

    Attributes:
        registry: a prometheus_client registry with the process metrics; more collectors may be
            registered there and appear in the text.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._families: list[Family[Any]] = []
        self._states: States | None = None
        self._others: Callable[[], Iterable[tuple[Snapshot, bool]]] = tuple
        self._sources: list[Callable[[], Snapshot]] = []
        # Requests
        self.request_count = self._number("/tensorflow/serving/request_count", "model_name", "status")
        self.request_latency = self._histogram(
            "/tensorflow/serving/request_latency", _LATENCY, "model_name", "API", "entrypoint"
        )
        self.runtime_latency = self._histogram(
            "/tensorflow/serving/runtime_latency", _LATENCY, "model_name", "API", "runtime"
        )
        self.request_example_counts = self._histogram("/tensorflow/serving/request_example_counts", _EXAMPLES, "model")
        self.request_example_count_total = self._number("/tensorflow/serving/request_example_count_total", "model")
        self.request_log_count = self._number("/tensorflow/serving/request_log_count", "model_name", "status_code")
        # Loads
        self.model_warmup_latency = self._histogram(
            "/tensorflow/serving/model_warmup_latency", _LATENCY, "model_path", "status"
        )
        self.model_warmup_records_read = self._number("/tensorflow/serving/model_warmup_records_read", "model_path")
        # The real server's gauge holds text, which Prometheus can't show.
        self.mlmd_map = self._number("/tensorflow/serving/mlmd_map", "model_name", "version", "uuid", kind="gauge")
        self.load_attempt_count = self._number("/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status")
        self.load_latency = self._number("/tensorflow/cc/saved_model/load_latency", "model_path")
        self.version_check_count = self._number("/babelrec/serving/version_check_count", "model_path", "status")
        self._number("/babelrec/serving/grpc_open_connections", kind="gauge")
        self._number("/babelrec/serving/grpc_connection_count", "outcome")
        self.refused = self._number(REFUSED, "flag")
        self.batching = BatchMetrics()
        self._families += self.batching.families

    def watch_states(self, states: States) -> None:
        """Adds the state of every version to the text.

        Args:
            states: gives, by model name and version, objects with a ``manager_state``.
        """
        self._states = states

    def add_source(self, source: Callable[[], Snapshot]) -> None:
        """Adds another source in this process to the metrics of the same names.

        Args:
            source: returns values of any of this class's metrics, like ``snapshot``.
        """
        self._sources.append(source)

    def record_load(self, path: str, seconds: float, error: StatusError | None = None) -> None:
        """Counts one attempt to load the SavedModel at ``path``."""
        self.load_attempt_count.cell(path, "success" if error is None else "fail").add()
        if error is None:
            self.load_latency.cell(path).add(int(seconds * 1e6))

    def record_warm_up(self, path: str, seconds: float, error: StatusError | None = None) -> None:
        """Counts one warm-up of the model at ``path``."""
        self.model_warmup_latency.cell(path, "OK" if error is None else str(error)).observe(int(seconds * 1e6))

    def record_uuid(self, model: str, version: int, uuid: str) -> None:
        """Exports the ML Metadata key of a loaded version."""
        self.mlmd_map.cell(model, str(version), uuid).set(1)

    def record_examples(self, model: str, count: int) -> None:
        """Counts the ``tf.Example``s of one Classify, Regress or MultiInference request."""
        self.request_example_counts.cell(model).observe(count)
        self.request_example_count_total.cell(model).add(count)

    def totals(self, names: Iterable[str]) -> dict[str, int]:
        """Current totals of those of the named metrics (``/tensorflow/...``) that exist."""
        wanted = set(names)
        values = self._read()
        return {family.name: int(total(values[family.name])) for family in self._families if family.name in wanted}

    def snapshot(self) -> Snapshot:
        """All values, as plain containers that can be written as JSON and passed to another process's ``render``."""
        values = self._read()
        runs = values["/tensorflow/serving/runtime_latency"].values()
        values["/tensorflow/core/graph_runs"] = {(): sum(sum(counts) for counts, _ in runs)}
        values["/tensorflow/core/graph_run_time_usecs"] = {(): sum(micros for _, micros in runs)}
        if self._states is not None:
            values["/babelrec/serving/model_version_state"] = {
                (name[:MAX_LABEL], str(version), state.manager_state.name): 1
                for name, versions in self._states().items()
                for version, state in versions.items()
            }
        return values

    def watch_others(self, others: Callable[[], Iterable[tuple[Snapshot, bool]]]) -> None:
        """Sets the source of snapshots of this server's other processes, and of whether they are alive."""
        self._others = others

    def render(self) -> bytes:
        """The page that Prometheus reads, text format 0.0.4.

        With several processes, counts are summed, including those of processes that have died, and gauges show the
        maximum over live ones. The process metrics are those of this process alone.
        """
        values = self.snapshot()
        others = list(self._others())
        shapes: list[tuple[str, str, Labels, Sequence[float]]] = [
            (family.name, family.kind, family.labels, family.bounds) for family in self._families
        ]
        shapes += [
            ("/tensorflow/core/graph_runs", "counter", (), ()),
            ("/tensorflow/core/graph_run_time_usecs", "counter", (), ()),
        ]
        if self._states is not None:
            shapes.append(("/babelrec/serving/model_version_state", "gauge", ("model_name", "version", "state"), ()))
        kinds = {name: kind for name, kind, _, _ in shapes}
        for other, is_alive in others:
            counts = {name: cells for name, cells in other.items() if is_alive or kinds.get(name) != "gauge"}
            merge(values, counts, kinds)
        lines: list[str] = []
        for name, kind, labels, bounds in sorted(shapes):
            _print(lines, name, kind, labels, bounds, values[name])
        return "".join(line + "\n" for line in lines).encode() + generate_latest(self.registry)

    def _read(self) -> Snapshot:
        values = {family.name: family.read() for family in self._families}
        kinds = {family.name: family.kind for family in self._families}
        for source in self._sources:
            merge(values, source(), kinds)
        return values

    def _number(self, name: str, *labels: str, kind: str = "counter") -> Family[Number]:
        family = Family(name, kind, labels, Number)
        self._families.append(family)
        return family

    def _histogram(self, name: str, bounds: Sequence[float], *labels: str) -> Family[Histogram]:
        family = Family(name, "histogram", labels, lambda: Histogram(bounds), bounds)
        self._families.append(family)
        return family


def prometheus_name(name: str) -> str:
    """TensorFlow's name in its exporter's form: ``/tensorflow/x`` -> ``:tensorflow:x``."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else ":" for c in name)


def _print(
    lines: list[str], name: str, kind: str, labels: Labels, bounds: Sequence[float], values: Mapping[Labels, Any]
) -> None:
    name = prometheus_name(name)
    lines.append(f"# TYPE {name} {kind}")
    for given, value in sorted(values.items()):
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in zip(labels, given, strict=True))
        if kind != "histogram":
            lines.append(f"{name}{{{pairs}}} {_figure(value)}")
            continue
        counts, amount = value
        comma = "," if pairs else ""
        cumulative = 0
        for bound, count in zip([*(f"{bound:g}" for bound in bounds), "+Inf"], counts, strict=True):
            cumulative += count
            lines.append(f'{name}_bucket{{{pairs}{comma}le="{bound}"}} {cumulative}')
        lines.append(f"{name}_sum{{{pairs}}} {_figure(amount)}")
        lines.append(f"{name}_count{{{pairs}}} {cumulative}")


def _figure(value: float) -> str:
    # The real exporter rounds sums to six digits, which ruins rates once they are large.
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
