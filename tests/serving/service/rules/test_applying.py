"""What rules do, one at a time; combinations are in test_against_naive.py."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from serving.service.rules import (
    Candidate,
    Context,
    MissedPin,
    Outcome,
    Removal,
    Touch,
    apply,
    pinned_items,
    rules_from,
)
from serving.service.types import Item

_NOW = 1_000_000.0
_DAY = 86_400


def _item(item_id: str, **fields: Any) -> Item:
    return Item(item_id=item_id, **{"language": "en", **fields})


def _apply(rule: Any, *candidates: tuple[Item, float], count: int = 10, **context: Any) -> Outcome:
    rules = rules_from({"rules": [{"name": f"rule {i}", **each} for i, each in enumerate(rule)]})
    given = [Candidate(*each) for each in candidates]
    return apply(rules, given, Context(**{"now": _NOW, **context}), count)


def _holds(where: Any, item: Item) -> bool:
    return not _apply([{"kind": "block", "where": where}], (item, 1.0)).items


def _ids(outcome: Outcome) -> list[str]:
    return [placed.item.item_id for placed in outcome.items]


@pytest.mark.parametrize(
    ("where", "fields", "holds"),
    [
        ({"categories": {"contains": "café"}}, {"categories": ["cafe\u0301"]}, True),
        ({"categories": {"contains": "caf"}}, {"categories": ["café"]}, False),
        ({"categories": {"contains": "신발"}}, {"categories": ["\u1109\u1175\u11ab\u1107\u1161\u11af"]}, True),
        ({"categories": {"contains": "👩‍👩‍👧"}}, {"categories": ["👩"]}, False),
        ({"categories": {"in": ["أحذية", "鞋"]}}, {"categories": ["x", "鞋"]}, True),
        ({"categories": {"contains": "Shoes"}}, {"categories": ["shoes"]}, False),
        ({"title": {"contains": "CASINO"}}, {"title": "Das Ｃasino"}, True),
        ({"title": {"contains": "STRASSE"}}, {"title": "Straße"}, True),
        ({"title": {"contains": "รองเท้า"}}, {"title": "ขายรองเท้าแตะ"}, True),
        ({"title": {"contains": "محمد"}}, {"title": "\ufee3\ufea4\ufee4\ufeaa"}, True),
        ({"title": {"equals": "Shoe"}}, {"title": "shoe"}, False),
        ({"language": {"equals": "pt"}}, {"language": "pt-BR"}, True),
        ({"language": {"equals": "pt-br"}}, {"language": "pt-BR"}, True),
        ({"language": {"equals": "pt-BR"}}, {"language": "pt"}, False),
        ({"language": {"equals": "p"}}, {"language": "pt"}, False),
        ({"language": {"equals": "no"}}, {"language": ""}, False),
        ({"seller": {"equals": "ACME"}}, {"attributes": {"seller": "ＡＣＭＥ"}}, False),
        ({"seller": {"contains": "ACME"}}, {"attributes": {"seller": "ＡＣＭＥ"}}, True),
        ({"new": {"equals": True}}, {"attributes": {"new": True}}, True),
        ({"new": {"equals": 1}}, {"attributes": {"new": True}}, False),
        ({"new": {"equals": True}}, {"attributes": {"new": 1}}, False),
        ({"new": {"equals": "true"}}, {"attributes": {"new": True}}, False),
        ({"n": {"equals": 1}}, {"attributes": {"n": 1.0}}, True),
        ({"n": {"equals": 1}}, {"attributes": {"n": "1"}}, False),
        ({"n": {"<": 5}}, {"attributes": {"n": True}}, False),
        ({"n": {">": 5}}, {"numbers": {"n": math.inf}}, True),
        ({"n": {">": 2**53}}, {"attributes": {"n": 2**53 + 1}}, True),
        ({"n": {">": 5}}, {"attributes": {"n": 10**400}}, True),
        ({"n": {"<": 5}}, {"numbers": {"n": -math.inf}}, True),
        ({"n": {">": 5}}, {"numbers": {"n": math.nan}}, False),
        ({"n": {"<=": 5}}, {"numbers": {"n": math.nan}}, False),
        ({"not": {"n": {"<=": 5}}}, {"numbers": {"n": math.nan}}, True),
        ({"n": {"equals": 5}}, {"numbers": {"n": 5.0}, "attributes": {"n": 6}}, True),
        ({"n": {"equals": 5}}, {}, False),
        ({"not": {"n": {"equals": 5}}}, {}, True),
        ({"all": [{"not": {"n": {"equals": 5}}}, {"not": {"m": {"equals": 5}}}]}, {}, True),
        ({"seller": {"contains": "a"}}, {"attributes": {"seller": ""}}, False),
        ({"valid_from": {"<": 5}}, {"valid_from": 4}, True),
        ({"valid_from": {"<": 5}}, {}, False),
        ({"item_id": {"in": ["x", "y"]}}, {}, True),
    ],
)
def test_predicates(where: Any, fields: Any, holds: bool) -> None:
    assert _holds(where, _item("x", **fields)) == holds


@pytest.mark.parametrize(
    ("scope", "context", "applies"),
    [
        ({}, {}, True),
        ({"placements": ["購物車"]}, {"placement": "購物車"}, True),
        ({"placements": ["home"]}, {"placement": ""}, False),
        ({"languages": ["pt"]}, {"language": "pt-BR"}, True),
        ({"languages": ["PT-br"]}, {"language": "pt_BR"}, True),
        ({"languages": ["pt-BR"]}, {"language": "pt"}, False),
        ({"languages": ["pt"]}, {}, False),
        ({"countries": ["br"]}, {"country": "BR"}, True),
        ({"countries": ["BR"]}, {}, False),
        ({"from": _NOW}, {}, True),
        ({"from": _NOW + 0.5}, {}, False),
        ({"until": _NOW}, {}, False),
        ({"until": _NOW + 0.5}, {}, True),
        ({"from": "1970-01-12T22:46:40+09:00"}, {"now": 1_000_000}, True),
        ({"from": "1970-01-12T13:46:40Z"}, {"now": 1_000_000 - 1}, False),
        ({"from": "1970-01-12T13:46:40Z"}, {"now": 1_000_000}, True),
        ({"placements": ["home"], "countries": ["BR"]}, {"placement": "home"}, False),
    ],
)
def test_when_a_rule_applies(scope: Any, context: Any, applies: bool) -> None:
    rule = {"kind": "block", "where": {"item_id": {"equals": "x"}}, **scope}
    assert (not _apply([rule], (_item("x"), 1.0), **context).items) == applies


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({"kind": "boost", "multiply": 2}, 3.0, 6.0),
        ({"kind": "boost", "multiply": 2}, -3.0, -1.5),
        ({"kind": "boost", "multiply": 2}, 0.0, 0.0),
        ({"kind": "bury", "multiply": 0.5}, -3.0, -6.0),
        ({"kind": "bury", "multiply": 0.5}, 3.0, 1.5),
        ({"kind": "boost", "add": 0.5}, -3.0, -2.5),
        ({"kind": "bury", "add": -0.5}, 3.0, 2.5),
        ({"kind": "boost", "multiply": 1e6}, 1e308, sys.float_info.max),
        ({"kind": "boost", "add": 1e299}, 1.0, 1e299),
    ],
)
def test_scores(change: Any, before: float, after: float) -> None:
    (placed,) = _apply([{"where": {"item_id": {"equals": "x"}}, **change}], (_item("x"), before)).items
    assert placed.score == after
    assert placed.touches == [Touch(rule="rule 0", kind=change["kind"], before=before, after=after)]


@pytest.mark.parametrize(
    ("fields", "rule", "after"),
    [
        ({"valid_from": int(_NOW)}, {"add": 4}, 5.0),
        ({"valid_from": int(_NOW) - 2 * _DAY}, {"add": 4}, 3.0),
        ({"valid_from": int(_NOW) - 4 * _DAY}, {"multiply": 3}, 1.5),
        ({"numbers": {"made": _NOW + _DAY}}, {"add": 4, "column": "made"}, 5.0),
        ({"numbers": {"made": -math.inf}}, {"add": 4, "column": "made"}, 1.0),
        ({"attributes": {"made": -(10**400)}}, {"add": 4, "column": "made"}, 1.0),
    ],
)
def test_freshness(fields: Any, rule: Any, after: float) -> None:
    (placed,) = _apply([{"kind": "freshness", "half_life_days": 2, **rule}], (_item("x", **fields), 1.0)).items
    assert placed.score == after
    assert len(placed.touches) == 1


@pytest.mark.parametrize("fields", [{}, {"numbers": {"made": math.nan}}, {"attributes": {"made": "2026"}}])
def test_an_item_without_a_time_is_not_touched(fields: Any) -> None:
    rule = {"kind": "freshness", "half_life_days": 2, "column": "made", "add": 1}
    (placed,) = _apply([rule], (_item("x", **fields), 1.0)).items
    assert (placed.score, placed.touches) == (1.0, [])


def test_scores_that_are_not_finite() -> None:
    rule = {"kind": "boost", "where": {"language": {"equals": "en"}}, "add": 1}
    scores = [math.nan, 1.0, -math.inf, math.inf, -5.0]
    outcome = _apply([rule], *((_item(str(i)), score) for i, score in enumerate(scores)))
    assert _ids(outcome) == ["3", "1", "4", "0", "2"]
    assert [len(placed.touches) for placed in outcome.items] == [0, 1, 1, 0, 0]


def test_caps_count_pinned_items_first() -> None:
    rules = [
        {"kind": "cap", "per": "categories", "at_most": 2},
        {"kind": "pin", "item": "d", "position": 3},
        {"kind": "pin", "item": "e", "position": 0},
    ]
    labels = {"a": ["👟"], "b": ["👟"], "c": ["x"], "d": ["👟", "👟"], "e": ["x"], "f": []}
    outcome = _apply(rules, *((_item(name, categories=labels[name]), -i) for i, name in enumerate(labels)))
    assert _ids(outcome) == ["e", "a", "c", "d", "f"]
    assert outcome.removals == [Removal(rule="rule 0", kind="cap", items=1)]
    assert outcome.items[3].touches == [Touch(rule="rule 1", kind="pin", position=3)]
    assert [placed.source for placed in outcome.items] == ["pinned", "model", "model", "pinned", "model"]


def test_pins_may_exceed_a_cap() -> None:
    rules = [{"kind": "cap", "per": "language", "at_most": 1}] + [
        {"kind": "pin", "item": item, "position": 0} for item in "ab"
    ]
    assert _ids(_apply(rules, (_item("a"), 0.0), (_item("b"), 0.0), (_item("c"), 1.0))) == ["a", "b"]


def test_pins_that_show_nothing() -> None:
    rules = [
        {"kind": "block", "where": {"item_id": {"equals": "blocked"}}},
        *({"kind": "pin", "item": item, "position": 0} for item in ("blocked", "late", "absent", "a", "a")),
        {"kind": "pin", "item": "b", "position": 3},
    ]
    items = [_item("blocked"), _item("late", valid_until=int(_NOW)), _item("a"), _item("b")]
    outcome = _apply(rules, *((item, 1.0) for item in items), count=3)
    assert _ids(outcome) == ["a", "b"]
    assert outcome.items[1].source == "model"
    assert [(pin.rule, pin.reason) for pin in outcome.missed_pins] == [
        ("rule 1", "blocked"),
        ("rule 2", "unavailable"),
        ("rule 3", "absent"),
        ("rule 5", "repeated"),
        ("rule 6", "beyond"),
    ]
    assert outcome.unavailable == 1
    assert outcome.removals == [Removal(rule="rule 0", kind="block", items=1)]


def test_only_pins_show_extras() -> None:
    rules = rules_from({"rules": [{"name": "p", "kind": "pin", "item": "x", "position": 1}]})
    extras = [Candidate(_item("y"), 9.0), Candidate(_item("x"), 9.0), Candidate(_item("a"), 9.0)]
    outcome = apply(rules, [Candidate(_item("a"), 1.0), Candidate(_item("b"), 0.5)], Context(now=0), 9, extras=extras)
    assert [(placed.item.item_id, placed.score) for placed in outcome.items] == [("a", 1.0), ("x", 9.0), ("b", 0.5)]
    assert pinned_items(rules, Context(now=0)) == ("x",)


def test_a_blocked_candidate_is_not_shown_by_an_extra_of_its_item() -> None:
    rules = rules_from(
        {
            "rules": [
                {"name": "p", "kind": "pin", "item": "x", "position": 0},
                {"name": "b", "kind": "block", "where": {"seller": {"equals": "acme"}}},
            ]
        }
    )
    blocked = Candidate(_item("x", attributes={"seller": "acme"}), 1.0)
    outcome = apply(rules, [blocked], Context(now=0), 3, extras=[Candidate(_item("x"), 1.0)])
    assert outcome.items == []
    assert outcome.missed_pins == [MissedPin(rule="p", item_id="x", reason="blocked")]


def test_nothing() -> None:
    assert _apply([]).items == []
    assert _apply([], (_item("a"), 1.0), count=0).items == []
    assert _apply([{"kind": "pin", "item": "a", "position": 0}], (_item("a"), 1.0), count=-1).items == []


def test_a_chooser_that_ignores_caps_is_refused() -> None:
    def choose(
        order: Sequence[int], scores: Sequence[float], fixed: Sequence[int], room: int, admit: Callable[[int], bool]
    ) -> Sequence[int]:
        return order

    with pytest.raises(ValueError, match="had not asked for"):
        apply(rules_from({"rules": []}), [Candidate(_item("a"), 1.0)], Context(now=0), 3, choose=choose)
