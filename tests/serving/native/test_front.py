"""The native front alone: what it answers, forwards and refuses."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from serving.native.front import Front
from serving.native.library import why_not
from tests.serving.live import wait_for
from tests.serving.native.front_server import BEHIND, SECONDS, Served, check, request_of, rows

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.mark.parametrize("count", [1, 3, 8])
def test_answers_in_every_type(served: Served, count: int) -> None:
    inputs = rows(count)
    response = served.predict(request_of(inputs))
    assert check(response, inputs) == count
    assert response.model_spec == text_format.Parse(
        "name: 'm' version { value: 5 } signature_name: 'serving_default'", type(response.model_spec)()
    )
    assert len(response.outputs["count"].int64_val) == count, "typed fields, as TensorFlow Serving answers"
    assert served.behind.seen == []


def test_numbers_as_typed_values_and_as_content(served: Served) -> None:
    inputs = rows(2)
    request = request_of(inputs)
    for alias, field_name in {"points": "float_val", "exact": "double_val", "count": "int64_val"}.items():
        proto = request.inputs[alias]
        assert proto.tensor_content, "this is how NumPy's values are packed"
        proto.ClearField("tensor_content")
        getattr(proto, field_name).extend(np.ravel(inputs[alias]).tolist())
    check(served.predict(request), inputs)
    assert served.behind.seen == []


def test_no_columns(served: Served) -> None:
    inputs = rows(2, width=0)
    check(served.predict(request_of(inputs)), inputs)
    assert served.behind.seen == []


def test_a_lone_request_gets_outputs_without_rows(served: Served) -> None:
    assert list(served.predict(request_of({"x": np.array([1, 2, 4], np.float32)}, "sum")).outputs["y"].float_val) == [
        7.0
    ]


def other_requests() -> dict[str, Any]:
    good = request_of(rows(2))
    wire = good.SerializeToString()
    cases: dict[str, Any] = {
        "no_message": b"",
        "garbage": b"\xff\xff\xff\xff",
        "cut": wire[:-3],
        "twice": wire + wire,
        "unknown_field": wire + b"\xf8\x07\x01",
        "field_of_another_type": wire + b"\x0d\0\0\0\0",
    }

    def case(name: str) -> Any:
        cases[name] = request = predict_pb2.PredictRequest()
        request.CopyFrom(good)
        return request

    case("other_model").model_spec.name = "n"
    case("no_name").model_spec.name = ""
    case("other_version").model_spec.version.value = 4
    case("label").model_spec.version_label = "stable"
    case("other_signature").model_spec.signature_name = "none"
    case("filter").output_filter.append("text")
    case("too_few").inputs.pop("flag")
    case("too_many").inputs["more"].CopyFrom(good.inputs["flag"])
    case("other_type").inputs["small"].dtype = tf.int64.as_datatype_enum
    case("other_rank").inputs["text"].tensor_shape.dim.add(size=1)
    case("unknown_rank").inputs["text"].tensor_shape.unknown_rank = True
    case("negative").inputs["text"].tensor_shape.dim[0].size = -2
    case("huge").inputs["words"].tensor_shape.dim[1].size = 2**62
    case("other_rows").inputs["text"].CopyFrom(tf.make_tensor_proto(["a"]))
    case("no_rows").CopyFrom(request_of(rows(0)))
    case("too_many_rows").CopyFrom(request_of(rows(9)))
    short = case("one_value_for_all").inputs["text"]
    del short.string_val[1:]
    case("values_and_content").inputs["count"].int64_val.append(1)
    case("cut_content").inputs["count"].tensor_content = b"\0" * 15
    return cases


@pytest.mark.parametrize("name", other_requests())
def test_everything_else_is_forwarded_unchanged(served: Served, name: str) -> None:
    request = other_requests()[name]
    content = request if isinstance(request, bytes) else request.SerializeToString()
    error = served.refusal(content)
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, BEHIND)
    assert dict(error.trailing_metadata())["size"] == str(len(content))


_WIRE = request_of(rows(2)).SerializeToString()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(_WIRE) - 1), st.integers(0, 3), st.binary(max_size=6)), min_size=1, max_size=4
    )
)
def test_damaged_requests(served: Served, edits: list[tuple[int, int, bytes]]) -> None:
    """Bytes are removed and inserted anywhere: the request is answered or forwarded, and nothing breaks."""
    content = bytearray(_WIRE)
    for place, removed, inserted in edits:
        content[place : place + removed] = inserted
    refused = served.later_raw(bytes(content)).exception()
    assert refused is None or refused.details() == BEHIND
    check(served.raw(_WIRE), rows(2))


@pytest.mark.parametrize("size", [9_000, 100_000, 900_000])
def test_large_metadata_does_not_end_other_requests(served: Served, size: int) -> None:
    call, release = served.hold()
    waiting = served.later(request_of(rows(2)))
    metadata = [("authorization", "Bearer " + "x" * size)]
    with pytest.raises(grpc.RpcError) as caught:
        served.predict(request_of(rows(1)), metadata=metadata)
    # Whether it is refused is up to the gRPC behind.
    assert caught.value.code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED)
    with pytest.raises(grpc.RpcError):
        served.channel.unary_unary("/test/Unknown")(b"", timeout=SECONDS, metadata=metadata)
    release()
    assert call.result()
    check(predict_pb2.PredictResponse.FromString(waiting.result()), rows(2))
    check(served.predict(request_of(rows(1))), rows(1))


def test_ordinary_metadata_changes_nothing(served: Served) -> None:
    check(served.predict(request_of(rows(1)), metadata=[("authorization", "Bearer " + "x" * 7_000)]), rows(1))
    assert served.behind.seen == []


def test_specific_versions(served: Served) -> None:
    request = request_of(rows(1))
    request.model_spec.version.value = 5
    assert served.predict(request).model_spec.version.value == 5
    newer = served.model(6)
    try:
        served.front.serve("m", {4: None, 5: newer, 6: newer})
        assert served.predict(request_of(rows(1))).model_spec.version.value == 6
        request.model_spec.version.value = 4
        assert served.is_passed_on(request)
        served.front.serve("m", {5: newer, 7: None})
        assert served.is_passed_on(request_of(rows(1))), "the newest is not the front's"
        served.front.serve("m", {})
        assert served.is_passed_on(request_of(rows(1)))
    finally:
        newer.close()


def test_a_model_is_kept_until_its_last_request_has_ended(served: Served) -> None:
    newer = served.model(6)
    served.front.serve("m", {6: newer})
    call, release = served.hold()
    served.front.serve("m", {})
    closing = threading.Thread(target=newer.close)
    closing.start()
    closing.join(0.5)
    assert closing.is_alive()
    release()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert call.result()


def test_too_many_wait(serve: Callable[..., Served]) -> None:
    served = serve(max_waiting=3)
    _, release = served.hold()
    first = served.later(request_of(rows(2)))
    served.wait_for_waiting(2)
    error = served.refusal(request_of(rows(2)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 rows wait and 3 may"
    )
    release()
    assert first.result()
    counts = served.front.count("m")
    assert counts is not None
    assert (counts.answered, counts.refused) == (2, 1)


def test_too_many_at_once(serve: Callable[..., Served]) -> None:
    served = serve(max_concurrent=1)
    call, release = served.hold()
    error = served.refusal(request_of(rows(1)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1 requests are in the server already (--max_concurrent_requests)" in error.details()
    assert served.channel.unary_unary("/test/Echo")(b"others may", timeout=SECONDS) == b"others may"
    release()
    assert call.result()
    check(served.predict(request_of(rows(1))), rows(1))


def test_requests_answered_elsewhere_count_too(serve: Callable[..., Served]) -> None:
    served = serve(max_concurrent=2)
    call, release = served.hold()
    assert served.front.enter()
    assert not served.front.enter()
    assert served.refusal(request_of(rows(1))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    served.front.leave()
    waiting = served.later(request_of(rows(1)))
    served.wait_for_waiting(1)
    assert not served.front.enter()
    release()
    assert call.result()
    assert waiting.result()
    wait_for(served.front.enter, SECONDS, "the end of the held request")
    assert served.front.arrivals().refused_requests == 1, "only its own"


def test_an_expired_request_is_not_run(served: Served) -> None:
    _, release = served.hold()
    late = served.later(request_of(rows(1)), timeout=2.0)
    served.wait_for_waiting(1)
    time.sleep(2.1)  # the server's clock started when the request arrived
    assert late.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
    release()
    check(served.predict(request_of(rows(2))), rows(2))
    counts = served.front.count("m")
    assert counts is not None
    assert counts.answered == 2


def test_unknown_models_have_no_counts(served: Served) -> None:
    assert served.front.count("n") is None


def test_other_calls_are_forwarded_completely(served: Served) -> None:
    large = bytes(range(256)) * 40_000
    echo, call = served.channel.unary_unary("/test/Echo").with_call(
        large, timeout=SECONDS, metadata=(("key", "value"), ("blob-bin", b"\xff\0"))
    )
    assert echo == large
    assert served.behind.metadata["key"] == "value"
    assert served.behind.metadata["blob-bin"] == b"\xff\0"
    assert dict(call.initial_metadata()) == {"first": "one", "data-bin": b"\0\1"}
    assert dict(call.trailing_metadata()) == {"last": "two"}
    chat = served.channel.stream_stream("/test/Chat")(iter([b"a", b"", b"c"]), timeout=SECONDS)
    assert list(chat) == [b"A", b"!", b"", b"!", b"C", b"!"]
    with pytest.raises(grpc.RpcError) as caught:
        served.channel.unary_unary("/test/None")(b"", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_compressed_messages(served: Served) -> None:
    inputs = rows(6)
    check(served.predict(request_of(inputs), compression=grpc.Compression.Gzip), inputs)
    echo = served.channel.unary_unary("/test/Echo")
    assert echo(b"x" * 100_000, compression=grpc.Compression.Gzip, timeout=SECONDS) == b"x" * 100_000


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_the_server_behind_notices_a_disconnected_caller(served: Served, how: str) -> None:
    stream = served.channel.unary_stream("/test/Wait")(b"", timeout=0.5 if how == "deadline" else SECONDS)
    assert next(stream) == b"waiting"
    if how == "cancel":
        stream.cancel()
    assert served.behind.cancelled.wait(SECONDS)


def test_drains_forwarded_calls_too(served: Served) -> None:
    stream = served.channel.unary_stream("/test/Wait")(b"", timeout=SECONDS)
    assert next(stream) == b"waiting"
    assert not served.front.drain(0.1)
    stream.cancel()
    assert served.front.drain(SECONDS)


def test_drains(serve: Callable[..., Served]) -> None:
    served = serve()
    call, release = served.hold()
    assert not served.front.drain(0.1)
    refused = served.refusal(request_of(rows(1)))
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert not call.done()
    release()
    assert served.front.drain(SECONDS)
    assert call.result()


def test_an_address_in_use(served: Served) -> None:
    limits: dict[str, Any] = {
        "groups": 1,
        "max_rows": 1,
        "max_waiting": 1,
        "timeout_micros": 0,
        "max_concurrent": 0,
        "max_connections": 8,
        "pad": False,
    }
    other = Front(**limits, channel_arguments=[])
    taken = Front(**limits, channel_arguments=[("grpc.so_reuseport", 0), ("grpc.primary_user_agent", "text")])
    port = other.listen("localhost:0")
    with pytest.raises(OSError, match="in use"):
        taken.listen(f"localhost:{port}")
    assert other.close(1)
    assert taken.close(1)


def test_many_clients_at_once(serve: Callable[..., Served]) -> None:
    served = serve(groups=3, max_rows=32, max_waiting=1000)

    def ask(number: int) -> None:
        inputs = rows(1 + number % 3, width=number % 4, offset=number)
        response = served.predict(request_of(inputs))
        text = tf.make_ndarray(response.outputs["exact"]).tolist()
        assert text == (inputs["exact"] / 3).tolist()

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(ask, range(600)))
    counts = served.front.count("m")
    assert counts is not None
    assert counts.answered == 600
    assert served.behind.seen == []
