"""Inputs that a request leaves out, filled in by the front itself."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.native.library import why_not
from tests.serving.native.front_server import Served, check, request_of, rows

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
# A row of each input; that of `points` has no columns.
_ROW: dict[str, Any] = {
    "text": np.array(["ค่าเริ่มต้น".encode()], object),
    "words": np.array([[b"a", "帐篷".encode()]], object),
    "points": np.zeros((1, 0), np.float32),
    "exact": np.array([0.5]),
    "count": np.array([-(2**40)]),
    "small": np.array([3], np.int32),
    "flag": np.array([True]),
}


def tensor(value: Any, **options: Any) -> bytes:
    return bytes(tf.make_tensor_proto(value, shape=np.shape(value), **options).SerializeToString())


@pytest.fixture
def with_rows(serve: Callable[..., Served]) -> Iterator[Callable[..., Served]]:
    """Starts a front whose model declares default rows."""
    models: list[tuple[Served, Any]] = []

    def make(declared: dict[str, bytes]) -> Served:
        served = serve()
        model = served.model(6, declared)
        served.front.serve("m", {6: model})
        models.append((served, model))
        return served

    yield make
    for served, model in models:
        served.front.serve("m", {})
        model.close()


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("given", [{"text"}, {"words", "small"}, {"count"}, set(_ROW) - {"flag"}, set(_ROW)])
def test_the_front_answers(with_rows: Callable[..., Served], given: set[str], count: int) -> None:
    served = with_rows({alias: tensor(value) for alias, value in _ROW.items()})
    inputs = rows(count)
    inputs |= {alias: np.repeat(value, count, axis=0) for alias, value in _ROW.items() if alias not in given}
    assert check(served.predict(request_of({alias: inputs[alias] for alias in given})), inputs) == count
    assert not served.behind.seen


def test_requests_that_leave_out_different_inputs_share_a_run(with_rows: Callable[..., Served]) -> None:
    # As wide as the given input: nothing else is padded.
    row = _ROW | {"points": np.array([[0.25, -8.0]], np.float32)}
    served = with_rows({alias: tensor(value) for alias, value in row.items()})
    wholes, asked = [], []
    for given, count in (({"text"}, 1), ({"small", "flag"}, 2), ({"exact"}, 1)):
        left_out = {alias: np.repeat(value, count, axis=0) for alias, value in row.items() if alias not in given}
        wholes.append(rows(count) | left_out)
        asked.append(request_of({alias: wholes[-1][alias] for alias in given}))
    _, release = served.hold()
    calls = [served.later(request) for request in asked]
    release()
    for call, inputs in zip(calls, wholes, strict=True):
        check(predict_pb2.PredictResponse.FromString(call.result()), inputs)
    assert not served.behind.seen


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"text": tensor(_ROW["text"])},
        {alias: tensor(value) for alias, value in _ROW.items()} | {"flag": tensor(np.array([True, False]))},
        {alias: tensor(value) for alias, value in _ROW.items()} | {"flag": tensor(np.array([1]))},
        {alias: tensor(value) for alias, value in _ROW.items()} | {"flag": b"\xff"},
        {alias: tensor(value) for alias, value in _ROW.items()} | {"flag": b""},
    ],
    ids=["none", "too few", "two rows", "another type", "broken", "empty"],
)
def test_without_a_default_row_it_is_forwarded(with_rows: Callable[..., Served], declared: dict[str, bytes]) -> None:
    served = with_rows(declared)
    assert served.is_passed_on(request_of({"text": rows(1)["text"]}))


def test_a_request_without_inputs_or_with_too_many_rows_is_forwarded(with_rows: Callable[..., Served]) -> None:
    served = with_rows({alias: tensor(value) for alias, value in _ROW.items()})
    for inputs in ({}, {"small": np.zeros(9, np.int32)}, {"small": np.zeros(0, np.int32)}):
        assert served.is_passed_on(request_of(inputs))
