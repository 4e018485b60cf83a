"""SavedModels that read ``tf.Example``s: classify and regress signatures, good ones and broken ones."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import input_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.server.errors import from_exception, invalid_argument, not_found
from serving.server.execution.servable import Signature, TensorSpec
from serving.server.lifecycle.states import ServableStateMonitor
from tests.serving.models import save_session

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"
LABELS = ("neg", "mid", "位置-é")


def export_examples(directory: Path) -> Path:
    """A TF1 SavedModel, all of whose good signatures share one placeholder.

    Feature ``x`` (float, default 0) and ``name`` (bytes, default "none") are read; scores are [x, 2x, x + 1],
    classes ``LABELS``, the regression is x / 2 + 2.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        other = v1.placeholder(tf.string, [None], name="other_example")
        features = {
            "x": tf.io.FixedLenFeature([], tf.float32, 0.0),
            "name": tf.io.FixedLenFeature([], tf.string, "none"),
        }
        parsed = tf.io.parse_example(serialized, features)
        x, rows = parsed["x"], tf.shape(parsed["x"])[0]
        scores = tf.stack([x, 2 * x, x + 1], axis=1)
        classes = tf.tile(tf.constant([LABELS]), [rows, 1])
        value = x / 2 + 2
        inputs, outputs = {"inputs": serialized}, {"outputs": value}
        signatures: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
            "serving_default": (inputs, {"classes": classes, "scores": scores}, CLASSIFY),
            "classes": (inputs, {"classes": classes}, CLASSIFY),
            "scores": (inputs, {"scores": scores}, CLASSIFY),
            "scores_and_more": (inputs, {"scores": scores, "extra": x}, CLASSIFY),
            "regress": (inputs, outputs, REGRESS),
            "regress_column": (inputs, {"outputs": value[:, None]}, REGRESS),
            "features": (inputs, {"x": x, "name": parsed["name"]}, PREDICT),
            "tf2_regress": (inputs, outputs, PREDICT),
            # Broken ones
            "classify_two_inputs": ({"inputs": serialized, "b": other}, {"scores": scores}, CLASSIFY),
            "classify_three_outputs": (inputs, {"scores": scores, "classes": classes, "c": x}, CLASSIFY),
            "classify_other_input": ({"examples": serialized}, {"scores": scores}, CLASSIFY),
            "classify_other_output": (inputs, {"probabilities": scores}, CLASSIFY),
            "classify_flat": (inputs, {"scores": x}, CLASSIFY),
            "classify_int_scores": (inputs, {"scores": tf.cast(scores, tf.int64)}, CLASSIFY),
            "classify_float_classes": (inputs, {"classes": scores}, CLASSIFY),
            "classify_batch": (inputs, {"scores": tf.constant([[1.0, 2.0]] * 7)}, CLASSIFY),
            "classify_classes_batch": (inputs, {"classes": tf.constant([["a", "b"]] * 7)}, CLASSIFY),
            "classify_widths": (inputs, {"scores": scores[:, :2], "classes": classes}, CLASSIFY),
            "classify_binary": (inputs, {"classes": tf.tile(tf.constant([[b"\xff\xfe"]]), [rows, 1])}, CLASSIFY),
            "regress_two_inputs": ({"inputs": serialized, "b": other}, outputs, REGRESS),
            "regress_two_outputs": (inputs, {"outputs": value, "c": x}, REGRESS),
            "regress_other_input": ({"examples": serialized}, outputs, REGRESS),
            "regress_other_output": (inputs, {"values": value}, REGRESS),
            "regress_wide": (inputs, {"outputs": scores}, REGRESS),
            "regress_int": (inputs, {"outputs": tf.cast(value, tf.int32)}, REGRESS),
            "regress_batch": (inputs, {"outputs": tf.constant([1.0] * 7)}, REGRESS),
            "regress_other_placeholder": (
                {"inputs": other},
                {"outputs": tf.io.parse_example(other, features)["x"]},
                REGRESS,
            ),
        }
        session.run(v1.global_variables_initializer())
        return save_session(session, directory, signatures)


def example(x: float | None = None, name: str | None = None) -> tf.train.Example:
    """An Example with the given features."""
    features: dict[str, Any] = {}
    if x is not None:
        features["x"] = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    if name is not None:
        features["name"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()]))
    return tf.train.Example(features=tf.train.Features(feature=features))


def input_of(*examples: object, context: object = None) -> input_pb2.Input:
    """An ``Input`` of these examples, with a context if one is given."""
    result = input_pb2.Input()
    target = result.example_list if context is None else result.example_list_with_context
    target.SetInParent()
    target.examples.extend(examples)
    if context is not None:
        result.example_list_with_context.context.CopyFrom(context)
    return result


def scores_of(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The model's scores, computed independently."""
    x = np.asarray(values, np.float32)
    return np.stack([x, x * 2, x + 1], axis=1)


class SessionServable:
    """A ``Servable`` on TensorFlow's Python session: independent of the server's own way of running models."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph)
        with self._graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        self.signature_defs: Mapping[str, Any] = meta_graph.signature_def
        self.signatures: Mapping[str, Signature] = {name: _signature(d) for name, d in meta_graph.signature_def.items()}
        self.runs = 0

    def run(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        definition = self.signatures[signature]
        feeds = {definition.inputs[alias].name: tf.make_ndarray(proto) for alias, proto in inputs.items()}
        fetches = {alias: definition.outputs[alias].name for alias in outputs}
        self.runs += 1
        try:
            results = self._session.run(fetches, feeds)
        except tf.errors.OpError as error:
            raise from_exception(error) from None
        return {alias: tf.make_tensor_proto(value) for alias, value in results.items()}

    def run_serialized(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        alone: bool = False,
    ) -> dict[str, bytes]:
        results = self.run(signature, inputs, outputs, timeout=timeout)
        return {alias: proto.SerializeToString() for alias, proto in results.items()}

    def close(self) -> None:
        self._session.close()


class OneModelCore:
    """The part of a ``ServerCore`` that ``Handlers`` needs, for one version of one model."""

    def __init__(self, name: str, version: int, servable: object) -> None:
        self.monitor = ServableStateMonitor()
        self.config: Any = model_server_config_pb2.ModelServerConfig()
        self.refusal: Exception | None = None
        self._name, self._version, self._servable = name, version, servable

    @contextlib.contextmanager
    def acquire(self, spec: Any) -> Iterator[tuple[int, Any]]:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        if spec.name != self._name or (spec.HasField("version") and spec.version.value != self._version):
            raise not_found(f"Servable not found for request: Latest({spec.name})")
        yield self._version, self._servable

    def reload(self, config: Any, timeout: float | None) -> None:
        if self.refusal is not None:
            raise self.refusal
        accepted = model_server_config_pb2.ModelServerConfig()
        accepted.CopyFrom(config)
        self.config = accepted


def _signature(definition: Any) -> Signature:
    def specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
        return {alias: TensorSpec(info.name, info.dtype, None) for alias, info in infos.items()}

    return Signature(definition.method_name, specs(definition.inputs), specs(definition.outputs), {})
