"""Batching by --enable_batching. Sources: serving_config.md, batching/README.md, session_bundle_config.proto."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.conformance.server import (
    IS_BABELREC,
    SECONDS,
    Held,
    Server,
    config_list,
    failure,
    model_config,
    predict_request,
    run_to_end,
    wait_for,
)

_Code = grpc.StatusCode
pytestmark = pytest.mark.own_server
_PARAMETERS = """
max_batch_size { value: 4 }
batch_timeout_micros { value: 300000 }
max_enqueued_batches { value: 4 }
num_batch_threads { value: 2 }
allowed_batch_sizes: 2
allowed_batch_sizes: 4
pad_variable_length_inputs: true
"""


def _parameters(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "batching.config"
    path.write_text(text)
    return ["--enable_batching=true", f"--batching_parameters_file={path}"]


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    names = ["batch", "gate", "half_plus_two", "multi"]
    config = config_list(*[model_config(name, models / name) for name in names])
    with Server(*_parameters(tmp_path_factory.mktemp("batching"), _PARAMETERS), config=config) as server:
        yield server.wait_until_ready()


def _ask(server: Server, matrices: list[Any]) -> list[dict[str, Any]]:
    """The responses to requests that are sent all at once."""
    requests = [predict_request("batch", {"x": np.array(matrix, np.float32)}) for matrix in matrices]
    calls = [server.prediction.Predict.future(request, timeout=SECONDS) for request in requests]
    responses = [call.result() for call in calls]
    return [
        {alias: np.array(proto.float_val or proto.int_val) for alias, proto in response.outputs.items()}
        for response in responses
    ]


def test_rows_are_padded_to_an_allowed_size(server: Server) -> None:
    for rows, size in ((1, 2), (2, 2), (3, 4), (4, 4)):
        (answer,) = _ask(server, [[[float(row), 1.0] for row in range(rows)]])
        assert answer["sum"].tolist() == [row + 1.0 for row in range(rows)]
        assert answer["rows"].tolist() == [size] * rows


def test_requests_share_a_batch(server: Server) -> None:
    sizes: set[int] = set()

    def is_joined() -> bool:
        answers = _ask(server, [[[float(number)]] for number in range(4)])
        assert [answer["sum"].tolist() for answer in answers] == [[0.0], [1.0], [2.0], [3.0]]
        sizes.update(int(size) for answer in answers for size in answer["rows"])
        return 4 in sizes

    wait_for(is_joined, "a batch of four requests")
    assert sizes <= {2, 4}


def test_each_request_gets_its_own_rows(server: Server) -> None:
    random = np.random.default_rng(7)
    matrices = [random.integers(0, 1000, (random.integers(1, 5), 3)).astype(np.float32) for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda matrix: _ask(server, [matrix])[0]["sum"], matrices))
    for matrix, answer in zip(matrices, answers, strict=True):
        np.testing.assert_array_equal(answer, matrix.sum(1))


def test_inputs_of_variable_length_are_padded(server: Server) -> None:
    # Padded with the tensor's first element, which is 0 here.
    matrices = [[[0.0] * width + [float(width)]] for width in (1, 5, 2, 3)]
    joined: list[bool] = []

    def is_joined() -> bool:
        answers = _ask(server, matrices)
        assert [answer["sum"].tolist() for answer in answers] == [[1.0], [5.0], [2.0], [3.0]]
        joined.append(any(4 in answer["rows"] for answer in answers))
        return joined[-1]

    wait_for(is_joined, "a batch of requests of several widths")


@pytest.mark.xfail(IS_BABELREC, reason="pads with zeros and empty strings", strict=True)
def test_padding_is_the_first_element(server: Server) -> None:
    # batching_util.h
    def is_joined() -> bool:
        answers = _ask(server, [[[5.0]], [[0.0, 1.0, 2.0]]])
        if int(answers[0]["sum"][0]) == 5:
            # Alone in its batch; a batch with both must come.
            missed.append(1)
            return len(missed) == 10
        assert [answer["sum"].tolist() for answer in answers] == [[15.0], [3.0]]
        return True

    missed: list[int] = []
    wait_for(is_joined, "a batch of requests of several widths")
    assert len(missed) < 10


def test_too_many_rows(server: Server) -> None:
    request = predict_request("batch", {"x": np.zeros([5, 1], np.float32)})
    code, details = failure(server.prediction.Predict, request)
    assert code is _Code.INVALID_ARGUMENT
    assert "5" in details
    assert "4" in details
    assert _ask(server, [[[1.0]]])[0]["sum"].tolist() == [1.0]


def test_inputs_that_disagree_about_the_rows(server: Server) -> None:
    inputs = {"x": np.zeros([2, 1], np.float32), "w": np.zeros([3], np.float32)}
    code, _ = failure(server.prediction.Predict, predict_request("batch", inputs, signature="weighted"))
    assert code is _Code.INVALID_ARGUMENT
    code, _ = failure(server.prediction.Predict, predict_request("batch", {"x": np.float32(1.0)}))
    assert code is _Code.INVALID_ARGUMENT


def test_one_bad_request_does_not_fail_others(server: Server) -> None:
    # Wrong type and a missing input are detected before the batch is formed.
    bad = predict_request("batch", {"x": [["text"]]})
    calls = [server.prediction.Predict.future(bad, timeout=SECONDS) for _ in range(2)]
    answers = _ask(server, [[[1.0]], [[2.0]]])
    assert [answer["sum"].tolist() for answer in answers] == [[1.0], [2.0]]
    assert {call.code() for call in calls} == {_Code.INVALID_ARGUMENT}


def test_other_models_and_rest_are_batched_too(server: Server) -> None:
    assert server.predict("half_plus_two", {"x": [[2.0], [4.0]]})["y"].tolist() == [[3.0], [4.0]]
    assert server.post("/v1/models/half_plus_two:predict", {"instances": [[2.0]]}) == {"predictions": [[3.0]]}
    code, details = failure(
        server.prediction.Predict, predict_request("multi", {"x": [-1.0, 1.0]}, signature="positive")
    )
    assert code is _Code.INVALID_ARGUMENT
    assert "x must be positive" in details


def test_shapes_that_contradict_the_signature(server: Server) -> None:
    # The signature says [-1, 1]; as without batching, the graph decides. The real server's tests do this too.
    assert server.predict("half_plus_two", {"x": [2.0, 4.0]})["y"].tolist() == [3.0, 4.0]
    assert server.post("/v1/models/half_plus_two:predict", {"instances": [2.0]}) == {"predictions": [3.0]}


def test_full_queue_is_unavailable(server: Server, tmp_path: Path) -> None:
    requests = [Held(server, tmp_path, rows=4) for _ in range(2)]
    try:
        # Both threads are inside the model; full batches wait behind them until the queue is full.
        for request in requests:
            request.wait_until_inside()
        requests += [Held(server, tmp_path, rows=4) for _ in range(8)]
        wait_for(lambda: any(request.call.done() for request in requests), "a refused request")
    finally:
        for request in requests:
            request.release()
    codes = []
    for request in requests:
        wait_for(request.call.done, "the end of a request")
        codes.append(request.call.code())
    assert set(codes) == {_Code.OK, _Code.UNAVAILABLE}
    assert codes[:2] == [_Code.OK] * 2
    assert codes.count(_Code.OK) >= 2 + 1
    assert server.predict("gate", {"x": [1.0]})["y"].tolist() == [1.0]


@pytest.mark.parametrize(
    "parameters",
    [
        "max_batch_size { value: 4 } allowed_batch_sizes: 2 allowed_batch_sizes: 3",
        "max_batch_size { value: 4 } allowed_batch_sizes: 4 allowed_batch_sizes: 2",
        "max_batch_size { value: 0 }",
        "no_such_parameter: 1",
    ],
    ids=["last is not the largest", "descending", "zero", "unknown"],
)
def test_parameters_that_cannot_work(models: Path, tmp_path: Path, parameters: str) -> None:
    flags = f"--model_base_path={models / 'batch'}", "--max_num_load_retries=0"
    status, log = run_to_end(*flags, *_parameters(tmp_path, parameters))
    assert status != 0
    assert log


def test_batching_without_parameters(models: Path) -> None:
    config = config_list(*[model_config(name, models / name) for name in ("batch", "half_plus_two")])
    with Server("--enable_batching", config=config) as server:
        server.wait_until_ready()
        assert server.predict("half_plus_two", {"x": [2.0, 4.0]})["y"].tolist() == [3.0, 4.0]
        for matrix in ([[1.0, 2.0]], [[3.0]] * 700):
            (answer,) = _ask(server, [matrix])
            assert answer["sum"].tolist() == np.sum(matrix, 1).tolist()
