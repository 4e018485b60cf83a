"""Kinds of SavedModels, loaded and run without a server."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.server.api.predict import run_predict
from serving.server.errors import StatusError
from serving.server.execution import ops
from serving.server.execution.servable import Servable
from serving.server.lifecycle.loader import LoaderOptions, ModelLoader
from serving.server.operations.metrics import Metrics
from tests.serving.models import export_tf1, write_warm_up
from tests.serving.server.api.test_rpc import request_of


def load(path: Path, **options: Any) -> Servable:
    ops.register()
    loader = ModelLoader("m", 1, path, LoaderOptions(**options))
    loader.load()
    return loader.servable


def outputs(servable: Servable, inputs: dict[str, Any], signature: str = "", **options: Any) -> dict[str, Any]:
    response = run_predict(servable, "m", 1, request_of(inputs, signature), **options)
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


@pytest.fixture(scope="module")
def tf1(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    return load(export_tf1(tmp_path_factory.mktemp("tf1") / "1"))


def test_tf1_model(tf1: Servable) -> None:
    got = outputs(tf1, {"x": tf.constant([[2.0], [4.0]])})
    np.testing.assert_array_equal(got["y"], [[3.0], [4.0]])


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("3f2a-测试".encode(), '"3f2a-测试"'),
        (b"", '""'),
        (b'"\\\n', '"\\"\\\\\\n"'),
        (b"x" * 100_000, '"' + "x" * 256 + '"'),
        (b"\xff", '"\ufffd"'),
    ],
    ids=["uuid", "empty", "escapes", "long", "no text"],
)
def test_the_ml_metadata_key_is_exported(tmp_path: Path, content: bytes, shown: str) -> None:
    # MaybePublishMLMDStreamz in servables/tensorflow/machine_learning_metadata.cc.
    metrics = Metrics()
    path = export_tf1(tmp_path / "7")
    ModelLoader("modèle", 7, path, LoaderOptions(), metrics).load()
    assert ":tensorflow:serving:mlmd_map{" not in metrics.render().decode()
    (path / "assets.extra").mkdir(exist_ok=True)
    (path / "assets.extra" / "mlmd_uuid").write_bytes(content)
    ModelLoader("modèle", 7, path, LoaderOptions(), metrics).load()
    line = f':tensorflow:serving:mlmd_map{{model_name="modèle",version="7",uuid={shown}}} 1\n'
    assert line in metrics.render().decode()


def test_tf1_model_accepts_a_rank_other_than_its_placeholders_like_the_real_server(
    tf1: Servable,
) -> None:
    np.testing.assert_array_equal(outputs(tf1, {"x": tf.constant([2.0, 4.0])})["y"], [3.0, 4.0])


def test_tf1_table_from_an_asset(tf1: Servable) -> None:
    got = outputs(tf1, {"word": tf.constant(["三", "uno", "?", "dós"])}, "lookup")
    assert got["number"].tolist() == [3, 1, -1, 2]


def test_signature_without_a_method(tf1: Servable) -> None:
    with pytest.raises(StatusError, match="Expected prediction signature method_name") as caught:
        outputs(tf1, {"x": tf.constant([[1.0]])}, "no_method", check_method_name=True)
    assert caught.value.code is grpc.StatusCode.INTERNAL
    # TensorFlow Serving's own server ignores it by default.
    np.testing.assert_array_equal(outputs(tf1, {"x": tf.constant([[1.0]])}, "no_method")["y"], [[1.5]])


def test_unknown_tags(tmp_path: Path) -> None:
    path = export_tf1(tmp_path / "1")
    with pytest.raises(StatusError, match="tag"):
        load(path, tags=("gpu",))


def test_warm_up_options(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    version = export_tf1(tmp_path / "1")
    write_warm_up(version, [request_of({"x": [[1.0]]}), request_of({"word": ["uno"]}, "lookup")])
    load(version, warm_up_iterations=3)
    assert "2 records" in caplog.text
    write_warm_up(version, [request_of({"y": [[1.0]]})])
    with pytest.raises(StatusError, match=r"warm-up request 1 of .* failed: Signature input alias: x"):
        load(version)
    load(version, warm_up=False)
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no TFRecord at all")
    with pytest.raises(StatusError, match="verify your warmup data is in TFRecord format"):
        load(version)
    write_warm_up(version, [request_of({"x": [[1.0]]})] * 1001)
    with pytest.raises(StatusError, match=r"exceeds the maximum \(1000\)"):
        load(version)


class TextSearch(tf.Module):
    """TF-Text's tokens, hashed into a vector, searched by ScaNN: both op libraries in one graph."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        import tensorflow_text
        from scann.scann_ops.py import scann_ops

        self.words = tf.Variable(words, trainable=False)
        self.tokenizer = tensorflow_text.UnicodeScriptTokenizer()
        vectors = self.embed(tf.constant(words)).numpy()
        builder = scann_ops.builder(vectors, 3, "dot_product").score_brute_force()
        searcher = builder.build(shared_name="test-scann")
        self.state = searcher.serialize_to_module()
        self.searcher = scann_ops.searcher_from_module(self.state)
        self._from_module = scann_ops.searcher_from_module

    def embed(self, text: tf.Tensor) -> tf.Tensor:
        tokens = self.tokenizer.tokenize(text)
        hashed = tf.ragged.map_flat_values(lambda t: tf.strings.to_hash_bucket_fast(t, 64), tokens)
        return tf.math.l2_normalize(tf.reduce_sum(tf.one_hot(hashed.to_tensor(-1), 64), axis=1), axis=-1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def search(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        searcher = self._from_module(self.state)
        rows, scores = searcher.search_batched(self.embed(text))
        return {"found": tf.gather(self.words, rows), "scores": scores}


def test_scann_and_tf_text_graph(tmp_path: Path) -> None:
    words = ["the red house", "a blue river", "красный дом", "蓝色 的 河", "강 은 푸르다", "night train"]
    module = TextSearch(words)
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.search}, options=options)
    expected = module.search(tf.constant(["blue river", "蓝色 河"]))
    servable = load(tmp_path / "1")
    got = outputs(servable, {"text": tf.constant(["blue river", "蓝色 河"])})
    assert [row[0].decode() for row in got["found"]] == ["a blue river", "蓝色 的 河"]
    np.testing.assert_array_equal(got["found"], expected["found"].numpy())
    np.testing.assert_array_equal(got["scores"], expected["scores"].numpy())
    servable.close()


def test_a_missing_op_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ops._missing, "scann[tf]", "ModuleNotFoundError: No module named 'scann'")
    export_tf1(tmp_path / "1")
    path = tmp_path / "1" / "saved_model.pb"
    # An unregistered op, with a name of the same length so that the file stays valid.
    path.write_bytes(path.read_bytes().replace(b"LookupTableFindV2", b"LookupTableFindV9"))
    with pytest.raises(StatusError, match="Op type not registered") as caught:
        load(tmp_path / "1")
    assert "scann[tf] (ModuleNotFoundError: No module named 'scann')" in caught.value.message
    assert "pip install" in caught.value.message
