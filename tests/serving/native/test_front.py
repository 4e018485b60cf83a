"""The native front alone: a real graph in it, and behind it a server that says what was passed on."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from serving.native.front import Front, NativeModel, NativeSignature
from serving.native.library import why_not
from serving.protos import config_pb2
from serving.runtime.session import INLINE_OPTIONS, SavedModelSession
from serving.server.predict import spec_field

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

v1 = tf.compat.v1
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_BEHIND = "it was passed on"
_SECONDS = 30.0
_TEXTS = ["", "Känguru 🦘", "科幻电影", "เที่ยวทะเล", "فيلم", "한국" * 4000]


def export(path: Path) -> Path:
    """Rows in, rows out, in every type that the front knows; a negative ``small`` fails; ``hold`` waits for a file."""
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = {
            "text": v1.placeholder(tf.string, [None]),
            "words": v1.placeholder(tf.string, [None, None]),
            "points": v1.placeholder(tf.float32, [None, None]),
            "exact": v1.placeholder(tf.float64, [None]),
            "count": v1.placeholder(tf.int64, [None]),
            "small": v1.placeholder(tf.int32, [None]),
            "flag": v1.placeholder(tf.bool, [None]),
        }
        with tf.control_dependencies([v1.assert_non_negative(inputs["small"])]):
            small = tf.identity(inputs["small"])
        outputs = {
            "text": tf.strings.join([inputs["text"], tf.strings.reduce_join(inputs["words"], -1, separator=",")], "|"),
            "words": tf.identity(inputs["words"]),
            "points": tf.stack([inputs["points"], -inputs["points"]], 2),
            "exact": inputs["exact"] / 3,
            "count": inputs["count"] - 2**40,
            "small": small * -7,
            "flag": ~inputs["flag"],
            "together": tf.fill(tf.shape(small), tf.size(small)),
        }
        held = v1.placeholder(tf.string, [None])

        def is_missing(_: Any) -> Any:
            return tf.equal(tf.size(tf.io.matching_files(held[0])), 0)

        waited = tf.while_loop(is_missing, lambda turn: turn + 1, [0])[0]
        lone = v1.placeholder(tf.float32, [None])
        signatures = {
            "serving_default": (inputs, outputs),
            "hold": ({"path": held}, {"turns": tf.fill(tf.shape(held), waited)}),
            "sum": ({"x": lone}, {"y": tf.reduce_sum(lone)}),
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                key: v1.saved_model.predict_signature_def(given, made) for key, (given, made) in signatures.items()
            },
        )
        builder.save()
    return path


def rows(count: int, width: int = 2, offset: int = 0) -> dict[str, Any]:
    """Inputs of so many rows, each other than the next."""
    numbers = np.arange(offset, offset + count)
    return {
        "text": np.array([_TEXTS[n % len(_TEXTS)].encode() for n in numbers], object),
        "words": np.array([[f"w{n}.{c}".encode() for c in range(width)] for n in numbers], object).reshape(
            count, width
        ),
        "points": (numbers[:, None] + np.arange(width) / 8).astype(np.float32),
        "exact": numbers * 1.5,
        "count": numbers.astype(np.int64) * -(2**33),
        "small": numbers.astype(np.int32),
        "flag": numbers % 2 == 0,
    }


def request_of(inputs: Mapping[str, Any], signature: str = "", model: str = "m") -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value, shape=np.shape(value)))
    return request


@dataclass
class Behind(grpc.GenericRpcHandler):
    """Stands for the server in Python: refuses Predict in words of its own, and has methods of other kinds."""

    seen: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        self.seen.append(method)
        self.metadata = dict(handler_call_details.invocation_metadata)
        if method == _PREDICT:
            return grpc.unary_unary_rpc_method_handler(self._predict)
        if method == "/test/Echo":
            return grpc.unary_unary_rpc_method_handler(self._echo)
        if method == "/test/Chat":
            return grpc.stream_stream_rpc_method_handler(self._chat)
        if method == "/test/Wait":
            return grpc.unary_stream_rpc_method_handler(self._wait)
        return None

    def _predict(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("size", str(len(request))),))
        context.abort(grpc.StatusCode.ABORTED, _BEHIND)
        raise AssertionError

    def _echo(self, request: bytes, context: Any) -> bytes:
        context.send_initial_metadata((("first", "one"), ("data-bin", b"\0\1")))
        context.set_trailing_metadata((("last", "two"),))
        return request

    def _chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()
            yield b"!"

    def _wait(self, request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        yield b"waiting"
        self.cancelled.wait(_SECONDS)


@dataclass
class Served:
    front: Front
    behind: Behind
    channel: Any
    session: SavedModelSession
    folder: Path

    def model(self, version: int) -> NativeModel:
        signatures = {}
        for key, definition in self.session.meta_graph.signature_def.items():
            inputs, outputs = sorted(definition.inputs.items()), sorted(definition.outputs.items())
            signatures[key] = NativeSignature(
                [(alias, info.dtype, len(info.tensor_shape.dim)) for alias, info in inputs],
                [self.session.output(info.name) for _, info in inputs],
                [(alias, info.dtype) for alias, info in outputs],
                [self.session.output(info.name) for _, info in outputs],
                spec_field("m", version, key),
            )
        return NativeModel(self.session.pointer, INLINE_OPTIONS, signatures)

    def raw(self, content: bytes, **options: Any) -> Any:
        return predict_pb2.PredictResponse.FromString(
            self.channel.unary_unary(_PREDICT)(content, timeout=_SECONDS, **options)
        )

    def predict(self, request: Any, **options: Any) -> Any:
        return self.raw(request.SerializeToString(), **options)

    def later(self, request: Any, timeout: float = _SECONDS) -> Any:
        return self.later_raw(request.SerializeToString(), timeout)

    def later_raw(self, content: bytes, timeout: float = _SECONDS) -> Any:
        return self.channel.unary_unary(_PREDICT).future(content, timeout=timeout)

    def refusal(self, request: Any) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.raw(request if isinstance(request, bytes) else request.SerializeToString())
        return caught.value

    def is_passed_on(self, request: Any) -> bool:
        error = self.refusal(request)
        return bool(error.code() is grpc.StatusCode.ABORTED and error.details() == _BEHIND)

    def hold(self) -> tuple[Any, Callable[[], None]]:
        """A request inside the model, and what lets it go."""
        path = self.folder / f"held-{time.monotonic_ns()}"
        before = self.front.count("m")
        call = self.later(request_of({"path": [str(path)]}, "hold"))
        assert before is not None
        time.sleep(0.3)  # nothing tells that it is inside; were it not, the tests below would still have to pass
        return call, path.touch


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("native") / "1")


@pytest.fixture
def serve(exported: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    ends: list[Callable[[], object]] = []

    def make(**options: Any) -> Served:
        limits = {"groups": 1, "max_rows": 8, "max_waiting": 64, "max_concurrent": 0, "pad": True}
        front = Front(**(limits | {"channel_arguments": [("grpc.max_receive_message_length", -1)]} | options))
        port = front.listen("localhost:0")
        assert port
        behind = Behind()
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((behind,))
        address = f"unix:{tmp_path}/behind.sock"
        server.add_insecure_port(address)
        server.start()
        front.start(address)
        session = SavedModelSession(exported, ["serve"], config_pb2.ConfigProto())
        channel = grpc.insecure_channel(f"localhost:{port}", options=[("grpc.max_receive_message_length", -1)])
        served = Served(front, behind, channel, session, tmp_path)
        model = served.model(5)
        front.serve("m", {5: model})

        def end() -> None:
            channel.close()
            server.stop(0).wait()
            assert front.close(_SECONDS)
            front.serve("m", {})
            model.close()
            session.close()

        ends.append(end)
        return served

    yield make
    for end in ends:
        end()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


def expected(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the graph computes, worked out with NumPy."""
    words = [b",".join(row) for row in inputs["words"]]
    return {
        "text": [text + b"|" + joined for text, joined in zip(inputs["text"], words, strict=True)],
        "words": inputs["words"].tolist(),
        "points": np.stack([inputs["points"], -inputs["points"]], 2).tolist(),
        "exact": (inputs["exact"] / 3).tolist(),
        "count": (inputs["count"] - 2**40).tolist(),
        "small": (inputs["small"] * -7).tolist(),
        "flag": (~inputs["flag"]).tolist(),
    }


def check(response: Any, inputs: Mapping[str, Any]) -> int:
    """Compares an answer with what is expected; returns how many rows shared its run."""
    found = {alias: tf.make_ndarray(proto).tolist() for alias, proto in response.outputs.items()}
    together = found.pop("together")
    assert found == expected(inputs)
    assert len(set(together)) == 1
    return int(together[0])


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


def test_requests_share_a_run_and_each_gets_its_own_rows(served: Served) -> None:
    call, release = served.hold()
    wanted = [rows(count, offset=10 * count) for count in (1, 3, 2, 2)]
    calls = [served.later(request_of(inputs)) for inputs in wanted]
    time.sleep(0.3)
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
    for buckets, total in (counts.request_latency, counts.run_latency):
        assert sum(buckets) == 5
        assert len(buckets) == 34
        assert total > 0.2e6, "microseconds, of which the held one alone took more"


@pytest.mark.parametrize("pad", [True, False])
def test_sizes_that_differ(serve: Callable[..., Served], pad: bool) -> None:
    served = serve(pad=pad)
    _, release = served.hold()
    wanted = [rows(1, width=3), rows(1, width=1, offset=1)]
    calls = [served.later(request_of(inputs)) for inputs in wanted]
    time.sleep(0.3)
    release()
    if not pad:
        for one in calls:
            assert one.exception().details() == _BEHIND
        return
    wide, narrow = (predict_pb2.PredictResponse.FromString(one.result()) for one in calls)
    assert check(wide, wanted[0]) == 2
    words = tf.make_ndarray(narrow.outputs["words"]).tolist()
    assert words == [[b"w1.0", b"", b""]], "filled up with what is empty, as TensorFlow Serving leaves it"
    assert tf.make_ndarray(narrow.outputs["points"])[0, :, 0].tolist() == [1, 0, 0]


def test_one_bad_request_spoils_no_other_s_answer(served: Served) -> None:
    _, release = served.hold()
    calls = [served.later(request_of(rows(1) | {"small": np.array([small], np.int32)})) for small in (1, -1)]
    time.sleep(0.3)
    release()
    # Whose fault it is finds out the server behind, which gets both.
    assert [one.exception().details() for one in calls] == [_BEHIND, _BEHIND]
    assert served.behind.seen == [_PREDICT, _PREDICT]
    check(served.predict(request_of(rows(1))), rows(1))


def test_a_lone_request_gets_what_has_no_rows(served: Served) -> None:
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
def test_all_else_is_passed_on_as_it_came(served: Served, name: str) -> None:
    request = other_requests()[name]
    content = request if isinstance(request, bytes) else request.SerializeToString()
    error = served.refusal(content)
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, _BEHIND)
    assert dict(error.trailing_metadata())["size"] == str(len(content))


_WIRE = request_of(rows(2)).SerializeToString()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(_WIRE) - 1), st.integers(0, 3), st.binary(max_size=6)), min_size=1, max_size=4
    )
)
def test_damaged_requests(served: Served, edits: list[tuple[int, int, bytes]]) -> None:
    """Bytes are taken away and put in anywhere: it is answered or passed on, and nothing breaks."""
    content = bytearray(_WIRE)
    for place, removed, inserted in edits:
        content[place : place + removed] = inserted
    refused = served.later_raw(bytes(content)).exception()
    assert refused is None or refused.details() == _BEHIND
    check(served.raw(_WIRE), rows(2))


def test_certain_versions(served: Served) -> None:
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
    closing.join(_SECONDS)
    assert not closing.is_alive()
    assert call.result()


def test_too_many_wait(serve: Callable[..., Served]) -> None:
    served = serve(max_waiting=3)
    _, release = served.hold()
    first = served.later(request_of(rows(2)))
    time.sleep(0.3)
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
    assert served.channel.unary_unary("/test/Echo")(b"others may", timeout=_SECONDS) == b"others may"
    release()
    assert call.result()
    check(served.predict(request_of(rows(1))), rows(1))


def test_a_request_whose_time_is_over_is_not_run(served: Served) -> None:
    _, release = served.hold()
    late = served.later(request_of(rows(1)), timeout=0.3)
    assert late.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.5)  # the server's clock begins when the request arrives
    release()
    check(served.predict(request_of(rows(2))), rows(2))
    counts = served.front.count("m")
    assert counts is not None
    assert counts.answered == 2


def test_no_such_model_has_counts(served: Served) -> None:
    assert served.front.count("n") is None


def test_other_calls_are_passed_on_whole(served: Served) -> None:
    large = bytes(range(256)) * 40_000
    echo, call = served.channel.unary_unary("/test/Echo").with_call(
        large, timeout=_SECONDS, metadata=(("key", "value"), ("blob-bin", b"\xff\0"))
    )
    assert echo == large
    assert served.behind.metadata["key"] == "value"
    assert served.behind.metadata["blob-bin"] == b"\xff\0"
    assert dict(call.initial_metadata()) == {"first": "one", "data-bin": b"\0\1"}
    assert dict(call.trailing_metadata()) == {"last": "two"}
    chat = served.channel.stream_stream("/test/Chat")(iter([b"a", b"", b"c"]), timeout=_SECONDS)
    assert list(chat) == [b"A", b"!", b"", b"!", b"C", b"!"]
    with pytest.raises(grpc.RpcError) as caught:
        served.channel.unary_unary("/test/None")(b"", timeout=_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_compressed_messages(served: Served) -> None:
    inputs = rows(6)
    check(served.predict(request_of(inputs), compression=grpc.Compression.Gzip), inputs)
    echo = served.channel.unary_unary("/test/Echo")
    assert echo(b"x" * 100_000, compression=grpc.Compression.Gzip, timeout=_SECONDS) == b"x" * 100_000


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_caller_that_goes_is_noticed_behind(served: Served, how: str) -> None:
    stream = served.channel.unary_stream("/test/Wait")(b"", timeout=0.5 if how == "deadline" else _SECONDS)
    assert next(stream) == b"waiting"
    if how == "cancel":
        stream.cancel()
    assert served.behind.cancelled.wait(_SECONDS)


def test_drains_what_is_passed_on_too(served: Served) -> None:
    stream = served.channel.unary_stream("/test/Wait")(b"", timeout=_SECONDS)
    assert next(stream) == b"waiting"
    assert not served.front.drain(0.1)
    stream.cancel()
    assert served.front.drain(_SECONDS)


def test_drains(serve: Callable[..., Served]) -> None:
    served = serve()
    call, release = served.hold()
    assert not served.front.drain(0.1)
    refused = served.refusal(request_of(rows(1)))
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert not call.done()
    release()
    assert served.front.drain(_SECONDS)
    assert call.result()


def test_an_address_that_is_taken(served: Served) -> None:
    other = Front(groups=1, max_rows=1, max_waiting=1, max_concurrent=0, pad=False, channel_arguments=[])
    taken = Front(
        groups=1,
        max_rows=1,
        max_waiting=1,
        max_concurrent=0,
        pad=False,
        channel_arguments=[("grpc.so_reuseport", 0), ("grpc.primary_user_agent", "text")],
    )
    port = other.listen("localhost:0")
    assert taken.listen(f"localhost:{port}") == 0
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
