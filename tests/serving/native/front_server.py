"""A native front with a real graph, and behind it a server that reports what was forwarded."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.native.front import Front, NativeModel, NativeSignature
from serving.runtime.session import INLINE_OPTIONS, SavedModelSession
from serving.server.api.predict import spec_field
from tests.conformance.models import wait_for_file
from tests.serving.live import wait_for

if TYPE_CHECKING:
    _Handler = grpc.GenericRpcHandler[bytes, bytes]
else:
    # Generic in its stub alone.
    _Handler = grpc.GenericRpcHandler

v1 = tf.compat.v1
PREDICT = "/tensorflow.serving.PredictionService/Predict"
BEHIND = "it was passed on"
SECONDS = 60.0
_TEXTS = ["", "Känguru 🦘", "科幻电影", "เที่ยวทะเล", "فيلم", "한국" * 4000]


def export(path: Path) -> Path:
    """Rows in, rows out, in every type that the front supports; a negative ``small`` fails; files hold ``hold``."""
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
        paths = {name: v1.placeholder(tf.string, [None]) for name in ("started", "released")}
        done = tf.fill(tf.shape(paths["started"]), wait_for_file(paths["started"], paths["released"]))
        lone = v1.placeholder(tf.float32, [None])
        signatures = {
            "serving_default": (inputs, outputs),
            "hold": (paths, {"done": done}),
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
    """Inputs with ``count`` different rows."""
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


def expected(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The graph's result, computed with NumPy."""
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
    """Compares an answer with the expected one; returns how many rows shared its run."""
    found = {alias: tf.make_ndarray(proto).tolist() for alias, proto in response.outputs.items()}
    together = found.pop("together")
    assert found == expected(inputs)
    assert len(set(together)) == 1
    return int(together[0])


def request_of(inputs: Mapping[str, Any], signature: str = "", model: str = "m") -> Any:
    """A PredictRequest; an empty signature is the default one."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value, shape=np.shape(value)))
    return request


@dataclass
class Behind(_Handler):
    """Replaces the server in Python: refuses Predict with its own message, and has methods of other kinds."""

    seen: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        method = handler_call_details.method
        self.seen.append(method)
        self.metadata = dict(handler_call_details.invocation_metadata)
        if method == PREDICT:
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
        context.abort(grpc.StatusCode.ABORTED, BEHIND)
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
        self.cancelled.wait(SECONDS)


@dataclass
class Served:
    front: Front
    behind: Behind
    channel: Any
    session: SavedModelSession
    folder: Path

    def model(self, version: int, rows: Mapping[str, bytes] | None = None) -> NativeModel:
        signatures = {}
        for key, definition in self.session.meta_graph.signature_def.items():
            inputs, outputs = sorted(definition.inputs.items()), sorted(definition.outputs.items())
            signatures[key] = NativeSignature(
                [(alias, info.dtype, len(info.tensor_shape.dim)) for alias, info in inputs],
                [self.session.output(info.name) for _, info in inputs],
                [(alias, info.dtype) for alias, info in outputs],
                [self.session.output(info.name) for _, info in outputs],
                spec_field("m", version, key),
                rows or {},
            )
        return NativeModel(self.session.pointer, INLINE_OPTIONS, signatures)

    def raw(self, content: bytes, **options: object) -> Any:
        return predict_pb2.PredictResponse.FromString(
            self.channel.unary_unary(PREDICT)(content, timeout=SECONDS, **options)
        )

    def predict(self, request: Any, **options: Any) -> Any:
        return self.raw(request.SerializeToString(), **options)

    def later(self, request: Any, timeout: float = SECONDS) -> Any:
        return self.later_raw(request.SerializeToString(), timeout)

    def later_raw(self, content: bytes, timeout: float = SECONDS) -> Any:
        return self.channel.unary_unary(PREDICT).future(content, timeout=timeout)

    def refusal(self, request: Any) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.raw(request if isinstance(request, bytes) else request.SerializeToString())
        return caught.value

    def is_passed_on(self, request: Any) -> bool:
        error = self.refusal(request)
        return bool(error.code() is grpc.StatusCode.ABORTED and error.details() == BEHIND)

    def hold(self) -> tuple[Any, Callable[[], None]]:
        """A request inside the model, and how to release it."""
        name = f"held-{time.monotonic_ns()}"
        started, released = self.folder / f"{name}-started", self.folder / f"{name}-released"
        call = self.later(request_of({"started": [str(started)], "released": [str(released)]}, "hold"))
        wait_for(lambda: started.exists() or call.done(), SECONDS, "a request in the model")
        assert not call.done(), call.exception()
        return call, released.touch

    def wait_for_waiting(self, rows: int) -> None:
        """Waits until ``rows`` rows wait for a run."""
        wait_for(lambda: self.front.waiting() == rows, SECONDS, f"{rows} waiting rows, {self.front.waiting()} of them")
