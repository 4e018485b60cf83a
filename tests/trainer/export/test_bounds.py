"""What a request may ask for: cut texts, distinct filters, newest histories, and the cost of hostile requests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.export.test_export import Answer, asker, ids
from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.export.bounds import Bounds, cut_texts, encode_in_parts
from trainer.export.export import export
from trainer.export.filters import Postings
from trainer.export.settings import LimitsConfig
from trainer.runs import Run
from trainer.training.fit import fit

pytestmark = pytest.mark.usefixtures("cache")
_PROGRAM = Path(__file__).with_name("hostile.py")
_TEXTS = ["a", "é", "ย", "太", "우주", "🚀", "👩‍🚀", "سفينة ", "e\u0301", "\0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("bounds")
    dataset = tiny_dataset(folder / "dataset", items=1_000, users=60)
    config = tiny_config(dataset.path, training={"epochs": 1, "refit": False, "batch_size": 64})
    return fit(config, folder / "run")


@pytest.fixture(scope="module")
def version(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("models") / "bounds")


@pytest.fixture(scope="module")
def ask(version: Path) -> Callable[..., Answer]:
    return asker(version)


@pytest.mark.parametrize("most", [4, 5, 6, 7, 16])
def test_a_text_is_cut_between_two_characters(most: int) -> None:
    texts = [f"{'x' * shift}{text * most}" for text in _TEXTS for shift in range(4)] + ["", "short"[:most]]
    # What fits of a text, by Python's own decoder.
    expected = [text.encode()[:most].decode(errors="ignore") for text in texts]
    assert [text.decode() for text in cut_texts(tf.constant(texts), most).numpy()] == expected


@pytest.mark.parametrize(
    "raw", [b"\x80", b"\xff", b"\xf0\x9f", b"\xed\xa0\x80", b"\xc3", b"a\x80\x80", b"\xf0\x9f\x9a"]
)
def test_what_is_no_text_is_cut_all_the_same(raw: bytes) -> None:
    for most in (4, 5, 6, 7):
        cut = cut_texts(tf.constant([raw * 20, b"x" + raw * 20]), most).numpy()
        for before, after in zip((raw * 20, b"x" + raw * 20), cut, strict=True):
            assert before.startswith(after)
            assert most - 3 <= len(after) <= most


def test_lists_within_their_bounds_are_left_alone() -> None:
    bounds = Bounds(LimitsConfig(history=3, languages=2), history_length=1)
    given = tf.constant(["q"]), tf.constant([["", "a", "b"]]), {"languages": tf.constant([["ko", "ko"]])}
    query, history, filters = tf.function(bounds.request)(*given)
    assert (query.numpy().tolist(), history.numpy().tolist()) == ([b"q"], [[b"", b"a", b"b"]])
    assert filters["languages"].numpy().tolist() == [[b"ko", b"ko"]]


def test_each_row_keeps_its_newest_items_and_different_values() -> None:
    rng = np.random.default_rng(0)
    bounds = Bounds(LimitsConfig(text_bytes=4, history=5, languages=6), history_length=2)
    # Padding in front, behind (as servers do that join requests) and between.
    history = rng.choice(["", "a", "b", "c"], (20, 30))
    languages = rng.choice(["", "ko", "zh", "KO", "\0", "ยาน"], (20, 40))
    history[0], languages[0] = "", ""
    query, newest, filters = tf.function(bounds.request)(
        tf.constant(["🚀🚀"] * 20), tf.constant(history), {"languages": tf.constant(languages)}
    )
    assert query.numpy().tolist() == ["🚀".encode()] * 20
    for line in range(20):
        told = [text.encode() for text in history[line] if text][-5:]
        assert newest.numpy()[line].tolist() == [b""] * (5 - len(told)) + told
        said = list(dict.fromkeys(text.encode() for text in languages[line].tolist() if text))
        assert filters["languages"].numpy()[line].tolist() == said + [b""] * (6 - len(said))


def test_the_query_towers_history_is_never_cut() -> None:
    bounds = Bounds(LimitsConfig(history=1), history_length=3)
    _, history, _ = bounds.request(tf.constant([""]), tf.constant([["a", "b", "c", "d"]]), {})
    assert history.numpy().tolist() == [[b"b", b"c", b"d"]]


@pytest.mark.parametrize("name", ["languages", "categories", "exclude"])
def test_too_many_different_values_are_refused_by_name_and_number(ask: Callable[..., Answer], name: str) -> None:
    most = getattr(LimitsConfig(), name)
    values = [f"x{number}" for number in range(most + 3)]
    assert ids(ask(user_id=["u1"], **{name: [values[:most] * 2]})) is not None
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"Input {name} may have {most} different .*\[{most + 3}\]"
    ):
        ask(user_id=["u1", "u2"], **{name: [["x"], values]})


def test_too_many_items_to_rank_are_refused(ask: Callable[..., Answer]) -> None:
    assert ask("rank", user_id=["u1"], item_ids=[["i1"] * 1_000])["scores"].shape == (1, 1_000)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Input item_ids may have 1000 items .*\[1001\]"):
        ask("rank", user_id=["u1"], item_ids=[["i1"] * 1_001])


def test_more_rows_than_a_request_may_have_are_refused(ask: Callable[..., Answer]) -> None:
    for name, said in (("recommend", {}), ("rank", {"item_ids": [["i1"]]})):
        assert len(ask(name, user_id=["u1"] * 128, **{key: value * 128 for key, value in said.items()})["scores"])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"A request may have 128 rows .*\[129\]"):
            ask(name, user_id=["u1"] * 129, **{key: value * 129 for key, value in said.items()})
    encode = ask.loaded.signatures["encode_text"]  # type: ignore[attr-defined]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"limits.texts.*\[4097\]"):
        encode(text=tf.constant([""] * 4_097))


def test_longer_answers_than_allowed_are_refused(run: Run, tmp_path: Path) -> None:
    limited = asker(export(Run.open(run.path, ["export.limits.k=100"]), tmp_path / "limited"))
    assert limited(user_id=["u1"], k=[100])["scores"].shape == (1, 100)
    for name in ("recommend", "retrieve"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"An answer may have 100 items per row .*\[101\]"):
            limited(name, user_id=["u1", "u2"], k=[5, 101])


def test_repeated_entries_and_padding_change_no_answer(ask: Callable[..., Answer]) -> None:
    for said in ({"query": ["우주선"]}, {"history": [["i3", "i8"]]}, {}):
        plain = ask(**said, languages=[["ko", "zh"]], categories=[["Old"]], exclude=[["i10", "i20"]])
        wide = ask(
            **said,
            languages=[["", "zh", "KO", "ko"] * 100],
            categories=[["old", "", "nothing", "Old"] * 100],
            exclude=[["i10", "i20", ""] * 4_000],
        )
        assert ids(plain) == ids(wide)
        np.testing.assert_allclose(plain["scores"], wide["scores"], rtol=1e-4)
    short = ask(history=[["i3", "i8"]])
    assert ids(short) == ids(ask(history=[["", "i3", "", "i8"] + [""] * 3_000]))


def test_text_beyond_the_bound_changes_no_answer(ask: Callable[..., Answer]) -> None:
    text = ("우주선" * 400).encode()
    kept = text[:2_048].decode(errors="ignore")
    assert len(kept.encode()) < 2_048, "or the cut would meet no character"
    assert ids(ask(query=[text.decode()])) == ids(ask(query=[kept]))
    encode = ask.loaded.signatures["encode_text"]  # type: ignore[attr-defined]
    long, short = encode(text=tf.constant([text, kept]))["embeddings"].numpy()
    np.testing.assert_allclose(long, short, atol=1e-6)


def test_many_texts_are_encoded_as_each_alone(ask: Callable[..., Answer]) -> None:
    encode = ask.loaded.signatures["encode_text"]  # type: ignore[attr-defined]
    texts = [f"{text} {number}" * (1 + 50 * (number % 4)) for number, text in enumerate(_TEXTS * 6)]
    together = encode(text=tf.constant(texts))["embeddings"].numpy()
    alone = [encode(text=tf.constant([text]))["embeddings"].numpy()[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_parts_hold_every_text_once() -> None:
    def encode(texts: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
        sizes = tf.strings.length(texts)
        # Besides its longest text a part holds less than 1.5 KB, unless everything is encoded at once.
        total, longest = tf.reduce_sum(sizes), tf.reduce_max(tf.concat([[0], sizes], 0))
        tf.debugging.Assert((total - longest <= 1_536) | (total <= 3_584), [sizes])
        return tf.cast(tf.stack([sizes, tf.strings.length(languages)], axis=1), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def in_parts(texts: tf.Tensor) -> tf.Tensor:
        return encode_in_parts(encode, 2, texts, texts)

    for sizes in (
        [],
        [0],
        [1_000, 20],
        [3_000],
        [1_500, 1_500, 1_500],
        [3_000, 0, 1_500, 1_500, 40, 9_000, 1],
        [100] * 100,
        [0] * 3_000,
    ):
        told = in_parts(tf.constant(["x" * size for size in sizes], tf.string))
        assert told.numpy().tolist() == [[size, size] for size in sizes]


@pytest.mark.parametrize("at_once", [1 << 22, 0], ids=["at once", "by row"])
def test_masks_are_those_of_sets(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("trainer.export.filters._AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(rng.random(50) < share).astype(np.int32) for share in (0.0, 0.1, 0.5, 1.0)]
    postings = Postings(["none", "few", "half", "All"], groups, 50, name="test")
    asked = rng.choice(["", "none", "few", "HALF", "all", "unknown"], (40, 3), p=[0.4, 0.1, 0.2, 0.1, 0.1, 0.1])
    masks = tf.function(postings.masks)(tf.constant(asked)).numpy()
    by_name = dict(zip(("none", "few", "half", "all"), (set(group.tolist()) for group in groups), strict=True))
    for line, labels in zip(masks, asked.tolist(), strict=True):
        said = [label.lower() for label in labels if label]
        expected = set().union(*(by_name.get(label, set()) for label in said)) if said else set(range(50))
        assert set(np.flatnonzero(line).tolist()) == expected
    np.testing.assert_array_equal(masks, [postings.mask(tf.constant(labels)).numpy() for labels in asked])


def test_no_request_costs_more_than_its_size_allows(version: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # TensorFlow's other allocator keeps what was freed, which would hide what a request takes.
    environment = os.environ | {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}
    command = [sys.executable, str(_PROGRAM), str(version), str(report)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(report.read_text(encoding="utf-8"))
    assert len(found) > 1_000
    costly = [case for case in found if case["megabytes"] > 100 + 20 * case["bytes"] / 1e6 or case["seconds"] > 10]
    assert costly == []
    refused = [case["error"] for case in found if case["error"]]
    assert all(error.startswith("InvalidArgumentError") for error in refused)
    for told in ("Input languages may have 64", "Input categories may have 256", "Input exclude may have 10000"):
        assert any(told in error for error in refused)
