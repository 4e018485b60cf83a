"""Predict on a live server with batching, with and without the native front: the same for every client."""

import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.native.library import why_not
from tests.conformance.server import held
from tests.serving.live import LiveServer, wait_for
from tests.serving.models import copy_version
from tests.serving.server.api.test_rpc import RECOMMEND, failure, request_of

_BATCHING = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 1 }
num_batch_threads { value: 1 }
pad_variable_length_inputs: true
"""
_PATH = "/metrics"
_WAYS = [
    pytest.param("on", marks=pytest.mark.skipif(why_not() is not None, reason=str(why_not()))),
    "off",
]


@pytest.fixture(scope="module", params=_WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How Predict is answered."""
    return str(request.param)


@pytest.fixture
def start(way: str, tmp_path: Path) -> Callable[..., LiveServer]:
    """Starts a server with batching, whose Predict uses the front or not."""
    return starter(way, tmp_path)


def starter(way: str, tmp_path: Path) -> Callable[..., LiveServer]:
    parameters, monitoring = tmp_path / "batching.config", tmp_path / "monitoring.config"
    parameters.write_text(_BATCHING)
    monitoring.write_text(f'prometheus_config {{ enable: true path: "{_PATH}" }}')

    def make(*flags: str) -> LiveServer:
        base = tmp_path / "models"
        base.mkdir(exist_ok=True)
        return LiveServer(
            base,
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
            f"--native_predict={way}",
            "--rest_api_port=-1",
            f"--monitoring_config_file={monitoring}",
            *flags,
        )

    return make


@pytest.fixture(scope="module")
def shared(way: str, exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server for tests that don't change it."""
    folder = tmp_path_factory.mktemp("shared")
    yield from with_first_version(starter(way, folder), exports, folder)


@pytest.fixture
def served(start: Callable[..., LiveServer], exports: dict[int, Path], tmp_path: Path) -> Iterator[LiveServer]:
    yield from with_first_version(start, exports, tmp_path)


def with_first_version(
    start: Callable[..., LiveServer], exports: dict[int, Path], folder: Path
) -> Iterator[LiveServer]:
    (folder / "models").mkdir()
    copy_version(exports[1], folder / "models" / "1")
    with start() as server:
        yield server


def metrics(server: LiveServer) -> dict[str, float]:
    with urllib.request.urlopen(f"http://localhost:{server.rest_port}{_PATH}", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def part(inputs: dict[str, Any], row: int) -> dict[str, Any]:
    return {alias: value[row : row + 1] for alias, value in inputs.items()}


@pytest.mark.parametrize("signature", ["serving_default", "retrieve"])
def test_answers_match_the_graph(shared: LiveServer, graph: Any, signature: str) -> None:
    direct = graph.signatures[signature]
    given = [RECOMMEND, *(part(RECOMMEND, row) for row in (0, 1, 2, 1, 0))]
    with ThreadPoolExecutor(len(given)) as pool:
        for _ in range(5):
            requests = [request_of(inputs, signature) for inputs in given]
            responses = pool.map(lambda request: shared.prediction.Predict(request, timeout=60), requests)
            for inputs, response in zip(given, responses, strict=True):
                assert (response.model_spec.name, response.model_spec.signature_name) == ("recommender", signature)
                expected = direct(**inputs)
                assert set(response.outputs) == set(expected)
                for alias, value in expected.items():
                    found = tf.make_ndarray(response.outputs[alias])
                    if value.dtype == tf.string:
                        # Among requests that share a run, the longest list determines the width.
                        width = value.shape[1]
                        assert found[:, :width].tolist() == value.numpy().tolist()
                        assert set(found[:, width:].ravel().tolist()) <= {b""}
                    else:
                        np.testing.assert_allclose(found[:, : value.shape[1]], value.numpy(), rtol=1e-6)


def test_a_lone_client_never_waits_for_company(
    start: Callable[..., LiveServer], exports: dict[int, Path], tmp_path: Path
) -> None:
    parameters = tmp_path / "patient.config"
    parameters.write_text(_BATCHING.replace("{ value: 1000 }", "{ value: 600000000 }"))
    (tmp_path / "models").mkdir()
    copy_version(exports[1], tmp_path / "models" / "1")
    with start(f"--batching_parameters_file={parameters}") as server:
        for row in (0, 1, 2):
            response = server.prediction.Predict(request_of(part(RECOMMEND, row)), timeout=60)
            assert response.model_spec.version.value == 1


def test_versions_labels_filters_and_errors(shared: LiveServer) -> None:
    request = request_of(RECOMMEND)
    request.model_spec.version.value = 1
    assert shared.prediction.Predict(request, timeout=60).model_spec.version.value == 1
    request.model_spec.version.value = 2
    code, details = failure(shared.prediction.Predict, request)
    assert code is grpc.StatusCode.NOT_FOUND
    assert details == "Servable not found for request: Specific(recommender, 2)"
    filtered = shared.prediction.Predict(request_of(RECOMMEND, "", ("scores",)), timeout=60)
    assert list(filtered.outputs) == ["scores"]
    bad = request_of(RECOMMEND | {"k": tf.constant([1, 2], tf.int32)})
    assert failure(shared.prediction.Predict, bad)[0] is grpc.StatusCode.INVALID_ARGUMENT
    missing = request_of({"query": tf.constant(["x"])})
    assert failure(shared.prediction.Predict, missing)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_requests_are_counted(served: LiveServer) -> None:
    counted = ':tensorflow:serving:request_count{model_name="recommender",status="%s"}'
    observed = ':tensorflow:serving:request_latency_count{model_name="recommender",API="Predict",entrypoint="GRPC"}'
    run = ':tensorflow:serving:runtime_latency_%s{model_name="recommender",API="Predict",runtime="TF1"}'
    for _ in range(3):
        served.prediction.Predict(request_of(RECOMMEND), timeout=60)
    served.prediction.Predict(request_of(RECOMMEND, "", ("scores",)), timeout=60)
    failure(served.prediction.Predict, request_of({}))
    found = metrics(served)
    assert found[counted % "OK"] == 4
    assert found[counted % "INVALID_ARGUMENT"] == 1
    assert found[observed] == 4
    assert found[run % "count"] == 4
    session = ":tensorflow:serving:batching_session:"
    # The fifth was refused before it reached a batch.
    assert found[f"{session}wrapped_run_count{{}}"] == 4
    assert found[f'{session}queuing_latency_count{{thread_pool_name=""}}'] == 4
    size = len(RECOMMEND["query"])
    assert found[f"{session}processed_batch_size_sum{{}}"] == 4 * size
    assert found[f'{session}padding_size_count{{execution_batch_size="{size}"}}'] == 4
    assert found[f'{session}padding_size_sum{{execution_batch_size="{size}"}}'] == 0
    assert found[f"{session}input_batch_size_sum{{}}"] == 4 * size * len(RECOMMEND)
    settings = [name for name in found if name.startswith(":tensorflow:serving:batching:max_batch_size")]
    assert {found[name] for name in settings} == {8}
    assert all('model_name="recommender"' in name for name in settings)
    # One is a sum of microseconds: positive, and less than a minute.
    assert 10 < found[run % "sum"] < 60e6


# Without the front TensorFlow's queue fills up: tests/conformance/test_batching.py.
@pytest.mark.parametrize("way", _WAYS[:1], indirect=True)
def test_a_full_queue_and_a_deadline(served: LiveServer, tmp_path: Path) -> None:
    with held(served, tmp_path, "recommender") as inside:
        # The queue takes eight rows: two requests of three.
        waiting = [served.prediction.Predict.future(request_of(RECOMMEND), timeout=120) for _ in range(5)]
        wait_for(lambda: sum(call.done() for call in waiting) == 3, 60, "refused requests")
        refused = [call for call in waiting if call.done()]
        assert {call.code() for call in refused} == {grpc.StatusCode.UNAVAILABLE}
        assert all("queue to which this task was submitted is full" in call.details() for call in refused)
        late = failure(served.prediction.Predict, request_of(part(RECOMMEND, 0)), 0.2)
        assert late[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert inside.result().outputs
    assert all(call.result().outputs for call in waiting if call not in refused)


def test_a_new_version_takes_over(served: LiveServer, exports: dict[int, Path], tmp_path: Path) -> None:
    def score() -> float:
        response = served.prediction.Predict(request_of(part(RECOMMEND, 0)), timeout=60)
        return float(response.outputs["scores"].float_val[0])

    assert score() < 100
    copy_version(exports[2], tmp_path / "models" / "2")
    served.wait_for_state(2, "AVAILABLE")
    assert 100 < score() < 200
    served.wait_for_state(1, "END")
    (tmp_path / "models" / "2").rename(tmp_path / "gone")
    served.wait_for_state(1, "AVAILABLE")
    served.wait_for_state(2, "END")
    assert score() < 100


def test_logged_models_are_logged(start: Callable[..., LiveServer], exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "logged" / "1")
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "recommender" base_path: "{tmp_path}/logged" '
        'model_platform: "tensorflow" logging_config { '
        f'log_collector_config {{ type: "file" filename_prefix: "{tmp_path}/requests" }} '
        "sampling_config { sampling_rate: 1 } } } }"
    )
    request = request_of(RECOMMEND)
    with start(f"--model_config_file={config}") as server:
        for _ in range(3):
            server.prediction.Predict(request, timeout=60)
        server.terminate()
        assert server.wait() == 0
    (path,) = tmp_path.glob("requests-*.tfrecord")
    logs = [prediction_log_pb2.PredictionLog.FromString(item.numpy()) for item in tf.data.TFRecordDataset(str(path))]
    assert [log.predict_log.request for log in logs] == [request] * 3


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((), "it needs --enable_batching"),
        (
            ("--enable_batching", "--enable_signature_method_name_check"),
            "it does not support --enable_signature_method_name_check",
        ),
    ],
)
def test_on_fails_the_start_if_unavailable(
    exports: dict[int, Path], tmp_path: Path, flags: tuple[str, ...], reason: str
) -> None:
    copy_version(exports[1], tmp_path / "1")
    with LiveServer(tmp_path, "--native_predict=on", *flags) as server:
        assert server.wait() == 1
        assert f"--native_predict=on: {reason}" in server.text
    with LiveServer(tmp_path, "--native_predict=auto", *flags) as server:
        server.wait_for_log(f"Predict is answered in Python: {reason}")
        assert server.prediction.Predict(request_of(RECOMMEND), timeout=60).outputs
