"""Metrics for Prometheus. Sources: serving_config.md, monitoring_config.proto, and names in the server's sources."""

import re
from collections import Counter
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conformance.conftest import METRICS_PATH
from tests.conformance.server import Server, Target, failure, predict_request
from tests.conformance.test_inference import example, regression

_PREFIX = ":tensorflow:serving:"


class _Samples(Counter[tuple[str, frozenset[tuple[str, str]]]]):
    """Samples by name and labels."""

    def of(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that have these labels."""
        return sum(v for (n, ls), v in self.items() if n == name and labels.items() <= dict(ls).items())


def _read(server: Target) -> _Samples:
    answer = server.rest("GET", METRICS_PATH)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.body.decode()
    written = set(re.findall(r"^([^#\s{]+)", text, re.MULTILINE))
    samples = _Samples()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # The parser adds a suffix to counter names.
            name = sample.name if sample.name in written else sample.name.removesuffix("_total")
            samples[name, frozenset(sample.labels.items())] += sample.value  # type: ignore[assignment]
    assert {name for name, _ in samples} == written
    return samples


def test_requests_are_counted(server: Target) -> None:
    before = _read(server)
    for _ in range(3):
        server.predict("half_plus_three", {"x": [2.0]})
    failure(server.prediction.Predict, predict_request("half_plus_three", {}))
    after = _read(server)
    name = f"{_PREFIX}request_count"
    for status, expected in (("OK", 3), ("INVALID_ARGUMENT", 1)):
        labels = {"model_name": "half_plus_three", "status": status}
        assert after.of(name, **labels) - before.of(name, **labels) == expected


def test_latencies_are_observed(server: Target) -> None:
    before = _read(server)
    for _ in range(2):
        server.predict("half_plus_three", {"x": [2.0]})
    server.post("/v1/models/half_plus_three:predict", {"instances": [1.0]})
    after = _read(server)
    for name, api, expected in (("request_latency", "Predict", 2), ("runtime_latency", "Predict", 3)):
        grown = {}
        for part in ("count", "sum"):
            labels = {"model_name": "half_plus_three", "API": api}
            full = f"{_PREFIX}{name}_{part}"
            grown[part] = after.of(full, **labels) - before.of(full, **labels)
        assert grown["count"] == expected, (name, grown)
        assert grown["sum"] > 0
        buckets = {labels: v for (n, labels), v in after.items() if n == f"{_PREFIX}{name}_bucket"}
        assert buckets
        infinite = sum(value for labels, value in buckets.items() if ("le", "+Inf") in labels)
        assert infinite == after.of(f"{_PREFIX}{name}_count")


def test_examples_are_counted(server: Target) -> None:
    before = _read(server)
    request = regression("half_plus_three", "regress_x_to_y", [example(x=1.0)] * 5)
    server.prediction.Regress(request, timeout=30)
    after = _read(server)
    name = f"{_PREFIX}request_example_count_total"
    labels = {"model": "half_plus_three"}
    assert after.of(name, **labels) - before.of(name, **labels) == 5


def test_loads_are_counted(server: Target) -> None:
    samples = _read(server)
    names = {name for name, _ in samples}
    # TensorFlow's own.
    assert ":tensorflow:cc:saved_model:load_attempt_count" in names
    assert ":tensorflow:cc:saved_model:load_latency" in names


def test_similar_paths(server: Target) -> None:
    assert server.rest("GET", f"{METRICS_PATH}/more").status == 404
    assert server.rest("GET", f"{METRICS_PATH}?a=b").status == 400


@pytest.mark.own_server
def test_off_unless_configured(models: Path, tmp_path: Path) -> None:
    flags = "--model_name=m", f"--model_base_path={models / 'half_plus_two'}"
    with Server(*flags) as server:
        server.wait_until_ready()
        assert server.rest("GET", METRICS_PATH).status == 404
    config = tmp_path / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    with Server(*flags, f"--monitoring_config_file={config}") as server:
        server.wait_until_ready()
        # The default of the real server.
        assert server.rest("GET", "/monitoring/prometheus/metrics").status == 200
        code, _ = failure(server.prediction.Predict, predict_request("other", {}))
        assert code is grpc.StatusCode.NOT_FOUND
