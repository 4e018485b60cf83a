"""What `embed_items` says of one item, as arrays and as bytes for the store."""

import zlib
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client.types import Arrays

_Floats = npt.NDArray[np.float32]
_TEXT_OUTPUTS: Final = (
    contract.TEXT_EMBEDDINGS,
    contract.LABELS,
    contract.LABEL_NORMS,
    contract.GRAM_BUCKETS,
    contract.GRAM_SCORES,
)
_CHECKSUM: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class TextVectors:
    """By what text queries find an item: see `trainer.export.fresh_items`.

    Attributes:
        embedding: Float32 [S + 1], its text's principal components and its popularity.
        labels: Int32 [C], its category labels.
        label_norm: Weight of their similarities.
        buckets: Int32 [G], its n-grams.
        scores: Float32 [G], theirs.
    """

    embedding: _Floats
    labels: npt.NDArray[np.int32]
    label_norm: float
    buckets: npt.NDArray[np.int32]
    scores: _Floats


@dataclass(frozen=True, slots=True, eq=False)
class ItemVectors:
    """An item's vectors under one version of the model.

    Attributes:
        sealed: Whether the model's index holds the item as it is; there are no vectors then.
        embedding: Float32 [D].
        text: None where the model has no text search.
    """

    sealed: bool
    embedding: _Floats
    text: TextVectors | None = None

    def has_form_of(self, other: "ItemVectors") -> bool:
        """Whether both may be in one tier: vectors of the same widths, both with text or both without."""
        if self.sealed or other.sealed:
            return True
        if self.embedding.shape != other.embedding.shape or (self.text is None) != (other.text is None):
            return False
        return self.text is None or other.text is None or self.text.embedding.shape == other.text.embedding.shape


class _Packed(msgspec.Struct, array_like=True):
    sealed: bool
    embedding: bytes = b""
    text: tuple[bytes, bytes, float, bytes, bytes] | None = None


def item_vectors(outputs: Arrays) -> list[ItemVectors]:
    """Of each row of the outputs of `embed_items`."""
    text = all(name in outputs for name in _TEXT_OUTPUTS)
    return [
        ItemVectors(True, np.zeros(0, np.float32))
        if sealed
        else ItemVectors(False, outputs[contract.EMBEDDINGS][row], _text_of(outputs, row) if text else None)
        for row, sealed in enumerate(outputs[contract.SEALED])
    ]


def pack(vectors: ItemVectors) -> bytes:
    """As bytes with a checksum, for `unpack`."""
    if vectors.sealed:
        return _checked(_Packed(True))
    text = vectors.text
    packed = (
        None
        if text is None
        else (
            text.embedding.tobytes(),
            text.labels.tobytes(),
            text.label_norm,
            text.buckets.tobytes(),
            text.scores.tobytes(),
        )
    )
    return _checked(_Packed(False, vectors.embedding.tobytes(), packed))


def unpack(data: bytes) -> ItemVectors:
    """The inverse of `pack`.

    Raises:
        ValueError: it is something else.
    """
    body = data[_CHECKSUM:]
    if zlib.crc32(body).to_bytes(_CHECKSUM, "big") != data[:_CHECKSUM]:
        raise ValueError("these are no vectors of an item: their checksum is wrong")
    try:
        packed = msgspec.msgpack.decode(body, type=_Packed)
    except msgspec.DecodeError as error:
        raise ValueError(f"these are no vectors of an item: {error}") from None
    text = None
    if packed.text is not None:
        embedding, labels, norm, buckets, scores = packed.text
        text = TextVectors(_floats(embedding), _integers(labels), norm, _integers(buckets), _floats(scores))
    return ItemVectors(packed.sealed, _floats(packed.embedding), text)


def _checked(packed: _Packed) -> bytes:
    body = msgspec.msgpack.encode(packed)
    return zlib.crc32(body).to_bytes(_CHECKSUM, "big") + body


def _text_of(outputs: Arrays, row: int) -> TextVectors:
    scores = outputs[contract.GRAM_SCORES][row]
    there = scores > 0.0  # the rest is padding
    return TextVectors(
        embedding=outputs[contract.TEXT_EMBEDDINGS][row],
        labels=outputs[contract.LABELS][row].astype(np.int32),
        label_norm=float(outputs[contract.LABEL_NORMS][row]),
        buckets=outputs[contract.GRAM_BUCKETS][row][there].astype(np.int32),
        scores=scores[there],
    )


def _floats(data: bytes) -> _Floats:
    return np.frombuffer(data, np.float32)


def _integers(data: bytes) -> npt.NDArray[np.int32]:
    return np.frombuffer(data, np.int32)
