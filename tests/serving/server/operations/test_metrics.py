"""Metric names, numbers and text."""

import enum
import re
import threading
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from prometheus_client import Gauge
from prometheus_client.parser import text_string_to_metric_families

from serving.runtime.batching import BatchingOptions
from serving.server.errors import StatusError
from serving.server.operations.metric_values import MAX_CELLS, exponential
from serving.server.operations.metrics import Metrics, prometheus_name

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    # prometheus_client's parser renames counters, so it only checks the syntax.
    assert list(text_string_to_metric_families(text.decode()))
    found = {}
    for line in text.decode().splitlines():
        if not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match, line
            found[match[1], frozenset(_LABEL.findall(match[2] or ""))] = float(match[3])
    return found


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_the_text_matches_the_real_exporter() -> None:
    metrics = Metrics()
    metrics.request_count.cell("m", "OK").add()
    metrics.request_count.cell("m", "OK").add()
    metrics.request_count.cell('a"b\\c\nd', "NOT_FOUND").add()
    for value in (1, 2, 3, 20000):
        metrics.request_example_counts.cell("m").observe(value)
    text = metrics.render().decode()
    lines = text.splitlines()
    start = lines.index("# TYPE :tensorflow:serving:request_count counter")
    assert lines[start + 1 : start + 3] == [
        ':tensorflow:serving:request_count{model_name="a\\"b\\\\c\\nd",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 2',
    ]
    start = lines.index("# TYPE :tensorflow:serving:request_example_counts histogram")
    counts = [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4]
    bounds = [*(str(2**n) for n in range(15)), "+Inf"]
    assert lines[start + 1 : start + 19] == [
        *(
            f':tensorflow:serving:request_example_counts_bucket{{model="m",le="{bound}"}} {count}'
            for bound, count in zip(bounds, counts, strict=True)
        ),
        ':tensorflow:serving:request_example_counts_sum{model="m"} 20006',
        ':tensorflow:serving:request_example_counts_count{model="m"} 4',
    ]
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (":tensorflow:serving:request_count", "counter"),
        (":tensorflow:serving:request_latency", "histogram"),
        (":tensorflow:serving:runtime_latency", "histogram"),
        (":tensorflow:serving:request_example_counts", "histogram"),
        (":tensorflow:serving:request_example_count_total", "counter"),
        (":tensorflow:serving:request_log_count", "counter"),
        (":tensorflow:serving:model_warmup_latency", "histogram"),
        (":tensorflow:serving:batching_session:queuing_latency", "histogram"),
        (":tensorflow:serving:batching_session:wrapped_run_count", "counter"),
        (":tensorflow:serving:batching_session:input_batch_size", "histogram"),
        (":tensorflow:serving:batching_session:processed_batch_size", "histogram"),
        (":tensorflow:serving:batching_session:padding_size", "histogram"),
        (":tensorflow:serving:batching:max_batch_size", "gauge"),
        (":tensorflow:serving:batching:batch_timeout_micros", "gauge"),
        (":tensorflow:serving:batching:max_enqueued_batches", "gauge"),
        (":tensorflow:serving:batching:num_batch_threads", "gauge"),
        (":tensorflow:cc:saved_model:load_attempt_count", "counter"),
        (":tensorflow:cc:saved_model:load_latency", "counter"),
        (":tensorflow:core:graph_runs", "counter"),
        (":tensorflow:core:graph_run_time_usecs", "counter"),
    ],
)
def test_names_and_types_are_exported_before_anything_was_counted(name: str, kind: str) -> None:
    assert f"# TYPE {name} {kind}" in Metrics().render().decode().splitlines()


# The bounds of every latency histogram, as a page of a stock server shows them.
# fmt: off
BOUNDS = [
    "10", "18", "32.4", "58.32", "104.976", "188.957", "340.122", "612.22", "1102",
    "1983.59", "3570.47", "6426.84", "11568.3", "20823", "37481.3", "67466.4", "121440", "218591",
    "393464", "708235", "1.27482e+06", "2.29468e+06", "4.13043e+06", "7.43477e+06", "1.33826e+07", "2.40887e+07",
    "4.33596e+07", "7.80473e+07", "1.40485e+08", "2.52873e+08", "4.55172e+08", "8.19309e+08", "1.47476e+09", "+Inf",
]
# fmt: on


def test_latency_buckets_match_a_stock_server() -> None:
    metrics = Metrics()
    metrics.request_latency.cell("m", "Predict", "GRPC").observe(105)
    values = samples(metrics.render())
    buckets = {dict(k[1])["le"]: v for k, v in values.items() if k[0] == ":tensorflow:serving:request_latency_bucket"}
    assert list(buckets) == BOUNDS
    assert list(buckets.values()) == [0] * 5 + [1] * 29
    assert len(exponential(100, 1.2, 52)) == 52


def test_bucket_bounds_are_inclusive() -> None:
    metrics = Metrics()
    metrics.request_example_counts.cell("m").observe(4)
    values = samples(metrics.render())
    assert values[key(":tensorflow:serving:request_example_counts_bucket", model="m", le="2")] == 0
    assert values[key(":tensorflow:serving:request_example_counts_bucket", model="m", le="4")] == 1


def test_loads_and_warm_ups() -> None:
    metrics = Metrics()
    metrics.record_load("/models/m/1", 1.5)
    metrics.record_load("/models/m/2", 0.5, StatusError(grpc.StatusCode.NOT_FOUND, "gone"))
    metrics.record_warm_up("/models/m/1", 0.25)
    values = samples(metrics.render())
    attempts = ":tensorflow:cc:saved_model:load_attempt_count"
    assert values[key(attempts, model_path="/models/m/1", status="success")] == 1
    assert values[key(attempts, model_path="/models/m/2", status="fail")] == 1
    assert values[key(":tensorflow:cc:saved_model:load_latency", model_path="/models/m/1")] == 1_500_000
    assert key(":tensorflow:cc:saved_model:load_latency", model_path="/models/m/2") not in values
    warm_up = ":tensorflow:serving:model_warmup_latency_sum"
    assert values[key(warm_up, model_path="/models/m/1", status="OK")] == 250_000


def test_graph_runs_are_derived_from_the_runtime_latency() -> None:
    metrics = Metrics()
    for microseconds in (100, 250):
        metrics.runtime_latency.cell("m", "Predict", "TF1").observe(microseconds)
    values = samples(metrics.render())
    assert values[key(":tensorflow:core:graph_runs")] == 2
    assert values[key(":tensorflow:core:graph_run_time_usecs")] == 350


class _State(enum.IntEnum):
    AVAILABLE = 30
    END = 50


@dataclass
class _Version:
    manager_state: Any


def test_states_of_versions() -> None:
    metrics = Metrics()
    states = {"m": {2: _Version(_State.AVAILABLE), 1: _Version(_State.END)}}
    metrics.watch_states(lambda: states)
    name = ":babelrec:serving:model_version_state"
    values = samples(metrics.render())
    assert values[key(name, model_name="m", version="2", state="AVAILABLE")] == 1
    assert values[key(name, model_name="m", version="1", state="END")] == 1


def test_process_metrics_and_other_collectors() -> None:
    metrics = Metrics()
    Gauge("in_flight", "Requests being answered.", registry=metrics.registry).set(3)
    values = samples(metrics.render())
    assert values[key("in_flight")] == 3
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert values[key(name)] > 0


def test_nothing_is_lost_between_threads() -> None:
    metrics = Metrics()

    def work() -> None:
        for n in range(2000):
            metrics.request_count.cell("m", "OK").add()
            metrics.request_latency.cell("m", "Predict", "GRPC").observe(n)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.request_count.total() == 16_000
    counts, total = metrics.request_latency.read()["m", "Predict", "GRPC"]
    assert sum(counts) == 16_000
    assert total == 8 * sum(range(2000))


def test_a_client_cannot_fill_the_memory_with_names() -> None:
    metrics = Metrics()
    for n in range(MAX_CELLS + 50):
        metrics.request_count.cell(f"{n:05d}" + "x" * 10_000, "NOT_FOUND").add()
    values = metrics.request_count.read()
    assert len(values) == MAX_CELLS + 1
    assert values["(other)", "(other)"] == 50
    assert max(len(name) for name, _ in values) == 256
    with pytest.raises(ValueError, match="labels"):
        metrics.request_count.cell("too few")


def test_pages_of_several_processes() -> None:
    parts = [Metrics() for _ in range(3)]
    for n, metrics in enumerate(parts, start=1):
        metrics.request_count.cell("m", "OK").add(n)
        metrics.batching.configure("m", "batch", BatchingOptions(max_batch_size=32 if n == 2 else 8))
        metrics.request_example_counts.cell("m").observe(n)
    parts[2].request_count.cell("other", "OK").add()
    dead = Metrics()
    dead.request_count.cell("m", "OK").add(10)
    dead.batching.configure("m", "batch", BatchingOptions(max_batch_size=64))
    others = [(metrics.snapshot(), metrics is not dead) for metrics in (*parts[1:], dead)]
    parts[0].watch_others(lambda: others)
    values = samples(parts[0].render())
    assert values[key(":tensorflow:serving:request_count", model_name="m", status="OK")] == 16
    assert values[key(":tensorflow:serving:request_count", model_name="other", status="OK")] == 1
    assert values[key(":tensorflow:serving:batching:max_batch_size", model_name="m", op_name="batch")] == 32
    assert values[key(":tensorflow:serving:request_example_counts_count", model="m")] == 3
    assert values[key(":tensorflow:serving:request_example_counts_sum", model="m")] == 6
    assert parts[0].request_count.total() == 1


def test_batches_are_counted_like_in_the_real_server() -> None:
    metrics = Metrics()
    # Two requests of 3 and 2 rows, with two inputs each, in a batch that was padded to 8.
    for milliseconds, rows in ((0.05, 3), (2, 2)):
        metrics.batching.request(milliseconds / 1000, rows, 2)
    metrics.batching.run(8, 5)
    values = samples(metrics.render())
    session = ":tensorflow:serving:batching_session:"
    assert values[key(f"{session}wrapped_run_count")] == 1
    for name, labels, count, amount in (
        ("queuing_latency", {"thread_pool_name": ""}, 2, 2050),
        ("input_batch_size", {}, 4, 10),
        ("processed_batch_size", {}, 1, 8),
        ("padding_size", {"execution_batch_size": "8"}, 1, 3),
    ):
        assert values[key(f"{session}{name}_count", **labels)] == count
        assert values[key(f"{session}{name}_sum", **labels)] == pytest.approx(amount)
    buckets = [dict(k[1])["le"] for k in values if k[0] == f"{session}input_batch_size_bucket"]
    assert buckets == [*(str(2**n) for n in range(14)), "+Inf"]
    assert len([k for k in values if k[0] == f"{session}queuing_latency_bucket"]) == 53


def test_names() -> None:
    assert prometheus_name("/tensorflow/cc/saved_model/load-latency") == ":tensorflow:cc:saved_model:load:latency"
    metrics = Metrics()
    metrics.request_count.cell("m", "OK").add(2)
    assert metrics.totals(["/tensorflow/serving/request_count", "/no/such/metric"]) == {
        "/tensorflow/serving/request_count": 2
    }
