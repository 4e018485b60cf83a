"""Requests logged by LoggingConfig. Sources: logging_config.proto, log_collector_config.proto, prediction_log.proto.

The public TensorFlow Serving registers no log collector, so only the types of the files can be compared.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.conformance.models import CLASSIFY, REGRESS
from tests.conformance.server import SECONDS, Server, config_list, failure, model_config, predict_request, wait_for
from tests.conformance.test_inference import classification, example, multi_inference, regression

pytestmark = [pytest.mark.own_server, pytest.mark.babelrec_only]


def _read(folder: Path, prefix: str) -> list[Any]:
    paths = sorted(str(path) for path in folder.iterdir() if path.name.startswith(prefix))
    return [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for path in paths
        for record in tf.data.TFRecordDataset(path)
    ]


def _logged(prefix: Path, rate: float) -> str:
    return (
        f"logging_config {{ log_collector_config {{ type: 'file' filename_prefix: '{prefix}' }} "
        f"sampling_config {{ sampling_rate: {rate} }} }}"
    )


def test_requests_are_logged_unchanged(models: Path, tmp_path: Path) -> None:
    half = models / "half_plus_two"
    config = config_list(
        model_config("all", half, _logged(tmp_path / "all", 1.0)),
        model_config("none", half, _logged(tmp_path / "none", 0.0)),
        model_config("some", half, _logged(tmp_path / "some", 0.5)),
        model_config("silent", half),
    )
    examples = [example(x=1.0), example(x=2.0)]
    requests = {
        "predict_log": predict_request("all", {"x": [2.0]}, outputs=["y"]),
        "classify_log": classification("all", "classify_x_to_y", examples),
        "regress_log": regression("all", "regress_x_to_y", examples, example(x2=1.0)),
        "multi_inference_log": multi_inference(
            [("all", "regress_x_to_y", REGRESS), ("all", "classify_x_to_y", CLASSIFY)], examples
        ),
    }
    with Server(config=config) as server:
        server.wait_until_ready()
        calls = [server.prediction.Predict, server.prediction.Classify, server.prediction.Regress]
        calls.append(server.prediction.MultiInference)
        responses = [call(request, timeout=SECONDS) for call, request in zip(calls, requests.values(), strict=True)]
        failure(server.prediction.Predict, predict_request("all", {"x": [b"not good"]}))
        assert server.post("/v1/models/all:predict", {"instances": [5.0]}) == {"predictions": [4.5]}
        for name in ("none", "silent"):
            server.predict(name, {"x": [2.0]})
        for _ in range(100):
            server.predict("some", {"x": [2.0]})
        assert server.stop() == 0
    logs = _read(tmp_path, "all")
    assert [log.WhichOneof("log_type") for log in logs] == [*requests, "predict_log"]
    for log, (kind, request), response in zip(logs, requests.items(), responses, strict=False):
        assert getattr(log, kind).request == request
        assert getattr(log, kind).response == response
        assert log.log_metadata.model_spec.name == "all"
        assert log.log_metadata.sampling_config.sampling_rate == 1.0
        assert list(log.log_metadata.saved_model_tags) == ["serve"]
    assert list(logs[-1].predict_log.request.inputs["x"].float_val) == [5.0]
    assert _read(tmp_path, "none") == []
    # Of 100 at a rate of one half: outside these bounds once in 10^15 runs.
    assert 10 <= len(_read(tmp_path, "some")) <= 90


def test_logs_are_warm_up_requests(models: Path, tmp_path: Path) -> None:
    """A request log can be used as a model's warm-up file unchanged."""
    config = config_list(model_config("m", models / "half_plus_two", _logged(tmp_path / "log", 1.0)))
    with Server(config=config) as server:
        server.wait_until_ready()
        server.predict("m", {"x": [2.0]})
        assert server.stop() == 0
    (path,) = tmp_path.glob("log*")
    version = tmp_path / "m" / "1"
    shutil.copytree(models / "half_plus_two" / "00000123", version)
    (version / "assets.extra").mkdir()
    path.rename(version / "assets.extra" / "tf_serving_warmup_requests")
    with Server("--model_name=m", f"--model_base_path={version.parent}", "--max_num_load_retries=0") as server:
        server.wait_until_ready()
        assert server.available("m") == [1]


def test_reload_changes_what_is_logged(models: Path, tmp_path: Path) -> None:
    half = models / "half_plus_two"
    with Server(f"--request_log_root={tmp_path}", config=config_list(model_config("m", half))) as server:
        server.wait_until_ready()
        server.predict("m", {"x": [1.0]})
        server.reload(config_list(model_config("m", half, _logged(tmp_path / "log", 1.0))))
        server.predict("m", {"x": [2.0]})
        server.reload(config_list(model_config("m", half)))
        server.predict("m", {"x": [3.0]})
        wait_for(lambda: len(_read(tmp_path, "log")) > 0, "a record")
        assert server.stop() == 0
    (log,) = _read(tmp_path, "log")
    assert list(log.predict_log.request.inputs["x"].float_val) == [2.0]
