"""Sampled request logs, read back by TensorFlow and replayed as warm-up."""

import os
import re
import resource
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.server.errors import StatusError
from serving.server.lifecycle.warmup import warm_up
from serving.server.operations.log_collector import FileLogCollector
from serving.server.operations.metrics import Metrics
from serving.server.operations.request_log import ServerRequestLogger
from tests.serving.example_models import CLASSIFY, REGRESS, SessionServable, example, export_examples, input_of


def records_in(directory: Path) -> list[bytes]:
    paths = sorted(str(path) for path in directory.glob("*.tfrecord"))
    return list(tf.data.TFRecordDataset(paths).as_numpy_iterator()) if paths else []


def logs_in(directory: Path) -> list[Any]:
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records_in(directory)]


def config_of(directory: Path, rate: float = 1.0, kind: str = "file", model: str = "m") -> Any:
    text = f"""
        model_config_list {{ config {{
            name: "{model}" base_path: "/models/{model}" model_platform: "tensorflow"
            logging_config {{
                log_collector_config {{ type: "{kind}" filename_prefix: "{directory}/requests" }}
                sampling_config {{ sampling_rate: {rate} }}
            }}
        }} }}
    """
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def spec_of(model: str = "m", version: int = 3, signature: str = "serving_default") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model, signature_name=signature)
    spec.version.value = version
    return spec


def predict_pair(value: float = 1.0) -> tuple[Any, Any]:
    request = predict_pb2.PredictRequest(model_spec=spec_of())
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([value]))
    response = predict_pb2.PredictResponse(model_spec=spec_of())
    response.outputs["y"].CopyFrom(tf.make_tensor_proto([value * 2]))
    return request, response


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def logger() -> ServerRequestLogger:
    return ServerRequestLogger(Metrics(), saved_model_tags=("serve", "gpu"))


def count(logger: ServerRequestLogger, code: str, model: str = "m") -> float:
    return logger._metrics.request_log_count.cell(model, code).read()


def test_every_kind_of_request_is_logged_with_its_metadata(logger: ServerRequestLogger, tmp_path: Path) -> None:
    logger.update(config_of(tmp_path))
    assert logger.active
    classification = classification_pb2.ClassificationRequest(input=input_of(example(1.0)))
    classified = classification_pb2.ClassificationResponse()
    classified.result.classifications.add().classes.add(label="é", score=0.5)
    regression = regression_pb2.RegressionRequest(input=input_of(example(2.0)))
    regressed = regression_pb2.RegressionResponse()
    regressed.result.regressions.add(value=2.5)
    multi = inference_pb2.MultiInferenceRequest(input=input_of(example(3.0)))
    multi.tasks.add(method_name=REGRESS)
    inferred = inference_pb2.MultiInferenceResponse()
    inferred.results.add().regression_result.CopyFrom(regressed.result)
    pairs = [predict_pair(), (classification, classified), (regression, regressed), (multi, inferred)]
    before = int(time.time())
    for request, response in pairs:
        logger.log(request, response, "m", 3, "serving_default")
    assert logger.close()
    logs = logs_in(tmp_path)
    kinds = ["predict_log", "classify_log", "regress_log", "multi_inference_log"]
    assert [log.WhichOneof("log_type") for log in logs] == kinds
    for log, kind, (request, response) in zip(logs, kinds, pairs, strict=True):
        assert getattr(log, kind).request == request
        assert getattr(log, kind).response == response
        assert log.log_metadata.model_spec == spec_of()
        assert log.log_metadata.sampling_config.sampling_rate == 1.0
        assert list(log.log_metadata.saved_model_tags) == ["serve", "gpu"]
        assert before <= log.log_metadata.timestamp_secs <= time.time()
    assert count(logger, "OK") == 4


def test_only_models_with_a_config_are_logged(logger: ServerRequestLogger, tmp_path: Path) -> None:
    assert not logger.active
    logger.update(config_of(tmp_path, model="other"))
    logger.log(*predict_pair(), "m", 3, "serving_default")
    logger.log(*predict_pair(), "other", 3, "serving_default")
    logger.update(model_server_config_pb2.ModelServerConfig())
    assert not logger.active
    (log,) = logs_in(tmp_path)
    assert log.log_metadata.model_spec.name == "other"


def test_the_sampling_rate(logger: ServerRequestLogger, tmp_path: Path) -> None:
    logger.update(config_of(tmp_path, rate=0.25))
    for _ in range(2000):
        logger.log(*predict_pair(), "m", 3, "serving_default")
    assert logger.close()
    # A binomial count with mean 500 and deviation 19.4; outside eight deviations once in 10^15 runs.
    assert 345 < len(records_in(tmp_path)) < 655


def test_a_rate_of_zero_logs_nothing(logger: ServerRequestLogger, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config.model_config_list.config[0].logging_config.ClearField("sampling_config")
    logger.update(config)
    for _ in range(100):
        logger.log(*predict_pair(), "m", 3, "serving_default")
    assert logger.close()
    assert list(tmp_path.iterdir()) == []


def test_a_new_rate_continues_the_same_file_and_a_new_prefix_finishes_it(
    logger: ServerRequestLogger, tmp_path: Path
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    logger.update(config_of(first))
    logger.log(*predict_pair(), "m", 3, "serving_default")
    logger.update(config_of(first, rate=0.0))
    logger.log(*predict_pair(), "m", 3, "serving_default")
    logger.update(config_of(first, rate=1.0))
    logger.log(*predict_pair(), "m", 3, "serving_default")
    assert list(first.glob("*.tfrecord")) == []
    logger.update(config_of(second))
    assert len(list(first.glob("*.tfrecord"))) == 1
    assert len(records_in(first)) == 2
    logger.log(*predict_pair(), "m", 3, "serving_default")
    assert logger.close()
    assert len(records_in(second)) == 1


def test_an_invalid_config_is_reported_and_changes_nothing(logger: ServerRequestLogger, tmp_path: Path) -> None:
    def failure(config: Any) -> tuple[grpc.StatusCode, str]:
        for call in (logger.check, logger.update):
            with pytest.raises(StatusError) as caught:
                call(config)
        return caught.value.code, caught.value.message

    logger.update(config_of(tmp_path / "good"))
    assert failure(config_of(tmp_path, kind="kafka")) == (
        grpc.StatusCode.NOT_FOUND,
        'Cannot find LogCollector::Factory for type: kafka (this server has: "file")',
    )
    code, message = failure(config_of(tmp_path, rate=1.5))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message == "the sampling_rate of model m must be from 0 to 1, is 1.5"
    config = config_of(tmp_path)
    config.model_config_list.config[0].logging_config.log_collector_config.filename_prefix = ""
    code, message = failure(config)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith('log_collector_config.filename_prefix is ""; give a directory')
    (tmp_path / "file").write_text("in the way")
    code, message = failure(config_of(tmp_path / "file" / "below"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "can't be created" in message
    logger.log(*predict_pair(), "m", 3, "serving_default")
    assert logger.close()
    assert len(records_in(tmp_path / "good")) == 1


def test_a_response_may_be_serialised(logger: ServerRequestLogger, tmp_path: Path) -> None:
    logger.update(config_of(tmp_path))
    request, response = predict_pair()
    logger.log(request, response.SerializeToString(), "m", 3, "serving_default")
    assert logger.close()
    assert logs_in(tmp_path)[0].predict_log.response == response


def test_no_type_is_the_file_type(logger: ServerRequestLogger, tmp_path: Path) -> None:
    logger.update(config_of(tmp_path, kind=""))
    logger.log(*predict_pair(), "m", 3, "serving_default")
    assert logger.close()
    assert len(records_in(tmp_path)) == 1


class Report:
    """The results of the records."""

    def __init__(self) -> None:
        self.codes: list[grpc.StatusCode] = []

    def __call__(self, tag: str, code: grpc.StatusCode) -> None:
        assert tag == "m"
        self.codes.append(code)


def test_files_are_hidden_until_they_are_complete(tmp_path: Path) -> None:
    collector = FileLogCollector(str(tmp_path / "r"), Report(), max_file_bytes=200)
    collector.collect("m", b"x" * 50)
    wait_for(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
    (hidden,) = tmp_path.iterdir()
    assert hidden.name.startswith(".r-")
    assert hidden.name.endswith(".tfrecord.tmp")
    for _ in range(6):  # 66 bytes each with the frame: three to a file
        collector.collect("m", b"y" * 50)
    assert collector.close(20)
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert sizes == [66, 198, 198]
    assert all(path.suffix == ".tfrecord" for path in tmp_path.iterdir())
    assert records_in(tmp_path) == [b"x" * 50] + [b"y" * 50] * 6
    pattern = rf"r-\d{{8}}T\d{{6}}\.\d{{6}}-.+-{os.getpid()}-\d+\.tfrecord"
    for path in tmp_path.iterdir():
        assert re.fullmatch(pattern, path.name), path


def test_an_old_file_is_finished_without_another_record(tmp_path: Path) -> None:
    collector = FileLogCollector(str(tmp_path / "r"), Report(), max_file_seconds=0.1)
    collector.collect("m", b"one")
    wait_for(lambda: len(list(tmp_path.glob("r-*.tfrecord"))) == 1)
    collector.collect("m", b"two")
    wait_for(lambda: len(list(tmp_path.glob("r-*.tfrecord"))) == 2)
    assert collector.close(20)
    assert records_in(tmp_path) == [b"one", b"two"]


def test_a_full_queue_drops_at_once_and_says_so(tmp_path: Path) -> None:
    release, report = threading.Event(), Report()

    def slow_report(tag: str, code: grpc.StatusCode) -> None:
        # Called by the writing thread, like a disk that hangs; drops are reported by the requests' own threads.
        if threading.current_thread().name == "request-log":
            release.wait(20)
        report(tag, code)

    collector = FileLogCollector(str(tmp_path / "r"), slow_report, max_queue_bytes=1000, max_queue_records=5)
    for _ in range(20):
        collector.collect("m", b"x" * 10)
    assert report.codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 15
    release.set()
    wait_for(lambda: report.codes.count(grpc.StatusCode.OK) == 5)
    assert collector.close(20)
    assert len(records_in(tmp_path)) == 5


def test_the_queue_is_bounded_in_bytes_but_takes_one_large_record(tmp_path: Path) -> None:
    report = Report()
    collector = FileLogCollector(str(tmp_path / "r"), report, max_queue_bytes=100)
    collector.collect("m", b"x" * 10_000)
    wait_for(lambda: report.codes == [grpc.StatusCode.OK])
    assert collector.close(20)
    collector.collect("m", b"too late")
    assert report.codes == [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert records_in(tmp_path) == [b"x" * 10_000]


def test_a_directory_that_goes_away_loses_records_but_nothing_else(tmp_path: Path) -> None:
    directory, report = tmp_path / "logs", Report()
    collector = FileLogCollector(str(directory / "r"), report)
    shutil.rmtree(directory)
    collector.collect("m", b"lost")
    wait_for(lambda: report.codes == [grpc.StatusCode.DATA_LOSS])
    directory.mkdir()
    collector.collect("m", b"kept")
    assert collector.close(20)
    assert records_in(directory) == [b"kept"]


def test_a_full_disk_leaves_complete_records(tmp_path: Path) -> None:
    report = Report()
    collector = FileLogCollector(str(tmp_path / "r"), report)
    collector.collect("m", b"a" * 100)
    wait_for(lambda: len(report.codes) == 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))  # Python ignores SIGXFSZ, so writes fail with EFBIG
    try:
        collector.collect("m", b"b" * 100)
        wait_for(lambda: len(report.codes) == 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    collector.collect("m", b"c" * 100)
    assert collector.close(20)
    assert report.codes == [grpc.StatusCode.OK, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.OK]
    assert sorted(records_in(tmp_path)) == [b"a" * 100, b"c" * 100]


def test_many_threads(logger: ServerRequestLogger, tmp_path: Path) -> None:
    logger.update(config_of(tmp_path))

    def work(number: int) -> None:
        for n in range(100):
            logger.log(*predict_pair(number * 1000 + n), "m", 3, "serving_default")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logger.close()
    values = [tf.make_ndarray(log.predict_log.request.inputs["x"])[0] for log in logs_in(tmp_path)]
    assert sorted(values) == [float(number * 1000 + n) for number in range(8) for n in range(100)]


def test_a_log_is_a_warm_up_file(logger: ServerRequestLogger, tmp_path: Path) -> None:
    version = export_examples(tmp_path / "model" / "1")
    logger.update(config_of(tmp_path / "logs"))
    classification = classification_pb2.ClassificationRequest(model_spec=spec_of(), input=input_of(example(1.0)))
    logger.log(classification, classification_pb2.ClassificationResponse(), "m", 3, "serving_default")
    multi = inference_pb2.MultiInferenceRequest(input=input_of(example(3.0)))
    multi.tasks.add(model_spec=spec_of(signature="scores"), method_name=CLASSIFY)
    multi.tasks.add(model_spec=spec_of(signature="regress"), method_name=REGRESS)
    logger.log(multi, inference_pb2.MultiInferenceResponse(), "m", 3, "scores")
    assert logger.close()
    (logged,) = (tmp_path / "logs").iterdir()
    (version / "assets.extra").mkdir()
    shutil.copy(logged, version / "assets.extra" / "tf_serving_warmup_requests")
    servable = SessionServable(version)
    assert warm_up(servable, "m", 1) == 2
    assert servable.runs == 3
