"""Typed queries go through the catalogue's preprocessing inside the exported graph."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.config import dump_config
from trainer.data.dataset import Dataset
from trainer.export.export import export
from trainer.runs import Run
from trainer.text.preprocessing import preprocess
from trainer.text.vectors import encode_texts

pytestmark = pytest.mark.usefixtures("cache")
STEPS = {"*": ["nfkc", "casefold", "numbers"], "en": ["stop_words", "casefold", "stem"]}


def test_an_exported_graph_prepares_what_is_typed(
    tiny: Dataset, tiny_run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert tiny_config(tiny.path) == tiny_run.config
    overrides = [f"text.preprocessing={STEPS}"]
    run = Run.open(tiny_run.path, overrides)
    assert "stop_words" in dump_config(run.config)
    prepared = tf.saved_model.load(str(export(run, tmp_path / "prepared")))
    assert "stem, which no TensorFlow operation does" in caplog.text

    def encoded(model: object, texts: list[str]) -> np.ndarray:
        return model.signatures["encode_text"](text=tf.constant(texts))["embeddings"].numpy()  # type: ignore[attr-defined]

    typed = ["ＳＰＡＣＥ Ship 12", "太空飛船 99", "سفينة فضاء ٣", "ยานอวกาศ", "우주선 🚀", ""]
    # No language is said, so that the steps of `*` count.
    by_hand = preprocess(typed, ["und"] * len(typed), {"*": ["nfkc", "casefold", "numbers"]})
    assert by_hand[:2] == ["space ship 0", "太空飛船 0"]
    expected = encode_texts(by_hand, tiny_run.config.text, progress=False)
    np.testing.assert_allclose(encoded(prepared, typed), expected, atol=1e-5)
    unprepared = encode_texts(typed, tiny_run.config.text, progress=False)
    assert np.abs(unprepared[:3] - expected[:3]).max(axis=1).min() > 1e-3

    def scores(model: object, query: str, language: str) -> dict[bytes, float]:
        empty = tf.zeros([1, 0], tf.string)
        answer = model.signatures["retrieve"](  # type: ignore[attr-defined]
            user_id=tf.constant([""]),
            history=empty,
            query=tf.constant([query]),
            language=tf.constant([language]),
            country=tf.constant([""]),
            timestamp=tf.constant([0], tf.int64),
            k=tf.constant([10]),
            exclude=empty,
            languages=empty,
            categories=empty,
            include_seen=tf.constant([True]),
        )
        return dict(zip(answer["item_ids"].numpy()[0].tolist(), answer["scores"].numpy()[0].tolist(), strict=True))

    # The request's language chooses the steps; to compare, one with the same items and no text differs by nothing.
    assert scores(prepared, "The SPACE of a ship", "en-US") == pytest.approx(scores(prepared, "space ship", "en-US"))
    assert scores(prepared, "The SPACE of a ship", "fr") != pytest.approx(scores(prepared, "space ship", "fr"))
