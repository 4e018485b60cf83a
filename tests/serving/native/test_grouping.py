"""The native front alone: which requests share a run, and how long they wait for one another."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.native.library import why_not
from tests.serving.native.front_server import BEHIND, PREDICT, SECONDS, Served, check, request_of, rows

# Longer than any call in these tests waits for its answer.
_LONG_MICROS = int(10e6 * SECONDS)
# A run that the front considers long: `kLongMicros` in src/front.cc.
_LONG_RUN_SECONDS = 0.02
pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def test_requests_share_a_run_and_each_gets_its_own_rows(served: Served) -> None:
    call, release = served.hold()
    wanted = [rows(count, offset=10 * count) for count in (1, 3, 2, 2)]
    calls = [served.later(request_of(inputs)) for inputs in wanted]
    served.wait_for_waiting(8)
    begun = time.monotonic()
    time.sleep(0.01)
    held = time.monotonic() - begun
    release()
    shared = [
        check(predict_pb2.PredictResponse.FromString(one.result()), inputs)
        for one, inputs in zip(calls, wanted, strict=True)
    ]
    assert shared == [8, 8, 8, 8]
    assert call.result()
    counts = served.front.count("m")
    assert counts is not None
    assert (counts.answered, counts.refused) == (5, 0)
    assert counts.groups == {1: 1, 8: 1}
    # The held one has two inputs, the others seven each; buckets end at 1, 2, 4 and so on.
    sizes, total_rows = counts.input_rows
    assert (sizes[:4], sum(sizes), total_rows) == ([9, 14, 7, 0], 30, 58)
    waits, waited = counts.queuing_latency
    assert (len(waits), sum(waits)) == (53, 5)
    assert waited > 0
    for buckets, total in (counts.request_latency, counts.run_latency):
        assert sum(buckets) == 5
        assert len(buckets) == 34
        assert total >= held * 1e6, "microseconds, of which the held one alone took as many"


def _after_two(served: Served) -> Served:
    """Answers two requests together."""
    _, release = served.hold()
    calls = [served.later(request_of(rows(1))) for _ in range(2)]
    served.wait_for_waiting(2)
    release()
    assert [check(predict_pb2.PredictResponse.FromString(one.result()), rows(1)) for one in calls] == [2, 2]
    return served


def test_a_group_waits_for_the_clients_of_the_previous_one(serve: Callable[..., Served]) -> None:
    served = _after_two(serve(timeout_micros=_LONG_MICROS))
    first = served.later(request_of(rows(1)))
    served.wait_for_waiting(1)
    assert check(served.predict(request_of(rows(1))), rows(1)) == 2
    assert check(predict_pb2.PredictResponse.FromString(first.result()), rows(1)) == 2


def test_a_full_group_does_not_wait(serve: Callable[..., Served]) -> None:
    served = _after_two(serve(timeout_micros=_LONG_MICROS))
    assert check(served.predict(request_of(rows(8))), rows(8)) == 8


def test_the_wait_for_more_is_limited(serve: Callable[..., Served]) -> None:
    served = _after_two(serve(timeout_micros=200_000))
    assert check(served.predict(request_of(rows(1))), rows(1)) == 1


def test_lone_requests_and_those_for_other_signatures_do_not_wait(serve: Callable[..., Served]) -> None:
    served = serve(timeout_micros=_LONG_MICROS)
    for _ in range(3):
        assert check(served.predict(request_of(rows(1))), rows(1)) == 1
    _after_two(served)
    assert served.predict(request_of({"x": np.array([1, 2], np.float32)}, "sum")).outputs["y"].float_val == [3]


def test_draining_does_not_wait_for_more(serve: Callable[..., Served]) -> None:
    served = _after_two(serve(timeout_micros=_LONG_MICROS))
    call = served.later(request_of(rows(1)))
    served.wait_for_waiting(1)
    assert served.front.drain(SECONDS)
    assert call.result()


def test_runs_after_a_long_one_succeed(serve: Callable[..., Served]) -> None:
    served = serve()
    for _ in range(3):  # the first shows how long they take
        call, release = served.hold()
        time.sleep(_LONG_RUN_SECONDS)  # however slow the machine is, the run takes at least this long
        release()
        assert tf.make_ndarray(predict_pb2.PredictResponse.FromString(call.result()).outputs["done"]).tolist() == [0]


@pytest.mark.parametrize("pad", [True, False])
def test_sizes_that_differ(serve: Callable[..., Served], pad: bool) -> None:
    served = serve(pad=pad)
    _, release = served.hold()
    wanted = [rows(1, width=3), rows(1, width=1, offset=1)]
    calls = [served.later(request_of(inputs)) for inputs in wanted]
    served.wait_for_waiting(2)
    release()
    if not pad:
        for one in calls:
            assert one.exception().details() == BEHIND
        return
    wide, narrow = (predict_pb2.PredictResponse.FromString(one.result()) for one in calls)
    assert check(wide, wanted[0]) == 2
    words = tf.make_ndarray(narrow.outputs["words"]).tolist()
    assert words == [[b"w1.0", b"", b""]], "padded with empty values, as in TensorFlow Serving"
    assert tf.make_ndarray(narrow.outputs["points"])[0, :, 0].tolist() == [1, 0, 0]


def test_one_bad_request_does_not_fail_others(served: Served) -> None:
    _, release = served.hold()
    calls = [served.later(request_of(rows(1) | {"small": np.array([small], np.int32)})) for small in (1, -1)]
    served.wait_for_waiting(2)
    release()
    # The server behind, which gets both, finds out which one is at fault.
    assert [one.exception().details() for one in calls] == [BEHIND, BEHIND]
    assert served.behind.seen == [PREDICT, PREDICT]
    check(served.predict(request_of(rows(1))), rows(1))
