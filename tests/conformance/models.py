"""Tiny models for the conformance tests, each a SavedModel that TensorFlow Serving's own loader accepts.

``python -m tests.conformance.models FOLDER`` writes them all and a ``models.config``, so that any server can be started
on them by hand; ``README.md`` says how.
"""

import argparse
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Keras 2, which exports this suite's models; read when TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf

PREDICT, CLASSIFY, REGRESS = "tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress"
# Types that a gRPC request can contain, by the TensorProto field of their values.
VALUE_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "int64": "int64_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
}
WORDS = ("null", "uno", "dós", "三")
LABELS = ("low", "mid", "haut", "高")

v1 = tf.compat.v1
_Tensors = Mapping[str, Any]


def export_half_plus_two(directory: Path, addend: float = 2.0) -> Path:
    """TensorFlow Serving's own test model: y = x / 2 + 2, y2 = y + 1, y3 = x2 / 2 + 3, for Examples and for tensors.

    Source: ``tensorflow/cc/saved_model/testdata`` and ``saved_model_half_plus_two.py`` of the TensorFlow repositories,
    with the signatures that the real server's tests use.
    """

    def build() -> dict[str, Any]:
        a, b, c = v1.get_variable("a", initializer=0.5), v1.get_variable("b", initializer=addend), addend + 1.0
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        features = tf.io.parse_example(
            examples,
            {
                "x": tf.io.FixedLenFeature([1], tf.float32),
                "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
            },
        )
        x, x2 = tf.identity(features["x"], "x"), tf.identity(features["x2"], "x2")
        y, y2, y3 = a * x + b, a * x + c, a * x2 + c
        return {
            "serving_default": _signature({"x": x}, {"y": y}, PREDICT),
            "regress_x_to_y": _signature({"inputs": examples}, {"outputs": y}, REGRESS),
            "regress_x_to_y2": _signature({"inputs": examples}, {"outputs": y2}, REGRESS),
            "regress_x2_to_y3": _signature({"inputs": x2}, {"outputs": y3}, REGRESS),
            "classify_x_to_y": _signature({"inputs": examples}, {"scores": y}, CLASSIFY),
            "classify_x2_to_y3": _signature({"inputs": x2}, {"scores": y3}, CLASSIFY),
            REGRESS: _signature({"inputs": examples}, {"outputs": y}, REGRESS),
        }

    return _save(directory, build)


def export_numbered(directory: Path, number: int) -> Path:
    """y = x + the version's number, so that an answer shows which version gave it; ``wait`` as in ``export_gate``."""

    def build() -> dict[str, Any]:
        offset = v1.get_variable("number", initializer=float(number))
        x = v1.placeholder(tf.float32, None, name="x")
        started, released = _paths()
        wait = wait_for_file(started, released)
        return {
            "serving_default": _signature({"x": x}, {"y": x + offset}, PREDICT),
            "wait": _signature({"started": started, "released": released}, {"y": wait + offset}, PREDICT),
        }

    return _save(directory, build)


def export_gate(directory: Path) -> Path:
    """A model in which a test can hold a request: it writes the file ``started`` and ends once ``released`` exists.

    Both are vectors of equal paths, one for each row. No time is measured, so tests can check the order of
    events on machines of any speed.
    """

    def build() -> dict[str, Any]:
        started, released = _paths()
        done = wait_for_file(started, released)
        rows = tf.shape(started)[:1]
        touched = v1.placeholder(tf.string, [None], name="path")
        with tf.control_dependencies([tf.io.write_file(touched[0], "touched")]):
            touch = tf.identity(touched)
        x = v1.placeholder(tf.float32, None, name="x")
        return {
            "serving_default": _signature({"x": x}, {"y": tf.identity(x)}, PREDICT),
            "wait": _signature({"started": started, "released": released}, {"y": tf.fill(rows, done)}, PREDICT),
            "touch": _signature({"path": touched}, {"path": touch}, PREDICT),
        }

    return _save(directory, build)


def export_echo(directory: Path) -> Path:
    """A signature for every type, of any shape, that echoes its input; and one that returns sizes."""

    def build() -> dict[str, Any]:
        signatures = {}
        for name in VALUE_FIELDS:
            x = v1.placeholder(getattr(tf, name), None, name=name)
            signatures[name] = _signature({"x": x}, {"y": tf.identity(x)}, PREDICT)
            if name == "string":
                signatures["bytes"] = _signature({"image_bytes": x}, {"copy_bytes": tf.identity(x)}, PREDICT)
                signatures["length"] = _signature({"x": x}, {"y": tf.strings.length(x)}, PREDICT)
            if name == "float32":
                signatures["serving_default"] = signatures[name]
        return signatures

    return _save(directory, build)


def export_multi(directory: Path) -> Path:
    """Several inputs of several types, several outputs; written by TensorFlow 2."""

    class Multi(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable([[1.0], [10.0]])

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float32, "signal"),
                tf.TensorSpec([None], tf.int64, "count"),
                tf.TensorSpec([None], tf.string, "tag"),
            ]
        )
        def __call__(self, signal: tf.Tensor, count: tf.Tensor, tag: tf.Tensor) -> _Tensors:
            total = tf.squeeze(signal @ self.weights, 1) * tf.cast(count, tf.float32)
            return {
                "total": total,
                "doubled": count * 2,
                "label": tf.strings.join([tag, tf.strings.as_string(count)], "-"),
                "raw_bytes": tag,
            }

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def positive(self, x: tf.Tensor) -> _Tensors:
            tf.debugging.assert_positive(x, "x must be positive")
            return {"y": tf.math.log(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "path")])
        def read(self, path: tf.Tensor) -> _Tensors:
            return {"content": tf.io.read_file(path[0])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def two_sizes(self, x: tf.Tensor) -> _Tensors:
            return {"all": x, "first": x[:1]}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def scalar(self, x: tf.Tensor) -> _Tensors:
            return {"sum": tf.reduce_sum(x)}

    model = Multi()
    signatures = {"serving_default": model.__call__, "positive": model.positive, "read": model.read}
    signatures |= {"two_sizes": model.two_sizes, "scalar": model.scalar}
    tf.saved_model.save(model, str(directory), signatures=signatures)
    return directory


def export_defaults(directory: Path) -> Path:
    """y = x * scale + shift; scale is 3 and shift 1 unless the request gives them (``SignatureDef.defaults``)."""

    def build() -> dict[str, Any]:
        x = v1.placeholder(tf.float32, [None], name="x")
        scale, shift = v1.placeholder(tf.float32, [], name="scale"), v1.placeholder(tf.float32, [], name="shift")
        signature = _signature({"x": x, "scale": scale, "shift": shift}, {"y": x * scale + shift}, PREDICT)
        signature.defaults["scale"].CopyFrom(tf.make_tensor_proto(3.0))
        signature.defaults["shift"].CopyFrom(tf.make_tensor_proto(1.0))
        return {"serving_default": signature}

    return _save(directory, build)


def export_table(directory: Path) -> Path:
    """A hash table filled by an initialiser from a vocabulary file among the assets."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    words = directory.parent / "words.txt"
    words.write_text("\n".join(WORDS) + "\n", encoding="utf-8")

    def build() -> dict[str, Any]:
        whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        initializer = tf.lookup.TextFileInitializer(str(words), tf.string, whole, tf.int64, number)
        table = tf.lookup.StaticHashTable(initializer, default_value=-1)
        word = v1.placeholder(tf.string, [None], name="word")
        return {"serving_default": _signature({"word": word}, {"number": table.lookup(word)}, PREDICT)}

    _save(directory, build)
    words.unlink()
    return directory


def export_loop(directory: Path) -> Path:
    """Factorials by TensorFlow 1's while loop (Enter, Merge, Switch, NextIteration, Exit)."""

    def build() -> dict[str, Any]:
        n = v1.placeholder(tf.int64, [], name="n")
        v1.disable_control_flow_v2()
        _, product = v1.while_loop(
            lambda i, _: i <= n, lambda i, p: (i + 1, p * i), [tf.constant(1, tf.int64), tf.constant(1, tf.int64)]
        )
        v1.enable_control_flow_v2()
        return {"serving_default": _signature({"n": n}, {"factorial": product}, PREDICT)}

    return _save(directory, build)


def export_labels(directory: Path) -> Path:
    """Classes with labels and scores of Examples with the features x (needed) and shift (0 unless given)."""

    def build() -> dict[str, Any]:
        examples = v1.placeholder(tf.string, [None], name="examples")
        features = tf.io.parse_example(
            examples,
            {
                "x": tf.io.FixedLenFeature([], tf.float32),
                "shift": tf.io.FixedLenFeature([], tf.float32, default_value=0.0),
                "name": tf.io.FixedLenFeature([], tf.string, default_value=""),
                "count": tf.io.FixedLenFeature([], tf.int64, default_value=0),
            },
        )
        value = features["x"] + features["shift"]
        scores = value[:, None] * tf.constant([[1.0, 2.0, 3.0, 4.0]])
        classes = tf.tile(tf.constant([list(LABELS)]), [tf.shape(value)[0], 1])
        named = tf.strings.join([features["name"], tf.strings.as_string(features["count"])])[:, None]
        inputs = {"inputs": examples}
        return {
            "serving_default": _signature(inputs, {"classes": classes, "scores": scores}, CLASSIFY),
            "only_classes": _signature(inputs, {"classes": classes}, CLASSIFY),
            "named": _signature(inputs, {"classes": named}, CLASSIFY),
            "flat": _signature(inputs, {"scores": value}, CLASSIFY),
            "wrong_outputs": _signature(inputs, {"something": scores}, CLASSIFY),
            "whole_scores": _signature(inputs, {"scores": tf.cast(scores, tf.int64)}, CLASSIFY),
            "regress_flat": _signature(inputs, {"outputs": value}, REGRESS),
            "regress_wide": _signature(inputs, {"outputs": scores}, REGRESS),
        }

    return _save(directory, build)


def export_counters(directory: Path) -> Path:
    """Counts its predict, classify and regress requests, so that warm-up requests leave traces."""

    def build() -> dict[str, Any]:
        counts = {
            method: v1.get_variable(method, initializer=tf.constant(0, tf.int64), use_resource=True)
            for method in ("predict", "classify", "regress")
        }
        x = v1.placeholder(tf.float32, [None], name="x")
        examples = v1.placeholder(tf.string, [None], name="examples")
        rows = tf.fill([tf.size(examples), 1], 1.0)

        def counted(method: str, value: object) -> Any:
            with tf.control_dependencies([counts[method].assign_add(1)]):
                return tf.identity(value)

        inputs = {"inputs": examples}
        values = {name: variable.read_value() for name, variable in counts.items()}
        return {
            "serving_default": _signature({"x": x}, {"y": counted("predict", x)}, PREDICT),
            "classify": _signature(inputs, {"scores": counted("classify", rows)}, CLASSIFY),
            "regress": _signature(inputs, {"outputs": counted("regress", rows)}, REGRESS),
            "count": _signature({"unused": v1.placeholder(tf.float32, [], name="unused")}, values, PREDICT),
        }

    return _save(directory, build)


def export_batch(directory: Path) -> Path:
    """Row sums of a matrix of any width, and for each row the number of rows that the graph saw at once."""

    def build() -> dict[str, Any]:
        x = v1.placeholder(tf.float32, [None, None], name="x")
        w = v1.placeholder(tf.float32, [None], name="w")
        rows = tf.shape(x)[0]
        sizes = tf.fill([rows], rows)
        return {
            "serving_default": _signature({"x": x}, {"sum": tf.reduce_sum(x, 1), "rows": sizes}, PREDICT),
            "weighted": _signature({"x": x, "w": w}, {"sum": tf.reduce_sum(x, 1) * w}, PREDICT),
        }

    return _save(directory, build)


def export_tags(directory: Path) -> Path:
    """Two meta graphs: {serve} adds 2, {serve, plus_three} adds 3."""
    builder = v1.saved_model.Builder(str(directory))
    for tags, addend in ((["serve"], 2.0), (["serve", "plus_three"], 3.0)):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None], name="x")
            half = v1.get_variable("half", initializer=0.5)
            signatures = {"serving_default": _signature({"x": x}, {"y": x * half + addend}, PREDICT)}
            if len(tags) == 1:
                session.run(v1.global_variables_initializer())
                builder.add_meta_graph_and_variables(session, tags, signatures)
            else:
                builder.add_meta_graph(tags, signatures)
    builder.save()
    return directory


def export_keras(directory: Path, *, whole: bool = False) -> Path:
    """A Keras 2 model, 2 x + 1: ``model.export`` (signature ``serve``), or the full model by ``model.save``."""
    inputs = tf.keras.Input([1], name="x")
    layer = tf.keras.layers.Dense(1, name="y", kernel_initializer="ones", bias_initializer="ones")
    model = tf.keras.Model(inputs, layer(2.0 * inputs))
    if whole:
        model.save(str(directory), save_format="tf")
    else:
        model.export(str(directory))
    return directory


def export_tflite(directory: Path) -> Path:
    """A version with a ``model.tflite`` (y = 3 x) and a SavedModel (y = 2 x): the answer shows which was read."""

    class Times(tf.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = tf.Variable(factor)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def __call__(self, x: tf.Tensor) -> _Tensors:
            return {"y": x * self.factor}

    model, lite = Times(2.0), Times(3.0)
    tf.saved_model.save(model, str(directory), signatures={"serving_default": model.__call__})
    aside = directory.parent / ".tflite"
    tf.saved_model.save(lite, str(aside), signatures={"serving_default": lite.__call__})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(aside))
    (directory / "model.tflite").write_bytes(converter.convert())
    shutil.rmtree(aside)
    return directory


def build_all(folder: Path) -> None:
    """Writes every model below ``folder`` and ``models.config``, the configuration of the read-only tests."""
    export_half_plus_two(folder / "half_plus_two" / "00000123")
    export_half_plus_two(folder / "half_plus_three" / "1", 3.0)
    for number in (1, 2, 3):
        export_numbered(folder / "numbered" / str(number), number)
    for name, export in _SIMPLE.items():
        export(folder / name / "1")
    (folder / "models.config").write_text(models_config(folder), encoding="utf-8")


def models_config(folder: Path) -> str:
    """The ModelServerConfig of the read-only tests: every model, all versions of ``numbered``, with labels."""
    policy = (
        "model_version_policy { all {} }\n"
        "    version_labels { key: 'stable' value: 1 }\n"
        "    version_labels { key: 'カナリア' value: 3 }\n"
    )
    names = ["half_plus_two", "half_plus_three", "numbered", *_SIMPLE]
    entries = [
        f"  config {{\n    name: '{name}'\n    base_path: '{folder.resolve() / name}'\n"
        f"    model_platform: 'tensorflow'\n    {policy if name == 'numbered' else ''}  }}\n"
        for name in names
        if name != "tags"
    ]
    return f"model_config_list {{\n{''.join(entries)}}}\n"


_SIMPLE: Mapping[str, Callable[[Path], Path]] = {
    "gate": export_gate,
    "echo": export_echo,
    "multi": export_multi,
    "defaults": export_defaults,
    "table": export_table,
    "loop": export_loop,
    "labels": export_labels,
    "counters": export_counters,
    "batch": export_batch,
    "tags": export_tags,
    "keras_export": export_keras,
    "keras_save": lambda directory: export_keras(directory, whole=True),
    "tflite": export_tflite,
}


def _save(directory: Path, build: Callable[[], Mapping[str, Any]]) -> Path:
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = build()
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            dict(signatures),
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return directory


def _signature(inputs: _Tensors, outputs: _Tensors, method: str) -> Any:
    info = v1.saved_model.build_tensor_info
    return v1.saved_model.signature_def_utils.build_signature_def(
        {alias: info(tensor) for alias, tensor in inputs.items()},
        {alias: info(tensor) for alias, tensor in outputs.items()},
        method,
    )


def _paths() -> Sequence[Any]:
    return [v1.placeholder(tf.string, [None], name=name) for name in ("started", "released")]


def wait_for_file(started: Any, released: Any) -> Any:
    """Writes the first file in ``started``, and returns 0 once the first file in ``released`` exists."""

    def pause() -> Any:
        # The only operation in TensorFlow that waits without computing. (microseconds)
        variant = tf.raw_ops.RangeDataset(
            start=tf.constant(0, tf.int64),
            stop=tf.constant(1, tf.int64),
            step=tf.constant(1, tf.int64),
            output_types=[tf.int64],
            output_shapes=[[]],
        )
        slow = tf.raw_ops.SleepDataset(
            input_dataset=variant,
            sleep_microseconds=tf.constant(10_000, tf.int64),
            output_types=[tf.int64],
            output_shapes=[[]],
        )
        return tf.raw_ops.DatasetToSingleElement(dataset=slow, output_types=[tf.int64], output_shapes=[[]])[0]

    def body(_: Any) -> Any:
        with tf.control_dependencies([pause()]):
            return tf.size(tf.io.matching_files(released[0]))

    with tf.control_dependencies([tf.io.write_file(started[0], "started")]):
        first = tf.size(tf.io.matching_files(released[0]))
    found = tf.while_loop(lambda files: tf.equal(files, 0), body, [first])
    return tf.cast(found[0] if isinstance(found, list | tuple) else found, tf.float32) * 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds the models from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.models", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write them; must not exist yet")
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True)
    build_all(folder)
    print(
        f"tensorflow_model_server --port=8500 --rest_api_port=8501 --model_config_file={folder / 'models.config'} ..."
    )


if __name__ == "__main__":
    main()
