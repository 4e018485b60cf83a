"""Vectors as bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving import contract
from serving.service.recommender.vectors import ItemVectors, TextVectors, item_vectors, pack, unpack

_floats = st.integers(1, 9).flatmap(lambda n: hnp.arrays(np.float32, n, elements=st.floats(-9, 9, width=32)))
_integers = st.integers(0, 9).flatmap(lambda n: hnp.arrays(np.int32, n, elements=st.integers(-1, 2**31 - 1)))
_texts = st.builds(TextVectors, _floats, _integers, st.floats(0, 9), _integers, _floats)
_vectors = st.builds(ItemVectors, st.just(False), _floats, st.none() | _texts)


def _same(one: ItemVectors, two: ItemVectors) -> bool:
    if one.sealed != two.sealed or one.embedding.tobytes() != two.embedding.tobytes():
        return False
    if one.text is None or two.text is None:
        return one.text is two.text
    return one.text.label_norm == two.text.label_norm and all(
        getattr(one.text, name).tobytes() == getattr(two.text, name).tobytes()
        and getattr(one.text, name).dtype == getattr(two.text, name).dtype
        for name in ("embedding", "labels", "buckets", "scores")
    )


@given(_vectors)
def test_bytes_give_the_same_vectors(vectors: ItemVectors) -> None:
    assert _same(unpack(pack(vectors)), vectors)


def test_a_sealed_item_has_no_vectors() -> None:
    found = unpack(pack(ItemVectors(True, np.ones(3, np.float32))))
    assert found.sealed
    assert not len(found.embedding)
    assert found.text is None


@given(_vectors, st.data())
def test_damage_is_noticed(vectors: ItemVectors, data: st.DataObject) -> None:
    whole = pack(vectors)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(changed), whole[:place], whole + b"\0"):
        with pytest.raises(ValueError, match="no vectors"):
            unpack(damaged)


def test_outputs_are_taken_apart_without_their_padding() -> None:
    outputs = {
        contract.EMBEDDINGS: np.arange(6, dtype=np.float32).reshape(2, 3),
        contract.SEALED: np.array([True, False]),
        contract.TEXT_EMBEDDINGS: np.ones((2, 4), np.float32),
        contract.LABELS: np.array([[1, 2], [5, 9]], np.int64),
        contract.LABEL_NORMS: np.array([0.5, 0.25], np.float32),
        contract.GRAM_BUCKETS: np.array([[1, 2, 3], [7, 8, 0]], np.int32),
        contract.GRAM_SCORES: np.array([[1, 1, 1], [0.5, 0.75, 0]], np.float32),
    }
    sealed, other = item_vectors(outputs)
    assert sealed.sealed
    assert sealed.text is None
    assert other.text is not None
    assert other.embedding.tolist() == [3, 4, 5]
    assert other.text.labels.tolist() == [5, 9]
    assert other.text.label_norm == 0.25
    assert dict(zip(other.text.buckets.tolist(), other.text.scores.tolist(), strict=True)) == {7: 0.5, 8: 0.75}
    without = item_vectors({name: outputs[name] for name in (contract.EMBEDDINGS, contract.SEALED)})
    assert without[1].text is None
    assert not other.has_form_of(without[1])
    assert other.has_form_of(sealed)
