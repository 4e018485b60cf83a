"""Catalogue encoding: order, distinct texts, and a disk cache that survives damage."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.text.conftest import SENTENCES, toy_vectors
from trainer.errors import BabelrecError
from trainer.text import vector_cache, vectors
from trainer.text.encoder import encoder_handle, load_encoder
from trainer.text.muse import Muse
from trainer.text.settings import TextConfig
from trainer.text.vector_cache import VectorCache, text_keys
from trainer.text.vectors import CatalogueEncoder, Vectors, encode_texts

TEXTS = ["b", "", "أهلا", "가나다", "b", "z" * 50, "\ud83d", "b", "สวัสดี"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def config(toy_encoder: str) -> TextConfig:
    return TextConfig(encoder=toy_encoder, batch_size=2)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Records which texts reach the encoder."""
    calls: list[list[str]] = []
    original = CatalogueEncoder.__call__

    def spy(self: CatalogueEncoder, texts: list[str], *rest: Callable[[int], object]) -> Vectors:
        calls.append(list(texts))
        return original(self, texts, *rest)

    monkeypatch.setattr(CatalogueEncoder, "__call__", spy)
    return calls


def files(cache: Path, ending: str) -> list[Path]:
    return sorted(cache.glob(f"vectors/*/*.{ending}.npy"))


def test_rows_belong_to_texts(config: TextConfig, encoded: list[list[str]]) -> None:
    result = encode_texts(TEXTS, config, progress=False)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, toy_vectors(TEXTS))
    assert encoded == [list(dict.fromkeys(TEXTS))]


def test_no_texts(config: TextConfig) -> None:
    assert encode_texts([], config, progress=False).shape == (0, 3)


def test_a_second_run_does_not_load_the_encoder(config: TextConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encode_texts(TEXTS, config, progress=False)

    def refuse(handle: str) -> None:
        raise AssertionError(f"{handle} was loaded")

    monkeypatch.setattr(vectors, "load_encoder", refuse)
    again = encode_texts(TEXTS[::-1], config, progress=False)
    np.testing.assert_array_equal(again, first[::-1])
    np.testing.assert_array_equal(encode_texts(["가나다"], config, progress=False), toy_vectors(["가나다"]))


def test_only_new_texts_are_encoded(config: TextConfig, encoded: list[list[str]], empty_cache: Path) -> None:
    encode_texts(TEXTS, config, progress=False)
    more = ["new one", *TEXTS, "new two"]
    np.testing.assert_array_equal(encode_texts(more, config, progress=False), toy_vectors(more))
    assert encoded[1:] == [["new one", "new two"]]
    assert len(files(empty_cache, "vectors")) == 2


def test_encoders_do_not_share_vectors(config: TextConfig, encoded: list[list[str]]) -> None:
    encode_texts(["a"], config, progress=False)
    with (Path(config.encoder) / "another_asset").open("wb") as file:
        file.write(b"now another encoder")
    encode_texts(["a"], config, progress=False)
    assert encoded == [["a"], ["a"]]


@pytest.mark.parametrize("kind", ["vectors", "index"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied", "garbage", "gone"])
def test_damage_is_reported_and_recomputed(
    kind: str,
    damage: str,
    config: TextConfig,
    encoded: list[list[str]],
    empty_cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = encode_texts(TEXTS, config, progress=False)
    (path,) = files(empty_cache, kind)
    content = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "garbage":
        path.write_bytes(b"\x80garbage" * 100)
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(encode_texts(TEXTS, config, progress=False), expected)
    assert len(encoded) == 2
    # Without its index a shard can't be damaged: vectors alone are not a shard.
    assert ("damaged" in caplog.text) == ((kind, damage) != ("index", "gone"))
    encode_texts(TEXTS, config, progress=False)
    assert len(encoded) == 2


def test_a_kill_loses_the_last_part_only(
    config: TextConfig, encoded: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_TEXTS_PER_SHARD", 2)
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    spied = CatalogueEncoder.__call__

    def killed(self: CatalogueEncoder, part: list[str], *rest: Callable[[int], object]) -> Vectors:
        if "eeeee" in part:
            raise KeyboardInterrupt
        return spied(self, part, *rest)

    monkeypatch.setattr(CatalogueEncoder, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        encode_texts(texts, config, progress=False)
    monkeypatch.setattr(CatalogueEncoder, "__call__", spied)
    encoded.clear()
    np.testing.assert_array_equal(encode_texts(texts, config, progress=False), toy_vectors(texts))
    assert encoded == [["eeeee"]]


def test_many_small_runs_are_merged(
    config: TextConfig, encoded: list[list[str]], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_cache, "_MAX_SHARDS", 3)
    texts = [f"text {i}" for i in range(12)]
    for text in texts:
        encode_texts([text], config, progress=False)
    assert len(files(empty_cache, "index")) <= 4
    assert len(files(empty_cache, "vectors")) == len(files(empty_cache, "index"))
    encoded.clear()
    np.testing.assert_array_equal(encode_texts(texts, config, progress=False), toy_vectors(texts))
    assert encoded == []


def test_large_shards_are_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a cluster writes would not fit in memory at once."""
    monkeypatch.setattr(vector_cache, "_MAX_SHARDS", 3)
    monkeypatch.setattr(vector_cache, "_MERGED_ROWS", 100)
    store = tmp_path / "store"
    cache = VectorCache(store)
    texts = [[f"{shard} {row}" for row in range(count)] for shard, count in enumerate((90, 200, 5, 80, 3))]
    for part in texts:
        cache.append(text_keys(part), toy_vectors(part))
    # Those of 5, 80 and 3 rows became one; with a fourth it would be over a hundred.
    assert sorted(len(np.load(path)) for path in store.glob("*.vectors.npy")) == [88, 90, 200]
    everything = [text for part in texts for text in part]
    found, stored = cache.look_up(text_keys(everything))
    assert len(found) == len(everything)
    np.testing.assert_array_equal(stored, toy_vectors(everything))


def test_cache_with_repeated_and_unknown_keys(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "store")
    keys = text_keys(["a", "b", "c", "d"])
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    cache.append(keys[:2], values[:2])
    cache.append(keys[1:3], values[1:3])
    found, stored = cache.look_up(keys[[3, 2, 1, 0]])
    assert found.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(stored, values[[2, 1, 0]])
    found, stored = cache.look_up(text_keys(["x"]))
    assert found.tolist() == []
    assert stored is None


def test_texts_must_be_strings(config: TextConfig) -> None:
    with pytest.raises(BabelrecError, match=r"Text 1 is float nan"):
        encode_texts(["a", float("nan")], config)  # type: ignore[list-item]


def test_progress_goes_to_standard_error(config: TextConfig, capsys: pytest.CaptureFixture[str]) -> None:
    encode_texts(["a"], config, progress=True)
    assert capsys.readouterr().out == ""


def test_catalogue_path_equals_the_model_in_the_graph(
    google_muse: Muse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    google_muse.save(tmp_path / "muse")
    config = TextConfig(encoder=str(tmp_path / "muse"), batch_size=3)
    texts = [*SENTENCES, "", *SENTENCES[:4], "long " * 300]
    # Small bounds, so that these few texts fill several tables and steps.
    monkeypatch.setattr(vectors, "_TOKENS_PER_TABLE", 100)
    monkeypatch.setattr(vectors, "_TOKENS_PER_STEP", 40)
    expected = google_muse(tf.constant(texts)).numpy()
    np.testing.assert_allclose(encode_texts(texts, config, progress=False), expected, atol=2e-6)
    layer = load_encoder(encoder_handle(config))
    steps: list[int] = []
    direct = CatalogueEncoder(layer, batch_size=3)(texts, steps.append)
    np.testing.assert_allclose(direct, expected, atol=2e-6)
    assert sum(steps) == len(texts)
    assert max(steps) <= 3
