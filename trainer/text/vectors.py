"""Vectors of a catalogue's texts: each distinct text is encoded exactly once."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.errors import BabelrecError
from trainer.files import cache_root
from trainer.text import hub
from trainer.text.encoder import encoder_fingerprint, encoder_handle, load_encoder
from trainer.text.muse import Muse
from trainer.text.settings import TextConfig
from trainer.text.vector_cache import VectorCache, text_keys

Vectors = npt.NDArray[np.float32]

# Texts encoded between two cache writes: the most that a kill can lose.
_TEXTS_PER_SHARD = 16_384
# Tokens that share one table of distinct tokens, and tokens per step: the first bounds memory, the
# second keeps a step's arrays in the processor's cache.
_TOKENS_PER_TABLE = 262_144
_TOKENS_PER_STEP = 2_048


def encode_texts(
    texts: Sequence[str], config: TextConfig, *, progress: bool = True, handle: str | None = None
) -> Vectors:
    """Encodes texts with the frozen encoder of ``config``, using cached vectors where available.

    Args:
        texts: N texts in any order, repeats allowed.
        config: The encoder to use.
        progress: Show a progress bar (on standard error) while texts are being encoded.
        handle: An encoder to use instead, from :mod:`trainer.text.encoder`.

    Returns:
        float32 [N, D], row i belongs to ``texts[i]``.

    Raises:
        BabelrecError: A text is not a string, or the encoder is not available.
    """
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise BabelrecError(f"Text {position} is {type(text).__name__} {text!r}, not a string.")
    handle = handle or encoder_handle(config)
    distinct = list(dict.fromkeys(texts))
    cache = VectorCache(cache_root() / "vectors" / cache_name(handle))
    keys = text_keys(distinct)
    found, stored = cache.look_up(keys)
    missing = np.setdiff1d(np.arange(len(distinct)), found, assume_unique=True)
    if stored is not None and not len(missing):
        return stored if len(distinct) == len(texts) else stored[_places(distinct, texts)]

    encode = CatalogueEncoder(load_encoder(handle), batch_size=config.batch_size)
    vectors = np.empty((len(distinct), encode.dimension), np.float32)
    if stored is not None:
        vectors[found] = stored
    with _progress(progress) as bar:
        task = bar.add_task("Encoding texts", total=len(missing))
        for begin in range(0, len(missing), _TEXTS_PER_SHARD):
            part = missing[begin : begin + _TEXTS_PER_SHARD]
            vectors[part] = encode([distinct[i] for i in part], lambda n: bar.advance(task, n))
            cache.append(keys[part], vectors[part])
    return vectors if len(distinct) == len(texts) else vectors[_places(distinct, texts)]


def cache_name(handle: str) -> str:
    """The folder of an encoder's vectors in the cache."""
    return encoder_fingerprint(handle)[:32]


class CatalogueEncoder:
    """Encodes many texts fast, without a cache on disk.

    mUSE built by :mod:`trainer.text.muse` is run in parts: all texts are tokenised first, what depends
    only on a token is computed once per distinct token, and the sentences follow in batches of similar
    length. Any other encoder is called on batches of texts of similar length.

    Args:
        layer: From :func:`trainer.text.encoder.load_encoder`.
        batch_size: Maximum number of texts per step.
    """

    def __init__(self, layer: hub.KerasLayer, *, batch_size: int = 256) -> None:
        self._layer = layer
        self._batch_size = batch_size
        self.dimension = int(layer(tf.constant([""])).shape[-1])
        module = layer.resolved_object
        self._module = module if hasattr(module, "encode_positions") else None

    def __call__(self, texts: Sequence[str], advance: Callable[[int], object] = lambda _: None) -> Vectors:
        """Encodes N texts as float32 [N, D]; ``advance`` receives the number of texts after each step."""
        if self._module is None:
            return self._encode_plain(texts, advance)
        return self._encode_muse(self._module, texts, advance)

    def _encode_plain(self, texts: Sequence[str], advance: Callable[[int], object]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for begin in range(0, len(order), self._batch_size):
            rows = order[begin : begin + self._batch_size]
            vectors[rows] = self._layer(tf.constant([_utf8(texts[row]) for row in rows])).numpy()
            advance(len(rows))
        return vectors

    def _encode_muse(self, module: Muse, texts: Sequence[str], advance: Callable[[int], object]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        if not texts:
            return vectors
        tokens, splits = (part.numpy() for part in module.tokenize(tf.constant([_utf8(t) for t in texts])))
        lengths = np.diff(splits)
        order = np.argsort(lengths, kind="stable")
        for group in _bounded(order, lengths, _TOKENS_PER_TABLE, len(order)):
            flat = _gather_rows(tokens, splits, group)
            distinct, positions = np.unique(flat, return_inverse=True)
            table = module.token_table(tf.constant(distinct))
            begin = 0
            for step in _bounded(group, lengths, _TOKENS_PER_STEP, self._batch_size):
                ends = np.cumsum(lengths[step])
                row_splits = np.concatenate([[0], ends])
                part = positions[begin : begin + ends[-1]].astype(np.int32)
                begin += ends[-1]
                vectors[step] = module.encode_positions(table, part, row_splits).numpy()
                advance(len(step))
        return vectors


def _bounded(
    rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], tokens: int, texts: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Splits ``rows`` into runs of at most ``texts`` rows and ``tokens`` tokens; a longer text is a run of its own."""
    ends = np.cumsum(lengths[rows])
    begin = 0
    while begin < len(rows):
        limit = tokens + (ends[begin - 1] if begin else 0)
        end = min(max(int(np.searchsorted(ends, limit, side="right")), begin + 1), begin + texts)
        yield rows[begin:end]
        begin = end


def _gather_rows(
    flat: npt.NDArray[np.int32], splits: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """The ragged rows ``rows`` of (flat, splits), one after another."""
    lengths = splits[rows + 1] - splits[rows]
    shift = np.repeat(splits[rows] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    gathered: npt.NDArray[np.int32] = flat[np.arange(lengths.sum()) + shift]
    return gathered


def _utf8(text: str) -> bytes:
    # A lone surrogate has no UTF-8 encoding; SentencePiece reads this output as U+FFFD.
    return text.encode("utf-8", "surrogatepass")


def _places(distinct: Sequence[str], texts: Sequence[str]) -> npt.NDArray[np.int64]:
    place = {text: position for position, text in enumerate(distinct)}
    return np.fromiter((place[text] for text in texts), np.int64, len(texts))


def _progress(enabled: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not enabled)
