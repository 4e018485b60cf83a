"""The fresh tier against a look at every item."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import contract
from serving.service.recommender import fresh
from serving.service.recommender.facts import Wanted
from serving.service.recommender.fresh import FreshTier
from serving.service.recommender.vectors import ItemVectors, TextVectors
from serving.service.types import Item

_WIDTH, _MEANING, _LABELS, _BUCKETS = 5, 3, 4, 12
_ALL = Wanted([], [], 0.0)


def _vectors(rng: np.random.Generator, with_text: bool) -> ItemVectors:
    embedding = rng.normal(size=_WIDTH).astype(np.float32)
    if not with_text:
        return ItemVectors(False, embedding)
    buckets = rng.choice(_BUCKETS, rng.integers(0, 6), replace=False).astype(np.int32)
    labels = rng.integers(-1, _LABELS + 1, rng.integers(0, 4)).astype(np.int32)
    return ItemVectors(
        False,
        embedding,
        TextVectors(
            rng.normal(scale=0.3, size=_MEANING + 1).astype(np.float32),
            labels,
            float(rng.random()),
            buckets,
            rng.random(len(buckets)).astype(np.float32) + 0.1,
        ),
    )


def _answer(rng: np.random.Generator, typed: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        contract.QUERY_EMBEDDINGS: rng.normal(size=_WIDTH).astype(np.float32),
        contract.CUTOFFS: np.float32(rng.choice([contract.LOWEST_SCORE, -0.5, 0.0, 0.5])),
        contract.INFORMED: np.True_,
    }
    if typed:
        buckets = rng.integers(-1, _BUCKETS, 6).astype(np.int32)
        similar = np.maximum(rng.normal(size=_LABELS + 1), 0).astype(np.float32)
        similar[-1] = 0.0
        answer |= {
            contract.TEXT_EMBEDDINGS: np.append(rng.normal(scale=0.5, size=_MEANING), 1.0).astype(np.float32),
            contract.NAMED: np.float32(rng.random() * 0.5),
            contract.LABEL_SIMILARITIES: similar,
            contract.GRAM_BUCKETS: buckets,
            contract.GRAM_WEIGHTS: np.where(buckets >= 0, 1.0, 0.0).astype(np.float32),
            contract.LEXICAL_WEIGHTS: np.float32(rng.choice([0.0, 0.7])),
        }
    return answer


def _fits(items: dict[str, ItemVectors], answer: dict[str, Any]) -> dict[str, float]:
    """How well items fit a text, in plain Python."""
    named = {}
    for item_id, item in items.items():
        assert item.text is not None
        query = answer[contract.TEXT_EMBEDDINGS].tolist()
        own = dict(zip(item.text.buckets.tolist(), item.text.scores.tolist(), strict=True))
        wanted = [bucket for bucket in answer[contract.GRAM_BUCKETS].tolist() if bucket >= 0]
        share = min(sum(own.get(bucket, 0.0) for bucket in wanted) / len(wanted), 1.0) if wanted else 0.0
        meaning = sum(a * b for a, b in zip(item.text.embedding.tolist()[:-1], query[:-1], strict=True))
        named[item_id] = meaning + float(answer[contract.LEXICAL_WEIGHTS]) * share**2
    best = max([float(answer[contract.NAMED]), *named.values()])
    describes = min(max((0.45 - best) / 0.2, 0.0), 1.0)
    fits = {}
    for item_id, item in items.items():
        assert item.text is not None
        labels = [label for label in item.text.labels.tolist() if 0 <= label < _LABELS]
        similar = sum(float(answer[contract.LABEL_SIMILARITIES][label]) for label in labels)
        popularity = float(item.text.embedding[-1])
        fits[item_id] = named[item_id] + popularity + describes * item.text.label_norm * similar
    return fits


def _item(rng: np.random.Generator, number: int) -> Item:
    return Item(
        item_id=f"i{number}",
        language=str(rng.choice(["ko", "ko", "th"])),
        categories=rng.choice(["a", "b", "c"], 1).tolist(),
        available=bool(rng.random() < 0.9),
    )


@dataclass
class _Model:
    items: dict[str, ItemVectors] = field(default_factory=dict)

    def scores(self, answer: dict[str, Any], typed: bool) -> dict[str, float]:
        if typed:
            return _fits(self.items, answer) if self.items else {}
        query = answer[contract.QUERY_EMBEDDINGS].tolist()
        return {
            item_id: sum(a * b for a, b in zip(item.embedding.tolist(), query, strict=True))
            for item_id, item in self.items.items()
        }


@settings(max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
    st.integers(1, 12),
    st.integers(0, 120),
)
def test_search_finds_what_a_look_at_all_items_finds(
    seed: int, with_text: bool, filters: bool, count: int, steps: int
) -> None:
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fresh, "_LEAST_ROWS", 2)  # so that there are compactions
        tier, model, catalogue = FreshTier(), _Model(), dict[str, Item]()
        for number in rng.integers(0, 26, steps).tolist():
            if rng.random() < 0.6:
                vectors = _vectors(rng, with_text)
                catalogue[f"i{number}"] = item = _item(rng, number)
                tier.put(item, vectors)
                model.items.pop(f"i{number}", None)
                model.items[f"i{number}"] = vectors
            elif rng.random() < 0.3:
                # Changed, and not encoded yet.
                catalogue[f"i{number}"] = item = _item(rng, number)
                tier.describe(item)
            else:
                tier.remove(f"i{number}")
                model.items.pop(f"i{number}", None)
        assert list(tier.newest()) == list(reversed(model.items))
        assert len(tier) == len(model.items)
        answer = _answer(rng, with_text)
        everything = {f"i{n}" for n in range(26)}
        allowed = {f"i{n}" for n in range(26) if n % 5} if filters else everything
        wanted = Wanted(["ko"], ["a", "b"], 50.0) if filters else Wanted([], [], 50.0)
        passing = {
            item_id
            for item_id, item in catalogue.items()
            if item.available and (not filters or (item.language == "ko" and {"a", "b"} & {*item.categories}))
        }
        may_show, allowed = allowed, allowed & passing
        scores = model.scores(answer, with_text)
        cutoff = float(answer[contract.CUTOFFS])
        # Within rounding of the cutoff or of each other both orders are right.
        expected = sorted((i for i in scores if scores[i] > cutoff and i in allowed), key=lambda i: -scores[i])[:count]
        asked: list[str] = []

        def is_allowed(item_id: str) -> bool:
            asked.append(item_id)
            return item_id in may_show

        found = tier.search(answer, with_text, count, wanted, is_allowed)
        # What filters keep out is not looked at.
        assert set(asked) <= passing
        assert len(set(found.item_ids)) == len(found.item_ids)
        np.testing.assert_allclose([scores[i] for i in found.item_ids], [scores[i] for i in expected], atol=1e-5)
        assert found.item_ids == expected
        for place, item_id in enumerate(found.item_ids):
            np.testing.assert_array_equal(found.embeddings[place], model.items[item_id].embedding)
            np.testing.assert_array_equal(tier.embedding(item_id), model.items[item_id].embedding)
            assert (found.fits is not None) == with_text
            assert found.fits is None or abs(found.fits[place] - scores[item_id]) < 1e-5
        given_ids = [*list(model.items)[:5], "unknown"]
        of_given = tier.of(given_ids, answer, with_text)
        assert of_given.item_ids == given_ids[:-1]
        if of_given.fits is not None:
            np.testing.assert_allclose(of_given.fits, [scores[i] for i in of_given.item_ids], atol=1e-5)


def test_requests_without_information_compare_popularity_which_is_zero() -> None:
    tier, rng = FreshTier(), np.random.default_rng(1)
    for number in range(5):
        tier.put(Item(item_id=f"i{number}", language="ko"), _vectors(rng, False))
    answer = _answer(rng, False) | {contract.INFORMED: np.False_, contract.CUTOFFS: np.float32(0.0)}
    assert tier.search(answer, False, 10, _ALL, lambda _: True).item_ids == []
    # The model has too few items.
    answer[contract.CUTOFFS] = np.float32(contract.LOWEST_SCORE)
    assert sorted(tier.search(answer, False, 10, _ALL, lambda _: True).item_ids) == [f"i{n}" for n in range(5)]


def test_another_model_with_the_same_number_finds_nothing() -> None:
    tier, rng = FreshTier(), np.random.default_rng(1)
    tier.put(Item(item_id="i", language="ko"), _vectors(rng, False))
    answer = _answer(rng, False) | {contract.QUERY_EMBEDDINGS: np.ones(_WIDTH + 1, np.float32)}
    assert tier.search(answer, False, 10, _ALL, lambda _: True).item_ids == []
    assert tier.of(["i"], answer, False).item_ids == []
