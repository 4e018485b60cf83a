"""Batches that would wait for a clock that was set back."""

import dataclasses
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf

from serving.protos import predict_pb2
from serving.runtime import clock
from serving.runtime.batching import BatchingOptions
from serving.runtime.clock import ClockWatch
from serving.server.api.predict import run_predict
from serving.server.errors import StatusError
from tests.serving.live import wait_for
from tests.serving.runtime.test_batching import Rows, check, request, servable_of

_SECONDS = 60.0
# A batch that isn't full waits much longer than the test.
_OPTIONS = BatchingOptions(max_batch_size=13, batch_timeout_micros=2_000_000_000, num_batch_threads=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "1"
    module = Rows()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.run})
    return path


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({}, False),
        ({"pad_variable_length_inputs": True}, False),
        ({"allowed_batch_sizes": (4, 13)}, False),
        ({"max_enqueued_batches": 1}, True),
    ],
    ids=["usual", "padded", "allowed sizes", "one batch"],
)
def test_an_open_batch_is_closed(
    model: Path, changes: Mapping[str, Any], fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "serving.runtime.open_batch")
    servable = servable_of(model, dataclasses.replace(_OPTIONS, **changes))

    def ask(number: int) -> predict_pb2.PredictResponse:
        while True:
            try:
                return run_predict(servable, "m", 1, request(number, 2))
            except StatusError as error:
                # What closes the batch may occupy the queue for a moment.
                if error.code is not grpc.StatusCode.UNAVAILABLE:
                    raise

    with ThreadPoolExecutor(1) as pool:
        for number in range(3):
            answer = pool.submit(ask, number)

            def is_answered(answer: Any = answer) -> bool:
                # The batch may not have been open yet the last time.
                servable.close_batches()
                return bool(answer.done())

            wait_for(is_answered, _SECONDS, "an answer")
            check(number, answer.result(), 2)
    if fails:
        # The requests of the batch were run again. Unloading may wait for the queue's timeout.
        wait_for(lambda: "equal number of edges" in caplog.text, _SECONDS, "a batch that failed")
    else:
        servable.close()
        assert "equal number of edges" not in caplog.text


def test_a_batch_that_may_be_split_is_left_alone(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    servable = servable_of(model, dataclasses.replace(_OPTIONS, enable_large_batch_splitting=True))
    servable.close_batches()
    assert not caplog.records  # nothing was batched yet
    check(1, run_predict(servable, "m", 1, request(1, 13)), 13)
    servable.close_batches()
    assert "with enable_large_batch_splitting they can't be closed earlier" in caplog.text
    servable.close()


class _Time:
    """How far the wall clock is ahead, and how often it was read."""

    def __init__(self) -> None:
        self.ahead = (0.0, 0.0)
        self._reads = 0

    def read(self) -> tuple[float, float]:
        self._reads += 1
        return self.ahead

    def wait(self) -> None:
        """Until all that was read before was acted upon."""
        reads = self._reads
        wait_for(lambda: self._reads >= reads + 3, _SECONDS, "readings of the clock")


def test_a_clock_that_is_set_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    time = _Time()
    monkeypatch.setattr(clock, "_ahead", time.read)
    watch = ClockWatch()
    calls: list[str] = []

    def fail() -> None:
        raise RuntimeError("a callback that fails does not end the watch")

    def first() -> None:
        calls.append("first")

    watch.add(fail)
    watch.add(first)
    for ahead, expected in [
        ((0.0, 0.0), 0),
        ((-3600.0, -3600.0), 1),
        ((50.0, 50.0), 1),  # forward
        ((49.99, 49.99), 1),  # by too little to matter
        ((39.0, 49.99), 1),  # read slowly, which does not mean that it was set back
        ((49.99, 49.99), 1),
        ((49.0, 49.5), 2),
    ]:
        time.ahead = ahead
        time.wait()
        assert len(calls) == expected, ahead
    watch.remove(fail)
    watch.remove(first)
    wait_for(lambda: not watch._is_running, _SECONDS, "the end of the watch's thread")
    # It starts again for another callback, and does not care for what happened in between.
    time.ahead = (0.0, 0.0)
    watch.add(first)
    time.wait()
    assert len(calls) == 2
    time.ahead = (-1.0, -1.0)
    time.wait()
    assert len(calls) == 3
    watch.remove(first)
