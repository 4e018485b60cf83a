"""Checks of a version before it is loaded and before it answers requests."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving import manifest
from serving.private.tensorflow import TensorFlowError
from serving.protos import config_pb2
from serving.runtime.checkpoint import shard_sizes
from serving.server.errors import StatusError
from serving.server.lifecycle.completeness import CompletenessCheck, stamp_of
from serving.server.lifecycle.loader import LoaderOptions, ModelLoader
from serving.server.operations.metrics import Metrics
from tests.serving.models import copy_version

DATA = "variables/variables.data-00000-of-00001"
INDEX = "variables/variables.index"


def changed(source: Path, directory: Path, change: Callable[[Path], object]) -> Path:
    path = copy_version(source, directory / source.name)
    change(path)
    return path


def half_a_shard(path: Path) -> None:
    (path / DATA).write_bytes((path / DATA).read_bytes()[:-7])


def no_such_tensor(path: Path) -> None:
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    model.meta_graphs[0].signature_def["rank"].outputs["scores"].name = "not_there:0"
    (path / "saved_model.pb").write_bytes(model.SerializeToString())


def no_such_output(path: Path) -> None:
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    info = model.meta_graphs[0].signature_def["rank"].outputs["scores"]
    info.name = f"{info.name.split(':')[0]}:77"
    (path / "saved_model.pb").write_bytes(model.SerializeToString())


class WithAsset(tf.Module):
    """Reads its asset only on request, like a vector index that is kept in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.asset = tf.saved_model.Asset(str(path))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "x")])
    def read(self, x: tf.Tensor) -> dict[str, Any]:
        return {"y": tf.strings.join([x, tf.io.read_file(self.asset.asset_path)])}


def export_with_asset(directory: Path) -> Path:
    file = directory.parent / "scann_assets.bin"
    file.write_bytes(b"vectors")
    model = WithAsset(file)
    tf.saved_model.save(model, str(directory), signatures={"serving_default": model.read})
    file.unlink()
    return directory


def load(path: Path, **options: Any) -> tuple[ModelLoader, Metrics]:
    metrics = Metrics()
    loader = ModelLoader("m", 7, path, LoaderOptions(session_config=config_pb2.ConfigProto(), **options), metrics)
    loader.load()
    loader.unload()
    return loader, metrics


def refusal(path: Path, **options: object) -> StatusError:
    with pytest.raises(StatusError) as caught:
        load(path, **options)
    return caught.value


def test_a_missing_asset(tmp_path: Path) -> None:
    path = export_with_asset(tmp_path / "1")
    load(path)
    (path / "assets" / "scann_assets.bin").unlink()
    error = refusal(path)
    assert error.code is grpc.StatusCode.DATA_LOSS
    assert "version 7 of model m is incomplete: assets/scann_assets.bin is missing" in error.message


@pytest.mark.parametrize("change", [no_such_tensor, no_such_output])
def test_a_signature_with_a_missing_tensor(
    exports: dict[int, Path], tmp_path: Path, change: Callable[[Path], object]
) -> None:
    error = refusal(changed(exports[2], tmp_path, change))
    assert "signature 'rank' names " in error.message
    assert " as 'scores': " in error.message


@pytest.mark.parametrize("broken", ["variable", "input", "nothing"])
def test_a_signature_is_run_with_its_own_defaults(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    v1 = tf.compat.v1
    path = tmp_path / "1"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        saved = v1.get_variable("saved", initializer=1.0)
        forgotten = v1.get_variable("forgotten", initializer=1.0, collections=["nobody's"])
        y = x + saved
        if broken == "variable":
            y += forgotten
        if broken == "input":
            y = tf.debugging.check_numerics(y / 0.0, "made up")
        info = v1.saved_model.build_tensor_info
        signature = v1.saved_model.signature_def_utils.build_signature_def(
            {"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"
        )
        signature.defaults["x"].CopyFrom(tf.make_tensor_proto([2.0]))
        without = v1.saved_model.signature_def_utils.build_signature_def(
            {"x": info(x)}, {"y": info(x + forgotten)}, "tensorflow/serving/predict"
        )
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map={"with_defaults": signature, "without": without}
        )
        builder.save()
    caplog.set_level("WARNING")
    if broken == "variable":
        error = refusal(path)
        assert error.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "signature 'with_defaults' of model m version 7 fails with its own defaults" in error.message
        load(path, warm_up=False)
    else:
        load(path)
        assert ("fails with its own defaults" in caplog.text) == (broken == "input")


def test_checks_are_counted(exports: dict[int, Path], tmp_path: Path) -> None:
    _, metrics = load(exports[1])
    line = f':babelrec:serving:version_check_count{{model_path="{exports[1]}",status="success"}} 1'
    assert line in metrics.render().decode()
    path = changed(exports[1], tmp_path, half_a_shard)
    metrics = Metrics()
    with pytest.raises(StatusError):
        ModelLoader("m", 1, path, LoaderOptions(), metrics).load()
    line = f':babelrec:serving:version_check_count{{model_path="{path}",status="fail"}} 1'
    assert line in metrics.render().decode()
    assert "saved_model/load_attempt_count{" not in metrics.render().decode()


def test_shard_sizes_match_tensorflows_files(exports: dict[int, Path], tmp_path: Path) -> None:
    """The oracle: TensorFlow's own files, one shard and several."""
    assert shard_sizes(exports[1] / "variables" / "variables") == {
        "variables.data-00000-of-00001": (exports[1] / DATA).stat().st_size
    }
    parts = []
    for part in range(3):
        names = [f"part{part}/variable/with/a/long/name/{number}" for number in range(400 * part + 1)]
        values = [tf.fill([number % 7], number) for number in range(len(names))]
        texts = tf.constant(["", "文字", "x" * 500])
        parts.append(str(tmp_path / f"part{part}"))
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=[*names, f"texts{part}"],
            shape_and_slices=[""] * (len(names) + 1),
            tensors=[*values, texts],
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "all"))
    found = sorted(tmp_path.glob("all.data-*"))
    assert len(found) == 3
    assert shard_sizes(tmp_path / "all") == {path.name: path.stat().st_size for path in found}


def test_a_truncated_index_is_never_accepted(exports: dict[int, Path], tmp_path: Path) -> None:
    content = (exports[1] / INDEX).read_bytes()
    for length in range(0, len(content), 17):
        (tmp_path / "variables.index").write_bytes(content[:length])
        with pytest.raises(TensorFlowError):
            shard_sizes(tmp_path / "variables")


def test_an_unchanged_version_is_not_read_twice(exports: dict[int, Path], tmp_path: Path) -> None:
    path = copy_version(exports[1], tmp_path / "1")
    manifest.write(path)
    check = CompletenessCheck()
    assert check.problem(path) == ""
    stamp = stamp_of(path)
    assert stamp_of(path) == stamp
    content = bytearray((path / DATA).read_bytes())
    content[5] ^= 1
    (path / DATA).write_bytes(content)
    assert stamp_of(path) != stamp
    assert check.lack(path) == ""
    assert f"{DATA} is damaged or was changed" in check.problem(path)


def test_folders_that_are_links(exports: dict[int, Path], tmp_path: Path) -> None:
    path = copy_version(exports[1], tmp_path / "1")
    shutil.move(path / "variables", tmp_path / "elsewhere")
    (path / "variables").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "above").symlink_to(path)
    assert CompletenessCheck().problem(path) == ""
    stamp = stamp_of(path)
    (tmp_path / "elsewhere" / Path(DATA).name).write_bytes(b"")
    assert stamp_of(path) != stamp
    assert f"{DATA} has 0 of " in CompletenessCheck().problem(path)
