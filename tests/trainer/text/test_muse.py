"""mUSE in TensorFlow against SentencePiece, the PyPI package and a NumPy oracle."""

import itertools
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from tests.trainer.text.conftest import SENTENCES, Package
from tests.trainer.text.oracle import Oracle
from trainer.errors import BabelrecError
from trainer.text.encoder import encoder_handle, load_encoder
from trainer.text.muse import MAX_TOKENS, Muse
from trainer.text.settings import TextConfig
from trainer.text.weights import MuseWeights

UNKNOWN, BEGIN, END = 0, 1, 2


def ids(muse: Muse, texts: list[str] | list[bytes]) -> list[list[int]]:
    tokens, splits = muse.tokenize(tf.constant(texts))
    return [row.tolist() for row in np.split(tokens.numpy(), splits.numpy()[1:-1])]


def real_titles(mirror: Path) -> list[str]:
    """2,000 titles: 600 Korean, 700 Chinese, 700 English."""
    films = (mirror / "kmrd-small" / "movies.txt").read_text(encoding="utf-8").splitlines()[1:]
    news = (mirror / "mind-sample" / "news.tsv").read_text(encoding="utf-8").splitlines()
    with zipfile.ZipFile(mirror / "mind-sample" / "xMINDsmall_dev.cmn.zip") as archive:
        chinese = archive.read("xMINDsmall_dev/news.tsv").decode("utf-8").splitlines()[1:]
    korean = [line.split("\t")[1] for line in films[:600]]
    return korean + [line.split("\t")[1] for line in chinese[:700]] + [line.split("\t")[3] for line in news[:700]]


@pytest.fixture(scope="module")
def oracle(resources: Path) -> Oracle:
    return Oracle(resources / "weights.npz")


@pytest.mark.parametrize("per_branch", [True, False])
def test_agrees_with_the_oracle(per_branch: bool, oracle: Oracle, google_muse: Muse, package_muse: Muse) -> None:
    muse = google_muse if per_branch else package_muse
    vectors = muse(tf.constant(SENTENCES)).numpy()
    for tokens, vector in zip(ids(muse, SENTENCES), vectors, strict=True):
        expected = oracle.encode(tokens, per_branch=per_branch)
        np.testing.assert_allclose(vector, expected, atol=2e-5)


def test_normalisations_differ(google_muse: Muse, package_muse: Muse) -> None:
    cosine = np.sum(google_muse(tf.constant(SENTENCES)) * package_muse(tf.constant(SENTENCES)), axis=1)
    assert cosine.max() < 0.9999


def test_ids_are_sentencepieces(google_muse: Muse, resources: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(resources / "sp.model"))
    texts = [*SENTENCES, "", " ", "셰넌도어", "<s> </s> <unk>", "▁", "\u00a0\ufeff"]
    assert ids(google_muse, texts) == [[BEGIN, *reference.encode(text), END] for text in texts]


def test_real_titles_agree_with_the_package(package_muse: Muse, package: Package, data_mirror: Path) -> None:
    titles = real_titles(data_mirror)
    assert len(titles) == 2000
    ours = ids(package_muse, titles)
    theirs, expected = package.encode(titles)
    same = np.array([a == b for a, b in zip(ours, theirs, strict=True)])
    # The two known differences, see docs/encoder.md: the package repeats <unk>, and writes it for ''.
    for mine, other in itertools.compress(zip(ours, theirs, strict=True), ~same):
        runs = [token for token, run in itertools.groupby(other) for _ in ([0] if token == UNKNOWN else run)]
        assert runs == mine or (mine, other) == ([BEGIN, END], [BEGIN, UNKNOWN, END])
    assert same.mean() > 0.99
    vectors = package_muse(tf.constant(titles)).numpy()
    cosine = np.sum(vectors * expected, axis=1)
    assert cosine[same].min() >= 0.9999


def test_a_sentence_does_not_see_its_neighbours(google_muse: Muse) -> None:
    together = google_muse(tf.constant(SENTENCES)).numpy()
    alone = np.concatenate([google_muse(tf.constant([text])).numpy() for text in SENTENCES])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_vectors_are_unit_length(google_muse: Muse) -> None:
    norms = np.linalg.norm(google_muse(tf.constant([*SENTENCES, ""])).numpy(), axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-6)


def test_tables_give_the_same_vectors(weights: MuseWeights, google_muse: Muse) -> None:
    float_muse = Muse(weights, table="float", normalization="branch")
    quantized = google_muse(tf.constant(SENTENCES)).numpy()
    np.testing.assert_allclose(float_muse(tf.constant(SENTENCES)).numpy(), quantized, atol=2e-6)


def test_empty_batch(google_muse: Muse) -> None:
    assert google_muse(tf.zeros([0], tf.string)).shape == (0, 512)


def test_empty_and_blank_strings_are_one_sentence_of_two_marks(google_muse: Muse, oracle: Oracle) -> None:
    vectors = google_muse(tf.constant(["", "  \n", "text"])).numpy()
    np.testing.assert_allclose(vectors[0], oracle.encode([BEGIN, END], per_branch=True), atol=2e-5)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert vectors[0] @ vectors[2] < 0.9


def test_bytes_that_are_not_utf8_read_as_an_unknown_character(google_muse: Muse) -> None:
    broken = [b"film \xff\xfe noir", b"\xc3", b"\xed\xa0\xbd lone surrogate"]
    unknown = [text.encode() for text in ("film 뼁 noir", "뼁", "뼁 lone surrogate")]
    assert UNKNOWN in ids(google_muse, unknown[1:2])[0]
    np.testing.assert_array_equal(google_muse(tf.constant(broken)), google_muse(tf.constant(unknown)))


def test_only_the_first_tokens_of_a_very_long_text_count(google_muse: Muse) -> None:
    text = "many words of a very long description " * 20_000
    _, splits = google_muse.tokenize(tf.constant([text, "short"]))
    assert np.diff(splits.numpy()).tolist() == [MAX_TOKENS, 3]
    shortened = text[: len(text) // 2]
    np.testing.assert_array_equal(*google_muse(tf.constant([text, shortened])).numpy())


def test_unknown_options_are_refused(weights: MuseWeights) -> None:
    with pytest.raises(BabelrecError, match="'int4'"):
        Muse(weights, table="int4")  # type: ignore[arg-type]
    with pytest.raises(BabelrecError, match="'layer'"):
        Muse(weights, normalization="layer")  # type: ignore[arg-type]


@pytest.mark.parametrize("table", ["float", "quantized"])
def test_saved_model_is_reusable_and_learns(table: Literal["float", "quantized"], cache: Path) -> None:
    handle = encoder_handle(TextConfig(), table=table)
    layer = hub.KerasLayer(handle, trainable=True)
    model = tf_keras.Sequential([tf_keras.layers.InputLayer([], dtype=tf.string), layer])
    texts, target = tf.constant(["A film", "영화", "电影"]), tf.constant([[1.0] + [0.0] * 511])
    optimizer = tf_keras.optimizers.SGD(0.05)
    losses = []
    for _ in range(4):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(texts, training=True) - target))
        gradients = tape.gradient(loss, model.trainable_variables)
        assert all(gradient is not None for gradient in gradients)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        losses.append(float(loss))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    # Only the float table is trained; the codes of the quantised one are fixed.
    trained = [tuple(variable.shape) for variable in layer.trainable_variables]
    assert ((128_010, 512) in trained) == (table == "float")
    frozen = hub.KerasLayer(handle)
    assert not frozen.trainable_variables
    assert len(frozen.variables) == len(layer.variables)


def test_export_inside_a_bigger_model_answers_in_a_fresh_process(
    google_muse: Muse, cache: Path, tmp_path: Path
) -> None:
    script = """
        import sys, numpy as np, tensorflow as tf, tensorflow_text
        texts = tf.constant(["A film", "영화", "", "电影"])
        for name in sys.argv[2:]:
            model = tf.saved_model.load(f"{sys.argv[1]}/{name}")
            vectors = model.signatures["encode_text"](texts=texts)["vectors"].numpy()
            np.save(f"{sys.argv[1]}/{name}.npy", vectors)
    """

    class Recommender(tf.Module):
        def __init__(self, layer: hub.KerasLayer) -> None:
            super().__init__()
            self.layer = layer

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
        def encode_text(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"vectors": self.layer(texts)}

    tables: tuple[Literal["float", "quantized"], ...] = ("float", "quantized")
    for table in tables:
        recommender = Recommender(load_encoder(encoder_handle(TextConfig(), table=table)))
        signatures = {"encode_text": recommender.encode_text}
        tf.saved_model.save(recommender, str(tmp_path / table), signatures=signatures)
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path), "float", "quantized"], check=True)
    expected = google_muse(tf.constant(["A film", "영화", "", "电影"])).numpy()
    for table in ("float", "quantized"):
        np.testing.assert_allclose(np.load(tmp_path / f"{table}.npy"), expected, atol=2e-6)
