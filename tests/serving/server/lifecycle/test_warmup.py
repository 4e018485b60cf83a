"""Warm-up files with every kind of log, and TFRecord framing compared with TensorFlow's own."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import inference_pb2, prediction_log_pb2

from serving.server.errors import StatusError
from serving.server.lifecycle.warmup import warm_up
from serving.server.operations.metrics import Metrics
from serving.server.operations.tfrecord import frame, masked_crc32c, read_records
from tests.serving.example_models import (
    CLASSIFY,
    REGRESS,
    SessionServable,
    example,
    export_examples,
    input_of,
)

Log = prediction_log_pb2.PredictionLog


@pytest.fixture
def servable(tmp_path: Path) -> SessionServable:
    return SessionServable(export_examples(tmp_path / "1"))


def write(servable: SessionServable, records: Sequence[bytes]) -> Path:
    path = servable.path / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


class AloneServable(SessionServable):
    """Records which requests had to run alone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.alone: list[bool] = []

    def run_serialized(self, *arguments: Any, **options: Any) -> dict[str, bytes]:
        self.alone.append(options["alone"])
        return super().run_serialized(*arguments, **options)


@pytest.mark.parametrize("alone", [False, True])
def test_predict_is_warmed_up_for_each_path_it_may_take(tmp_path: Path, alone: bool) -> None:
    servable = AloneServable(export_examples(tmp_path / "1"))
    log = Log()
    log.predict_log.request.model_spec.signature_name = "regress"
    log.predict_log.request.inputs["inputs"].CopyFrom(tf.make_tensor_proto([example(1.0).SerializeToString()]))
    streamed = Log()
    streamed.predict_streamed_log.request.add().CopyFrom(log.predict_log.request)
    write(servable, [log.SerializeToString(), streamed.SerializeToString()])
    assert warm_up(servable, "m", 1, predict_alone=alone) == 2
    assert servable.alone == [alone, alone]


def classify_log(signature: str = "") -> Any:
    log = Log()
    log.classify_log.request.input.CopyFrom(input_of(example(1.0)))
    log.classify_log.request.model_spec.signature_name = signature
    return log


def regress_log() -> Any:
    log = Log()
    log.regress_log.request.input.CopyFrom(input_of(example(1.0), context=example(name="c")))
    log.regress_log.request.model_spec.signature_name = "regress"
    return log


def multi_inference_log() -> Any:
    request = inference_pb2.MultiInferenceRequest(input=input_of(example(1.0)))
    for signature, method in (("scores", CLASSIFY), ("regress", REGRESS)):
        task = request.tasks.add(method_name=method)
        task.model_spec.name = "a name that the server need not know"
        task.model_spec.signature_name = signature
    return Log(multi_inference_log=prediction_log_pb2.MultiInferenceLog(request=request))


def failure(servable: SessionServable, *logs: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    path = write(servable, [log.SerializeToString() for log in logs])
    with pytest.raises(StatusError) as caught:
        warm_up(servable, "m", 1, **options)
    return caught.value.code, caught.value.message.replace(str(path), "FILE")


def test_a_missing_file_is_not_an_error(servable: SessionServable) -> None:
    assert warm_up(servable, "m", 1) == 0


def test_example_logs_of_every_kind_run(servable: SessionServable) -> None:
    logs = [classify_log(), regress_log(), multi_inference_log(), Log()]
    write(servable, [log.SerializeToString() for log in logs])
    assert warm_up(servable, "m", 1, iterations=2) == 4
    # Each task of a MultiInference runs its signature; a log without a request runs nothing.
    assert servable.runs == 2 * (1 + 1 + 2)


def test_a_request_that_fails_fails_the_load(servable: SessionServable) -> None:
    assert failure(servable, classify_log(), classify_log("nothing")) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "warm-up request 2 of FILE failed: No signature was found with the name: nothing",
    )
    assert failure(servable, classify_log("regress"), check_method_names=True)[1].endswith(
        "Was: tensorflow/serving/regress"
    )


def test_logs_that_cannot_be_replayed(servable: SessionServable) -> None:
    log = Log()
    log.session_run_log.request.feed.add(name="x")
    assert failure(servable, log) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "warm-up request 1 of FILE failed: Unsupported log_type for warmup: 5",
    )
    log = Log()
    log.predict_streamed_log.SetInParent()
    assert failure(servable, log)[1].endswith("predict_streamed_log does not contain any requests.")
    log.predict_streamed_log.request.add()
    log.predict_streamed_log.request.add()
    assert failure(servable, log)[1].endswith(
        "predict_streamed_log contains more than one request, which is not supported by PredictStreamed."
    )


def test_at_most_a_thousand_records(servable: SessionServable) -> None:
    write(servable, [regress_log().SerializeToString()] * 1000)
    assert warm_up(servable, "m", 1) == 1000
    code, message = failure(servable, *[regress_log()] * 1001)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "Number of warmup records exceeds the maximum (1000) at FILE" in message


def test_records_that_are_not_logs(servable: SessionServable) -> None:
    path = write(servable, [b"\xff\xff\xff"])
    with pytest.raises(StatusError, match="Failed to parse warmup record from") as caught:
        warm_up(servable, "m", 1)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    path.write_bytes(b"no TFRecord at all")
    with pytest.raises(StatusError, match="verify your warmup data is in TFRecord format") as caught:
        warm_up(servable, "m", 1)
    assert caught.value.code is grpc.StatusCode.DATA_LOSS


def test_time_and_status_are_recorded(servable: SessionServable) -> None:
    metrics = Metrics()
    path = write(servable, [regress_log().SerializeToString()])
    warm_up(servable, "m", 1, metrics=metrics)
    cells = metrics.model_warmup_latency.read()
    assert list(cells) == [(str(servable.path), "OK")]
    assert sum(cells[str(servable.path), "OK"][0]) == 1
    path.write_bytes(b"no TFRecord at all")
    with pytest.raises(StatusError):
        warm_up(servable, "m", 1, metrics=metrics)
    assert sorted(status[:9] for _, status in metrics.model_warmup_latency.read()) == ["DATA_LOSS", "OK"]


def test_records_are_counted(servable: SessionServable) -> None:
    metrics = Metrics()
    write(servable, [regress_log().SerializeToString()] * 3)
    warm_up(servable, "m", 1, iterations=4, metrics=metrics)
    assert metrics.model_warmup_records_read.read() == {(str(servable.path),): 3}
    write(servable, [regress_log().SerializeToString(), b"\xff\xff\xff", regress_log().SerializeToString()])
    with pytest.raises(StatusError):
        warm_up(servable, "m", 1, metrics=metrics)
    assert metrics.model_warmup_records_read.read() == {(str(servable.path),): 5}
    shown = f':tensorflow:serving:model_warmup_records_read{{model_path="{servable.path}"}} 5'
    assert shown in metrics.render().decode()


RECORDS = (b"hello", b"", b"world!!", "流浪地球".encode() * 5000)


def tensorflow_reads(path: Path, data: bytes) -> tuple[list[bytes], str]:
    path.write_bytes(data)
    records: list[bytes] = []
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            records.append(record)  # noqa: PERF402 - records read before a failure count
    except tf.errors.DataLossError as error:
        return records, error.message
    return records, ""


def we_read(data: bytes) -> tuple[list[bytes], str]:
    records: list[bytes] = []
    try:
        for record in read_records(io.BytesIO(data)):
            records.append(record)  # noqa: PERF402
    except StatusError as error:
        return records, error.message if error.code is grpc.StatusCode.DATA_LOSS else str(error)
    return records, ""


def test_frames_match_tensorflow(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in RECORDS:
            writer.write(record)
    theirs = (tmp_path / "theirs").read_bytes()
    assert b"".join(map(frame, RECORDS)) == theirs
    assert we_read(theirs) == (list(RECORDS), "")
    # The check value of CRC-32C, 0xe3069283, masked by hand: rotated right by 15 it is 0x2507c60d.
    assert masked_crc32c(b"123456789") == (0x2507C60D + 0xA282EAD8) % 2**32


def test_broken_files_are_read_like_tensorflow(tmp_path: Path) -> None:
    good = b"".join(map(frame, RECORDS[:3]))
    for position in range(len(good)):
        spoilt = bytearray(good)
        spoilt[position] ^= 0x10
        theirs = tensorflow_reads(tmp_path / "spoilt", bytes(spoilt))
        ours = we_read(bytes(spoilt))
        assert ours[0] == theirs[0]
        assert ours[1]
        assert ours[1] in theirs[1], position
    starts = [0, *(sum(len(frame(r)) for r in RECORDS[:n]) for n in (1, 2, 3))]
    for cut in range(len(good)):
        theirs = tensorflow_reads(tmp_path / "cut", good[:cut])
        ours = we_read(good[:cut])
        assert ours[0] == theirs[0]
        if cut in starts:
            assert ours[1] == theirs[1] == ""
            continue
        start = max(s for s in starts if s < cut)
        assert ours[1].startswith(f"truncated record at {start}'")
        if cut - start >= 12:  # TensorFlow does not notice a truncated record header
            assert ours[1] in theirs[1]


def test_a_wrong_length_allocates_no_memory() -> None:
    length = (1 << 62).to_bytes(8, "little")
    head = length + masked_crc32c(length).to_bytes(4, "little")
    assert we_read(head + b"short")[1].startswith("truncated record at 0'")
