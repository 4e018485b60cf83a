"""Requests that share a run: the runtime's batch queue, and a server that uses it."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.protos import config_pb2, predict_pb2
from serving.runtime.batching import BatchingOptions
from serving.server.api.grpc_server import GrpcServer
from serving.server.api.handlers import Handlers
from serving.server.api.predict import run_predict
from serving.server.errors import StatusError
from serving.server.execution import ops
from serving.server.execution.saved_model import SavedModelServable
from serving.server.operations.batch_metrics import BatchMetrics
from serving.server.operations.request_limit import RequestLimit
from tests.serving.example_models import OneModelCore
from tests.serving.live import wait_for
from tests.serving.models import export_tf1
from tests.serving.server.api.test_rpc import request_of

_OPTIONS = BatchingOptions(
    max_batch_size=16, batch_timeout_micros=20_000, num_batch_threads=2, pad_variable_length_inputs=True
)


class Rows(tf.Module):
    """Returns for each row its own sum and joined words, and how many rows ran together."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = tf.Variable(0.5)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["é"], [7.0]), 0.0)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.float32, "x"), tf.TensorSpec([None, None], tf.string, "words")]
    )
    def run(self, x: tf.Tensor, words: tf.Tensor) -> dict[str, tf.Tensor]:
        together = tf.fill(tf.shape(x)[:1], tf.shape(x)[0])
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, message="no negative numbers")]):
            total = tf.reduce_sum(x, 1) + self.offset + tf.reduce_sum(self.table.lookup(words), 1)
        return {"sum": total, "text": tf.strings.reduce_join(words, 1, separator="|"), "together": together}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "1"
    module = Rows()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.run})
    return path


def servable_of(path: Path, options: BatchingOptions | None = _OPTIONS) -> SavedModelServable:
    ops.register()
    return SavedModelServable(path, ("serve",), config_pb2.ConfigProto(), options)


@pytest.fixture(scope="module")
def rows(model: Path) -> SavedModelServable:
    return servable_of(model)


def request(number: int, count: int = 1, width: int = 2) -> predict_pb2.PredictRequest:
    words = [["é" if number % 2 else "글"] * width] * count
    made: predict_pb2.PredictRequest = request_of(
        {"x": np.full((count, 1 + number % 3), number, np.float32), "words": words}
    )
    return made


def check(number: int, response: predict_pb2.PredictResponse, count: int = 1, width: int = 2) -> int:
    got = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
    expected = number * (1 + number % 3) + 0.5 + (7.0 * width if number % 2 else 0.0)
    np.testing.assert_allclose(got["sum"], [expected] * count)
    word = "é" if number % 2 else "글"
    # Other rows of a batch may be wider: the padding is empty.
    assert {text.decode().rstrip("|") for text in got["text"]} == {"|".join([word] * width)}
    return int(got["together"][0])


def test_threads_share_runs_and_get_their_own_rows(rows: SavedModelServable) -> None:
    barrier = threading.Barrier(12)

    def ask(number: int) -> int:
        barrier.wait()
        return check(number, run_predict(rows, "m", 1, request(number, 1 + number % 2)), 1 + number % 2)

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, range(12)))
    assert max(together) > 2  # 18 rows, at most 16 in a run, and the first may have found the model idle
    assert max(together) <= 16


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("sizes", [(), (2, 4, 16)], ids=["any size", "allowed sizes"])
def test_the_queues_work_is_counted(model: Path, sizes: tuple[int, ...], pad: bool) -> None:
    options = dataclasses.replace(_OPTIONS, allowed_batch_sizes=sizes, pad_variable_length_inputs=pad)
    servable = servable_of(model, options)
    metrics = BatchMetrics()
    servable.batch_metrics = metrics
    barrier = threading.Barrier(12)
    asked = [1 + number % 2 for number in range(12)]
    start = time.time()

    def ask(number: int) -> int:
        barrier.wait()
        seed = number if pad else 3 * number  # of the same width
        return check(seed, run_predict(servable, "m", 1, request(seed, asked[number])), asked[number])

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, range(12)))
    most = time.time() - start
    found = {family.name.rpartition("/")[2]: family.read() for family in metrics.families}
    # Each answer says how large its run was, including padding.
    counts, processed = found["processed_batch_size"][()]
    runs = int(found["wrapped_run_count"][()])
    padding = {labels[0]: value for labels, value in found["padding_size"].items()}
    assert runs == sum(counts) == sum(sum(value[0]) for value in padding.values())
    assert set(padding) == {str(size) for size in together}
    assert processed == sum(int(size) * sum(value[0]) for size, value in padding.items())
    assert processed - sum(value[1] for value in padding.values()) == sum(asked)
    if not sizes:
        assert runs == round(sum(rows / size for rows, size in zip(asked, together, strict=True)))
    assert set(together) <= (set(sizes) or set(range(1, 17)))
    waits, waited = found["queuing_latency"]["",]
    assert sum(waits) == 12
    assert 0 <= waited <= 12 * most * 1e6
    inputs, rows = found["input_batch_size"][()]
    assert (sum(inputs), rows) == (24, 2 * sum(asked))
    servable.close()


@pytest.mark.parametrize("sizes", [(), (2, 4, 16)], ids=["any size", "allowed sizes"])
def test_a_request_that_fails_in_the_queue_fails_alone(model: Path, sizes: tuple[int, ...]) -> None:
    servable = servable_of(model, dataclasses.replace(_OPTIONS, allowed_batch_sizes=sizes))
    barrier = threading.Barrier(12)

    def ask(number: int) -> StatusError | None:
        barrier.wait()
        try:
            check(number, run_predict(servable, "m", 1, request(number)))
        except StatusError as error:
            return error
        return None

    # The fourth has negative numbers, which the graph refuses.
    numbers = [number if number != 3 else -3 for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        errors = list(pool.map(ask, numbers))
    assert [error is not None for error in errors] == [number < 0 for number in numbers]
    assert errors[3] is not None
    assert errors[3].code is grpc.StatusCode.INVALID_ARGUMENT
    assert "no negative numbers" in errors[3].message
    servable.close()


def test_a_request_that_is_split_over_batches_is_counted_with_each(model: Path) -> None:
    options = dataclasses.replace(_OPTIONS, allowed_batch_sizes=(2, 4), enable_large_batch_splitting=True)
    servable = servable_of(model, options)
    metrics = servable.batch_metrics = BatchMetrics()
    check(2, run_predict(servable, "m", 1, request(2, 10)), 10)
    found = {family.name.rpartition("/")[2]: family.read() for family in metrics.families}
    assert found["wrapped_run_count"] == {(): 3}
    assert {labels[0]: sum(value[0]) for labels, value in found["padding_size"].items()} == {"4": 2, "2": 1}
    servable.close()


def test_tf1_variables_and_tables_can_be_batched(tmp_path: Path) -> None:
    servable = servable_of(export_tf1(tmp_path / "1"))
    assert {"serving_default", "lookup"} <= set(servable.batched_signatures)
    two = request_of({"x": [[2.0], [4.0]]})
    np.testing.assert_array_equal(tf.make_ndarray(run_predict(servable, "m", 1, two).outputs["y"]), [[3.0], [4.0]])
    servable.close()


def test_a_request_larger_than_a_batch(rows: SavedModelServable) -> None:
    with pytest.raises(StatusError, match="larger than maximum") as caught:
        run_predict(rows, "m", 1, request(1, 17))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_an_input_with_a_different_rank_runs_alone(tmp_path: Path) -> None:
    servable = servable_of(export_tf1(tmp_path / "1"))
    response = run_predict(servable, "m", 1, request_of({"x": [2.0, 4.0]}))
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), [3.0, 4.0])
    servable.close()


@pytest.mark.parametrize("sizes", [(), (2, 4, 16)], ids=["any size", "allowed sizes"])
def test_no_rows_keep_the_shapes_of_the_outputs(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def pairs(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"pairs": tf.stack([x, -x], 2), "text": tf.strings.as_string(x)}

    module = tf.Module()
    module.pairs = pairs
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": pairs})
    servable = servable_of(tmp_path / "1", dataclasses.replace(_OPTIONS, allowed_batch_sizes=sizes))
    nothing = request_of({"x": np.zeros((0, 3), np.float32)})
    for response in (run_predict(servable, "m", 1, nothing), run_predict(servable, "m", 1, nothing)):
        shapes = {alias: tf.make_ndarray(proto).shape for alias, proto in response.outputs.items()}
        assert shapes == {"pairs": (0, 3, 2), "text": (0, 3)}
    servable.close()


@pytest.fixture(scope="module")
def server(rows: SavedModelServable) -> Iterator[str]:
    handlers = Handlers(OneModelCore("recommender", 1, rows))  # type: ignore[arg-type]
    running = GrpcServer(handlers, threads=4, limit=RequestLimit(64, lambda: None))
    port = running.listen("localhost:0")
    running.start()
    yield f"localhost:{port}"
    running.stop(5.0).wait(60)
    running.close()


def stub(address: str) -> Any:
    channel = grpc.insecure_channel(
        address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    )
    return channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        predict_pb2.PredictRequest.SerializeToString,
        predict_pb2.PredictResponse.FromString,
    )


def test_good_and_bad_requests_of_many_clients(server: str) -> None:
    call = stub(server)

    def ask(number: int) -> tuple[int, Any]:
        if number % 7 == 3:
            query = request_of({"x": [[-1.0]], "words": [["a"]]})
        elif number % 7 == 5:
            query = request_of({"x": [[1.0]]})
        else:
            query = request(number, 1 + number % 2)
        try:
            return number, call(query, timeout=60)
        except grpc.RpcError as error:
            return number, error

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(300)))
    for number, answer in answers:
        if number % 7 == 3:
            assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "no negative numbers" in answer.details()
        elif number % 7 == 5:
            assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "Missing but required: {words}" in answer.details()
        else:
            check(number, answer, 1 + number % 2)


def test_bytes_that_are_not_a_request(server: str) -> None:
    with grpc.insecure_channel(server) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", lambda x: x, lambda x: x)
        with pytest.raises(grpc.RpcError, match="deserializing"):
            call(b"\xff\xff\xff", timeout=60)
    check(2, stub(server)(request(2), timeout=60))


def test_large_requests_and_cancelled_ones(server: str) -> None:
    call = stub(server)
    texts = [["글" * 500_000] for _ in range(8)]
    response = call(request_of({"x": np.zeros((8, 1), np.float32), "words": texts}), timeout=60)
    assert tf.make_ndarray(response.outputs["text"])[7].decode() == texts[7][0]
    for _ in range(20):
        call.future(request(1), timeout=60).cancel()
    check(4, call(request(4), timeout=60))


def test_excess_is_refused(rows: SavedModelServable) -> None:
    held = threading.Event()

    class Slow(OneModelCore):
        def acquire(self, spec: object) -> Any:
            held.wait(60)
            return super().acquire(spec)

    handlers = Handlers(Slow("recommender", 1, rows))  # type: ignore[arg-type]
    running = GrpcServer(handlers, threads=2, limit=RequestLimit(5, lambda: None))
    call = stub(f"localhost:{running.listen('localhost:0')}")
    running.start()
    futures = [call.future(request(2), timeout=60) for _ in range(12)]
    wait_for(lambda: sum(future.done() for future in futures) == 7, 60, "seven refused requests")
    refused = [future for future in futures if future.done()]
    held.set()
    answered = [future for future in futures if future not in refused]
    for future in answered:
        check(2, future.result())
    assert {future.code() for future in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    running.stop(5.0).wait(60)
    running.close()
