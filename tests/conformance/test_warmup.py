"""Warm-up by assets.extra/tf_serving_warmup_requests. Sources: saved_model_warmup.md, prediction_log.proto."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.conformance.models import CLASSIFY, REGRESS
from tests.conformance.server import Server, State, config_list, failure, model_config, predict_request, wait_for
from tests.conformance.test_inference import classification, example, multi_inference, regression

pytestmark = pytest.mark.own_server
_Log = prediction_log_pb2.PredictionLog


def _predict(**inputs: object) -> Any:
    log = _Log()
    log.predict_log.request.CopyFrom(predict_request("any name", inputs or {"x": [1.0]}))
    return log


def _every_type() -> list[Any]:
    examples = [example(x=1.0), example(x=2.0)]
    classify, regress, both = _Log(), _Log(), _Log()
    classify.classify_log.request.CopyFrom(classification("counters", "classify", examples))
    regress.regress_log.request.CopyFrom(regression("counters", "regress", examples))
    tasks = [("counters", "classify", CLASSIFY), ("counters", "regress", REGRESS)]
    both.multi_inference_log.request.CopyFrom(multi_inference(tasks, examples))
    return [_predict(), _predict(), classify, regress, both]


def _write(version: Path, logs: Sequence[Any]) -> None:
    folder = version / "assets.extra"
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def _counts(server: Server, model: str) -> dict[str, int]:
    counts = server.predict(model, {"unused": np.float32(0)}, signature="count")
    return {method: int(value) for method, value in counts.items()}


def _model(models: Path, base: Path, version: int, logs: Sequence[Any] | None) -> str:
    aside = base / f".{version}"
    shutil.copytree(models / "counters" / "1", aside)
    if logs is not None:
        _write(aside, logs)
    aside.rename(base / str(version))
    return model_config(base.name, base)


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("warm-up")
    for name in ("counters", "cold"):
        (folder / name).mkdir()
    config = config_list(
        _model(models, folder / "counters", 1, _every_type()),
        _model(models, folder / "cold", 1, None),
    )
    flags = "--num_request_iterations_for_warmup=3", "--max_num_load_retries=0"
    with Server(*flags, config=config) as server:
        yield server.wait_until_ready()


def test_every_log_type_is_replayed_as_often_as_configured(server: Server) -> None:
    assert _counts(server, "counters") == {"predict": 6, "classify": 6, "regress": 6}
    assert _counts(server, "cold") == {"predict": 0, "classify": 0, "regress": 0}


def _garbage(version: Path) -> None:
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no TFRecord at all, but long enough")


def _no_log(version: Path) -> None:
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("logs", "change"),
    [
        ([_predict(), _predict(nobody_knows=[1.0])], None),
        ([_predict(x=["text"])], None),
        ([_predict()] * 1001, None),
        ([], _garbage),
        ([], _no_log),
    ],
    ids=["input", "type", "too many", "garbage", "no log"],
)
def test_broken_warm_up_fails_the_load(
    server: Server, models: Path, tmp_path: Path, logs: list[Any], change: Callable[[Path], None] | None
) -> None:
    base = tmp_path / "broken"
    base.mkdir()
    config = _model(models, base, 1, [_predict()])
    server.reload(config_list(config))
    assert _counts(server, "broken")["predict"] == 3
    aside = base / ".2"
    shutil.copytree(models / "counters" / "1", aside)
    _write(aside, logs)
    if change is not None:
        change(aside)
    aside.rename(base / "2")
    status = server.wait_for_state("broken", 2, State.END).status
    assert status.error_code != 0
    assert status.error_message
    assert server.available("broken") == [1]


def test_a_thousand_requests_are_not_too_many(server: Server, models: Path, tmp_path: Path) -> None:
    base = tmp_path / "many"
    base.mkdir()
    server.reload(config_list(_model(models, base, 1, [_predict()] * 1000)))
    assert _counts(server, "many")["predict"] == 3000


def test_a_version_is_loading_until_it_is_warm(server: Server, models: Path, tmp_path: Path) -> None:
    base = tmp_path / "held"
    shutil.copytree(models / "numbered" / "1", base / "1")
    server.reload(config_list(model_config("held", base)))
    shutil.copytree(models / "numbered" / "2", base / ".2")
    started, released = tmp_path / "started", tmp_path / "released"
    log = _Log()
    inputs = {"started": [str(started)], "released": [str(released)]}
    log.predict_log.request.CopyFrom(predict_request("held", inputs, signature="wait"))
    _write(base / ".2", [log])
    try:
        (base / ".2").rename(base / "2")
        wait_for(started.exists, "the warm-up request in the model")
        assert server.states("held")[2].state == State.LOADING
        assert server.rest("GET", "/v1/models/held/versions/2").json["model_version_status"][0]["state"] == "LOADING"
        code, _ = failure(server.prediction.Predict, predict_request("held", {"x": [0.0]}, version=2))
        assert code is grpc.StatusCode.NOT_FOUND
        assert server.predict("held", {"x": [0.0]})["y"].tolist() == [1.0]
    finally:
        released.touch()
    server.wait_for_available("held", 2)
    assert server.predict("held", {"x": [0.0]})["y"].tolist() == [2.0]


def test_without_warm_up(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "off"
    base.mkdir()
    config = config_list(_model(models, base, 1, [_predict(nobody_knows=[1.0])]))
    with Server("--enable_model_warmup=false", "--max_num_load_retries=0", config=config) as server:
        server.wait_until_ready()
        assert _counts(server, "off")["predict"] == 0
