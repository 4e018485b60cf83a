"""Pins, caps and diversity in one list."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.service.diversity import METHODS, DiverseChooser, Method
from serving.service.rules import Candidate, Context, Outcome, Rules, apply, rules_from
from serving.service.types import Item

_NOW = Context(now=0)
_CAP = {"name": "variety", "kind": "cap", "per": "categories", "at_most": 2}
_PIN = {"name": "first", "kind": "pin", "item": "9", "position": 1}


def _candidates(count: int, labels: int = 3) -> list[Candidate]:
    return [
        Candidate(Item(item_id=str(i), language="th", categories=[f"ป้าย {i % labels}"]), float(count - i))
        for i in range(count)
    ]


def _pinned(outcome: Outcome) -> list[tuple[int, str]]:
    return [(place, each.item.item_id) for place, each in enumerate(outcome.items) if each.source == "pinned"]


def _ids(rules: Rules, candidates: list[Candidate], count: int, chooser: DiverseChooser) -> list[str]:
    return [placed.item.item_id for placed in apply(rules, candidates, _NOW, count, choose=chooser).items]


@pytest.mark.parametrize("method", METHODS)
@given(
    seed=st.integers(0, 1000),
    strength=st.sampled_from([0.0, 0.3, 1.0]),
    count=st.integers(1, 12),
    pins=st.lists(st.tuples(st.integers(0, 14), st.integers(0, 12)), max_size=3, unique_by=lambda pin: pin[0]),
)
def test_pins_and_caps_hold(
    method: Method, seed: int, strength: float, count: int, pins: list[tuple[int, int]]
) -> None:
    document = [_CAP] + [
        {"name": f"pin {item}", "kind": "pin", "item": str(item), "position": position} for item, position in pins
    ]
    chooser = DiverseChooser(np.random.default_rng(seed).normal(size=(15, 4)).astype(np.float32), strength, method)
    candidates = _candidates(15)
    outcome = apply(rules_from({"rules": document}), candidates, _NOW, count, choose=chooser)
    plain = apply(rules_from({"rules": document}), candidates, _NOW, count)

    # Pins are where they are without diversity, and the list is as long.
    assert _pinned(outcome) == _pinned(plain)
    assert outcome.missed_pins == plain.missed_pins
    assert len(outcome.items) == len(plain.items)
    labels = Counter(each.item.categories[0] for each in outcome.items)
    of_pins = Counter(each.item.categories[0] for each in outcome.items if each.source == "pinned")
    assert all(number <= max(2, of_pins[label]) for label, number in labels.items())
    if strength == 0:
        assert outcome == plain


def test_diversity_is_relative_to_what_is_pinned() -> None:
    vectors = np.eye(10, dtype=np.float32)
    vectors[0] = vectors[9]
    rules = rules_from({"rules": [_PIN]})
    # The best item is a copy of the pinned one.
    assert _ids(rules, _candidates(10), 3, DiverseChooser(vectors, 0.6)) == ["1", "9", "2"]
    assert _ids(Rules(), _candidates(10), 3, DiverseChooser(vectors, 0.6))[0] == "0"


def test_boosts_come_before_diversity() -> None:
    boost = {"name": "up", "kind": "boost", "where": {"item_id": {"equals": "7"}}, "add": 100}
    chooser = DiverseChooser(np.eye(10, dtype=np.float32), 0.5)
    assert _ids(rules_from({"rules": [boost]}), _candidates(10), 1, chooser) == ["7"]


def test_extras_may_have_vectors_or_none() -> None:
    candidates = _candidates(4)
    vectors = np.eye(5, dtype=np.float32)
    vectors[4] = vectors[0]
    rules = rules_from({"rules": [_PIN]})
    extra = Candidate(Item(item_id="9", language="th"), 0.0)
    for rows, first in ((vectors, "1"), (vectors[:4], "0")):
        outcome = apply(rules, candidates, _NOW, 3, extras=[extra], choose=DiverseChooser(rows, 0.9, "dpp"))
        assert [each.item.item_id for each in outcome.items][:2] == [first, "9"]


def test_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="no method of diversity 'max'"):
        DiverseChooser(np.eye(2), 0.5, "max")  # type: ignore[arg-type]
