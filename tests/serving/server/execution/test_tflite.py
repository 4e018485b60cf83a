"""TFLite models converted here, compared with the TensorFlow functions that they were converted from."""

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from flatbuffers import Builder, flexbuffers  # type: ignore[import-untyped]

from serving.protos import meta_graph_pb2, tensor_pb2
from serving.server.errors import StatusError
from serving.server.execution.servable import PREDICT_METHOD
from serving.server.execution.tflite import TFLiteServable
from serving.server.lifecycle.loader import LoaderOptions, ModelLoader

_WORDS = ("one", "日本", "")


class _Model(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.reshape(tf.range(8.0), [4, 2]))

    def dense(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.nn.relu(tf.matmul(x, self.weights) - 3.0)}

    def numbers(self, n: tf.Tensor, wide: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"square": n * n, "sum": tf.reduce_sum(wide, axis=-1), "even": tf.equal(n % 2, 0)}

    def words(self, rows: tf.Tensor, words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "found": tf.gather(tf.constant(_WORDS), rows),
            "same": tf.equal(words, tf.constant(_WORDS[1])),
            "flat": tf.reshape(words, [-1]),
        }


_SPECS: dict[str, dict[str, tf.TensorSpec]] = {
    "dense": {"x": tf.TensorSpec([None, 4], tf.float32, "x")},
    "numbers": {"n": tf.TensorSpec([None, 3], tf.int32, "n"), "wide": tf.TensorSpec([2, None], tf.int64, "wide")},
    "words": {"rows": tf.TensorSpec([None], tf.int32, "rows"), "words": tf.TensorSpec([None, 2], tf.string, "words")},
}


def _functions(model: _Model) -> dict[str, Any]:
    return {name: tf.function(getattr(model, name)).get_concrete_function(**specs) for name, specs in _SPECS.items()}


@pytest.fixture(scope="module")
def model() -> _Model:
    return _Model()


@pytest.fixture(scope="module")
def version(model: _Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version directory with a SavedModel and a ``model.tflite`` of the same functions."""
    path = tmp_path_factory.mktemp("tflite") / "1"
    functions = _functions(model)
    tf.saved_model.save(model, str(path), signatures={"serving_default": functions.pop("dense"), **functions})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path))
    (path / "model.tflite").write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def servable(version: Path) -> TFLiteServable:
    return TFLiteServable(version, version / "model.tflite", 2)


def _run(servable: Any, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Any:
    protos = {alias: tensor_pb2.TensorProto() for alias in inputs}
    for alias, value in inputs.items():
        protos[alias].CopyFrom(tf.make_tensor_proto(value))
    wanted = list(servable.signatures[signature].outputs) if outputs is None else list(outputs)
    results = servable.run(signature, protos, wanted)
    assert list(results) == wanted
    serialized = servable.run_serialized(signature, protos, wanted)
    assert {alias: tensor_pb2.TensorProto.FromString(content) for alias, content in serialized.items()} == results
    return {alias: tf.make_ndarray(proto) for alias, proto in results.items()}


def _refused(servable: object, signature: str, inputs: Mapping[str, Any]) -> StatusError:
    with pytest.raises(StatusError) as caught:
        _run(servable, signature, inputs)
    return caught.value


def _float_rows(count: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 7, 0, 3, 64, 2])
def test_batches_of_any_size_one_after_another(servable: TFLiteServable, model: _Model, rows: int) -> None:
    x = _float_rows(rows)
    got = _run(servable, "serving_default", {"x": x})
    np.testing.assert_allclose(got["y"], model.dense(tf.constant(x))["y"], rtol=1e-5, atol=1e-5)


def test_integers_and_several_outputs(servable: TFLiteServable, model: _Model) -> None:
    n = np.array([[1, -2, 3], [4, 50_000, 0]], np.int32)
    wide = np.array([[2**40, 1, 2], [3, 4, 5]], np.int64)
    wanted = {alias: value.numpy() for alias, value in model.numbers(tf.constant(n), tf.constant(wide)).items()}
    got = _run(servable, "numbers", {"n": n, "wide": wide})
    assert got.keys() == wanted.keys()
    for alias, value in wanted.items():
        np.testing.assert_array_equal(got[alias], value)
        assert got[alias].dtype == value.dtype
    assert list(_run(servable, "numbers", {"n": n, "wide": wide}, ["sum"])) == ["sum"]


def test_strings_of_any_bytes_and_rank(servable: TFLiteServable, model: _Model) -> None:
    rows = np.array([2, 0, 1, 1], np.int32)
    words = tf.constant([["日本", ""], [b"a\0b", "日本"], [b"\xff\xfe\0", "x" * 5000]])
    wanted = model.words(tf.constant(rows), words)
    got = _run(servable, "words", {"rows": rows, "words": words.numpy()})
    for alias in ("found", "same", "flat"):
        assert got[alias].tolist() == wanted[alias].numpy().tolist(), alias


def test_signatures_come_from_the_converter(servable: TFLiteServable) -> None:
    assert sorted(servable.signatures) == ["numbers", "serving_default", "words"]
    words = servable.signatures["words"]
    assert words.method_name == PREDICT_METHOD
    assert {alias: (spec.dtype, spec.shape) for alias, spec in words.inputs.items()} == {
        "rows": (tf.int32.as_datatype_enum, (-1,)),
        "words": (tf.string.as_datatype_enum, (-1, 2)),
    }
    assert sorted(words.outputs) == ["flat", "found", "same"]
    definition = servable.signature_defs["serving_default"]
    assert [dimension.size for dimension in definition.inputs["x"].tensor_shape.dim] == [-1, 4]
    assert definition.outputs["y"].dtype == tf.float32.as_datatype_enum


@pytest.mark.parametrize("shape", [(2, 5), (4,), (1, 2, 4), (), (0, 0)])
def test_mismatched_shapes_are_refused(servable: TFLiteServable, model: _Model, shape: tuple[int, ...]) -> None:
    failure = _refused(servable, "serving_default", {"x": np.ones(shape, np.float32)})
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert f'input "x" has shape {list(shape)}, the model takes [-1, 4]' in failure.message
    test_batches_of_any_size_one_after_another(servable, model, 3)


def test_malformed_tensor(servable: TFLiteServable) -> None:
    proto = tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, tensor_content=b"123")
    proto.tensor_shape.dim.add(size=1)
    proto.tensor_shape.dim.add(size=4)
    with pytest.raises(StatusError, match="tensor parsing error: x") as caught:
        servable.run("serving_default", {"x": proto}, ["y"])
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_failed_run_does_not_affect_others(servable: TFLiteServable) -> None:
    good = {"rows": np.array([1], np.int32), "words": np.array([["a", "b"]], object)}
    for _ in range(3):
        failure = _refused(servable, "words", {**good, "rows": np.array([77], np.int32)})
        assert failure.code is grpc.StatusCode.INTERNAL
        assert "Failed to invoke TfLite interpreter" in failure.message
        assert _run(servable, "words", good)["found"].tolist() == ["日本".encode()]


def test_many_threads_share_the_pool(servable: TFLiteServable, model: _Model) -> None:
    failures: list[BaseException] = []

    def ask(seed: int) -> None:
        try:
            for rows in range(20):
                x = _float_rows(rows + 20 * seed)
                got = _run(servable, "serving_default", {"x": x})["y"]
                np.testing.assert_allclose(got, model.dense(tf.constant(x))["y"], rtol=1e-5, atol=1e-4)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_no_time_left_for_an_interpreter(version: Path) -> None:
    servable = TFLiteServable(version, version / "model.tflite", 1)
    proto = tensor_pb2.TensorProto()
    proto.CopyFrom(tf.make_tensor_proto(_float_rows(1)))
    with servable._worker(None), pytest.raises(StatusError) as caught:
        servable.run("serving_default", {"x": proto}, ["y"], timeout=0.01)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert servable.run("serving_default", {"x": proto}, ["y"], timeout=20)["y"].tensor_shape.dim[0].size == 1


def _packed(model: Any) -> bytes:
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _renamed(content: bytes, old: str, new: str) -> bytes:
    """A model with a renamed tensor."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    (tensor,) = [tensor for tensor in model.subgraphs[0].tensors if tensor.name == old.encode()]
    tensor.name = new
    return _packed(model)


def _with_metadata(content: bytes, definitions: Mapping[str, bytes]) -> bytes:
    """A model with SignatureDefs in the format of TensorFlow's ``SetSignatureDefMap``."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    # Models of that time had no converter signatures.
    model.signatureDefs = []
    build = flexbuffers.Builder()
    with build.Map():
        for key, serialized in definitions.items():
            build.Key(key)
            # The C++ builder's encoding of a std::string; the public method only takes text.
            build._WriteBlob(serialized, append_zero=True, type_=flexbuffers.Type.STRING)
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = np.frombuffer(bytes(build.Finish()), np.uint8)
    entry = schema.MetadataT()
    entry.name = "signature_defs_metadata"
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return _packed(model)


@pytest.fixture(scope="module")
def plain(model: _Model) -> bytes:
    """A converted model with one function, ``numbers``."""
    function = tf.function(model.numbers).get_concrete_function(**_SPECS["numbers"])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    return bytes(converter.convert())


def _tensor_names(content: bytes) -> tuple[list[str], list[str]]:
    graph = schema.Model.GetRootAs(content).Subgraphs(0)
    return tuple(  # type: ignore[return-value]
        [graph.Tensors(index).Name().decode() for index in indices]
        for indices in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())
    )


def _values(outputs: Mapping[str, Any]) -> list[str]:
    """Values regardless of their names."""
    return sorted(str(np.asarray(value).tolist()) for value in outputs.values())


def _open(directory: Path, content: bytes) -> TFLiteServable:
    (directory / "model.tflite").write_bytes(content)
    return TFLiteServable(directory, directory / "model.tflite", 1)


def test_signature_defs_of_the_models_metadata(plain: bytes, model: _Model, tmp_path: Path) -> None:
    inputs, outputs = _tensor_names(plain)
    definition = meta_graph_pb2.SignatureDef(method_name=PREDICT_METHOD)
    n, wide = (next(name for name in inputs if alias in name.split("_")[-1]) for alias in ("n:", "wide"))
    definition.inputs["numbers"].name = n
    definition.inputs["numbers"].dtype = tf.int32.as_datatype_enum
    definition.inputs["numbers"].tensor_shape.dim.add(size=-1)
    definition.inputs["numbers"].tensor_shape.dim.add(size=3)
    definition.inputs["wide"].name = wide
    definition.inputs["wide"].dtype = tf.int64.as_datatype_enum
    for number, name in enumerate(outputs):
        definition.outputs[f"out-{number}"].name = name
    # Older converters wrote tensors' names without ":0".
    older = _renamed(plain, n, n.removesuffix(":0"))
    servable = _open(tmp_path, _with_metadata(older, {"own": definition.SerializeToString()}))
    assert list(servable.signature_defs) == ["own"]
    assert servable.signature_defs["own"].inputs["numbers"].name == n.removesuffix(":0")
    given = np.array([[1, 2, 3]], np.int32), np.array([[1, 2], [3, 4]], np.int64)
    wanted = model.numbers(*map(tf.constant, given))
    got = _run(servable, "own", {"numbers": given[0], "wide": given[1]})
    assert _values(got) == _values(wanted)


def test_invalid_metadata(plain: bytes, tmp_path: Path) -> None:
    definition = meta_graph_pb2.SignatureDef()
    definition.inputs["x"].name = "no_such:0"
    for content, reported in (
        (definition.SerializeToString(), "Signature input x references an unknown tensor: no_such:0"),
        (b"\xff\xff", "Invalid SignatureDefs found in TfLite model"),
    ):
        with pytest.raises(StatusError, match=reported) as caught:
            _open(tmp_path, _with_metadata(plain, {"own": content}))
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_model_without_signatures(plain: bytes, model: _Model, tmp_path: Path) -> None:
    stripped = schema.ModelT.InitFromObj(schema.Model.GetRootAs(plain))
    stripped.signatureDefs = []
    servable = _open(tmp_path, _packed(stripped))
    inputs, outputs = _tensor_names(plain)
    signature = servable.signatures["serving_default"]
    assert sorted(signature.inputs) == sorted(name.partition(":")[0] for name in inputs)
    # Their names differ only in the numbers.
    assert sorted(signature.outputs) == sorted(outputs)
    n = np.array([[1, 2, 3]], np.int32)
    wide = np.array([[1, 2], [3, 4]], np.int64)
    given = {name.partition(":")[0]: wide if "wide" in name else n for name in inputs}
    got = _run(servable, "serving_default", given)
    wanted = model.numbers(tf.constant(n), tf.constant(wide))
    assert _values(got) == _values(wanted)


def test_a_shape_without_free_sizes_takes_other_sizes(model: _Model, tmp_path: Path) -> None:
    function = tf.function(model.dense).get_concrete_function(x=tf.TensorSpec([1, 4], tf.float32, "x"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    servable = _open(tmp_path, converter.convert())
    x = _float_rows(5)
    got = _run(servable, "serving_default", {"x": x})
    np.testing.assert_allclose(got["y"], model.dense(tf.constant(x))["y"], rtol=1e-5, atol=1e-5)
    failure = _refused(servable, "serving_default", {"x": np.ones((1, 5), np.float32)})
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "[input shapes: x: [1, 5]]" in failure.message
    assert _run(servable, "serving_default", {"x": x[:2]})["y"].tolist() == got["y"][:2].tolist()


@pytest.mark.parametrize("kept", [0, 3, 8, 50, 1000, -16])
def test_file_that_is_not_a_model(plain: bytes, tmp_path: Path, kept: int) -> None:
    with pytest.raises(StatusError, match=r"model\.tflite") as caught:
        _open(tmp_path, plain[:kept])
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_ops_beyond_the_builtin_ones(tmp_path: Path) -> None:
    function = tf.function(lambda x: tf.strings.length(x)).get_concrete_function(tf.TensorSpec([None], tf.string))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(StatusError, match=r"FlexStringLength|Select TensorFlow op") as caught:
        _open(tmp_path, converter.convert())
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_examples_are_not_parsed(tmp_path: Path) -> None:
    # TensorFlow Serving registers a kernel for it: TfLiteSession::Create in servables/tensorflow/tflite_session.cc.
    def parse(serialized: tf.Tensor) -> tf.Tensor:
        return tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32, [0.0])})["x"]

    function = tf.function(parse).get_concrete_function(tf.TensorSpec([None], tf.string))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.allow_custom_ops = True
    with pytest.raises(StatusError, match="custom op: ParseExampleV2") as caught:
        _open(tmp_path, converter.convert())
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_loader_prefers_the_tflite_model(version: Path) -> None:
    loader = ModelLoader("m", 1, version, LoaderOptions(prefer_tflite=True, tflite_interpreters=2))
    loader.load()
    assert isinstance(loader.servable, TFLiteServable)
    loader.unload()


def test_server_does_not_import_tensorflow(version: Path) -> None:
    script = """
import sys
from pathlib import Path
from serving.server.execution.tflite import TFLiteServable
path = Path(sys.argv[1])
servable = TFLiteServable(path, path / "model.tflite", 1)
assert sorted(servable.signatures) == ["numbers", "serving_default", "words"]
servable.close()
assert "tensorflow" not in sys.modules
"""
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, "-c", script, str(version)], cwd=root, check=True, timeout=60)


def test_litert_is_missing(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(StatusError, match=r"babelrec\[tflite\]") as caught:
        TFLiteServable(version, version / "model.tflite", 1)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
