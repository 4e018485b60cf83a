"""What the server counts, under TensorFlow Serving's names and in its Prometheus text.

Names, labels and bucket bounds are those of TensorFlow Serving 2.20 (``servables/tensorflow/util.cc``,
``saved_model_warmup_util.cc``, ``core/request_logger.cc``, ``batching/batching_session.cc``) and of the
TensorFlow runtime under it (``cc/saved_model/loader.cc``, ``core/framework/metrics.cc``); the text is what
``util/prometheus_exporter.cc`` prints, so that dashboards and alerts go on working. Cells are plain Python
numbers behind a lock: an observation costs less than a microsecond, prometheus_client's own several.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from serving.server.errors import StatusError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Clients choose model names freely, so the number and length of what they can make us keep has a bound.
MAX_CELLS = 4096
MAX_LABEL = 256
OTHER = "(other)"

Labels = tuple[str, ...]
# Raw metric name -> label values -> number, or (count of each bucket, sum).
Snapshot = dict[str, dict[Labels, Any]]
States = Callable[[], Mapping[str, Mapping[int, Any]]]


class Number:
    """One number; thread-safe."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._lock = threading.Lock()

    def add(self, amount: float = 1) -> None:
        """Adds ``amount``."""
        with self._lock:
            self.value += amount

    def set(self, value: float) -> None:
        """Replaces the number."""
        self.value = value

    def read(self) -> float:
        """The number as it is now."""
        return self.value


class Histogram:
    """Counts of observations by bucket, and their sum; thread-safe.

    Args:
        bounds: inclusive upper bounds, rising; what lies above the last one has a bucket of its own.
    """

    __slots__ = ("_bounds", "_counts", "_lock", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Adds one observation."""
        index = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[index] += 1
            self._sum += value

    def read(self) -> tuple[list[int], float]:
        """(observations in each bucket, their sum)."""
        with self._lock:
            return list(self._counts), self._sum


Cell = TypeVar("Cell", Number, Histogram)


class Family(Generic[Cell]):
    """All cells of one metric, by the values of its labels.

    Args:
        name: TensorFlow's name, ``/tensorflow/serving/request_count``.
        kind: Prometheus' type: ``counter``, ``gauge`` or ``histogram``.
        labels: names of the labels.
        make: makes a new cell.
        bounds: of the histogram's buckets.
    """

    def __init__(
        self, name: str, kind: str, labels: Sequence[str], make: Callable[[], Cell], bounds: Sequence[float] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.labels = tuple(labels)
        self.bounds = bounds
        self._make: Callable[[], Cell] = make
        self._cells: dict[Labels, Cell] = {}
        self._lock = threading.Lock()

    def cell(self, *values: str) -> Cell:
        """The cell of these label values, made at its first use; keep it where speed matters.

        Once ``MAX_CELLS`` exist, new label values share one cell labelled ``(other)``.
        """
        cell = self._cells.get(values)
        return cell if cell is not None else self._new(values)

    def read(self) -> dict[Labels, Any]:
        """Values of all cells by label values."""
        with self._lock:
            cells = list(self._cells.items())
        return {labels: cell.read() for labels, cell in cells}

    def total(self) -> float:
        """Sum over all cells of a counter or gauge, or the number of a histogram's observations."""
        return _total(self.read())

    def _new(self, values: Labels) -> Cell:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, got the values {values}")
        values = tuple(value[:MAX_LABEL] for value in values)
        with self._lock:
            if values not in self._cells and len(self._cells) >= MAX_CELLS:
                values = (OTHER,) * len(values)
            return self._cells.setdefault(values, self._make())


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Bounds of TensorFlow's ``Buckets::Exponential``, made as it makes them: by repeated multiplication."""
    bounds: list[float] = []
    bound = scale
    for _ in range(count):
        bounds.append(bound)
        bound *= growth
    return tuple(bounds)


_LATENCY = exponential(10, 1.8, 33)  # 10 us to about 20 minutes
_QUEUING = exponential(100, 1.2, 52)  # 100 us to about 1 s
_EXAMPLES = exponential(1, 2, 15)  # 1 to 16,384


class Metrics:
    """Everything that one server process counts. Thread-safe.

    Attributes:
        registry: a prometheus_client registry with the process's own figures; further collectors may be
            registered there and appear in the text.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._families: list[Family[Any]] = []
        self._states: States | None = None
        self._others: Callable[[], Iterable[Snapshot]] = tuple
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
        self.load_attempt_count = self._number("/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status")
        self.load_latency = self._number("/tensorflow/cc/saved_model/load_latency", "model_path")
        # Batching; filled by whatever forms the batches
        self.queuing_latency = self._histogram(
            "/tensorflow/serving/batching_session/queuing_latency", _QUEUING, "thread_pool_name"
        )
        self.wrapped_run_count = self._number("/tensorflow/serving/batching_session/wrapped_run_count")
        self.max_batch_size = self._gauge("/tensorflow/serving/batching/max_batch_size", "model_name", "op_name")
        self.batch_timeout_micros = self._gauge(
            "/tensorflow/serving/batching/batch_timeout_micros", "model_name", "op_name"
        )
        self.max_enqueued_batches = self._gauge(
            "/tensorflow/serving/batching/max_enqueued_batches", "model_name", "op_name"
        )
        self.num_batch_threads = self._gauge("/tensorflow/serving/batching/num_batch_threads", "model_name", "op_name")

    def watch_states(self, states: States) -> None:
        """Has the text show the state of every version.

        Args:
            states: gives, by model name and version, objects with a ``manager_state``.
        """
        self._states = states

    def add_source(self, source: Callable[[], Snapshot]) -> None:
        """Has what somebody else in this process counts added to the metrics of the same names.

        Args:
            source: gives the values, of any of this class's metrics, as ``snapshot`` does.
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

    def record_examples(self, model: str, count: int) -> None:
        """Counts the ``tf.Example``s of one Classify, Regress or MultiInference request."""
        self.request_example_counts.cell(model).observe(count)
        self.request_example_count_total.cell(model).add(count)

    def totals(self, names: Iterable[str]) -> dict[str, int]:
        """Present totals of those of the named metrics (``/tensorflow/...``) that exist."""
        wanted = set(names)
        values = self._read()
        return {family.name: int(_total(values[family.name])) for family in self._families if family.name in wanted}

    def snapshot(self) -> Snapshot:
        """All values, as plain containers that can be pickled and handed to another process's ``render``."""
        values = self._read()
        runs = values["/tensorflow/serving/runtime_latency"].values()
        values["/tensorflow/core/graph_runs"] = {(): sum(sum(counts) for counts, _ in runs)}
        values["/tensorflow/core/graph_run_time_usecs"] = {(): sum(total for _, total in runs)}
        if self._states is not None:
            values["/babelrec/serving/model_version_state"] = {
                (name[:MAX_LABEL], str(version), state.manager_state.name): 1
                for name, versions in self._states().items()
                for version, state in versions.items()
            }
        return values

    def watch_others(self, others: Callable[[], Iterable[Snapshot]]) -> None:
        """Names what gives the snapshots of the other processes of this server, for ``render``."""
        self._others = others

    def render(self) -> bytes:
        """The page that Prometheus reads, text format 0.0.4.

        With several processes counts are summed, and of gauges the greatest value is shown. The process figures are
        this process's alone.
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
        for name, kind, _, _ in shapes:
            for other in others:
                _merge(values[name], other.get(name, {}), kind)
        lines: list[str] = []
        for name, kind, labels, bounds in sorted(shapes):
            _print(lines, name, kind, labels, bounds, values[name])
        return "".join(line + "\n" for line in lines).encode() + generate_latest(self.registry)

    def _read(self) -> Snapshot:
        values = {family.name: family.read() for family in self._families}
        kinds = {family.name: family.kind for family in self._families}
        for source in self._sources:
            for name, more in source().items():
                _merge(values[name], more, kinds[name])
        return values

    def _number(self, name: str, *labels: str, kind: str = "counter") -> Family[Number]:
        family = Family(name, kind, labels, Number)
        self._families.append(family)
        return family

    def _gauge(self, name: str, *labels: str) -> Family[Number]:
        return self._number(name, *labels, kind="gauge")

    def _histogram(self, name: str, bounds: Sequence[float], *labels: str) -> Family[Histogram]:
        family = Family(name, "histogram", labels, lambda: Histogram(bounds), bounds)
        self._families.append(family)
        return family


def prometheus_name(name: str) -> str:
    """TensorFlow's name as its exporter writes it: ``/tensorflow/x`` -> ``:tensorflow:x``."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else ":" for c in name)


def _total(values: Mapping[Labels, Any]) -> float:
    return sum(sum(value[0]) if isinstance(value, tuple) else value for value in values.values())


def _merge(values: dict[Labels, Any], more: Mapping[Labels, Any], kind: str) -> None:
    for labels, value in more.items():
        mine = values.get(labels)
        if mine is None:
            values[labels] = value
        elif kind == "histogram":
            values[labels] = ([a + b for a, b in zip(mine[0], value[0], strict=True)], mine[1] + value[1])
        else:
            values[labels] = max(mine, value) if kind == "gauge" else mine + value


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
        counts, total = value
        comma = "," if pairs else ""
        cumulative = 0
        for bound, count in zip([*(f"{bound:g}" for bound in bounds), "+Inf"], counts, strict=True):
            cumulative += count
            lines.append(f'{name}_bucket{{{pairs}{comma}le="{bound}"}} {cumulative}')
        lines.append(f"{name}_sum{{{pairs}}} {_figure(total)}")
        lines.append(f"{name}_count{{{pairs}}} {cumulative}")


def _figure(value: float) -> str:
    # The real exporter rounds sums to six digits, which spoils rates once they are large.
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
