"""Random documents and items, by the service and by a slow interpreter."""

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.service.rules import Candidate, Context, apply, parse_rules, pinned_items, rules_from
from serving.service.rules.candidates import Outcome
from serving.service.types import Item
from tests.serving.service.rules.naive import Plain, expected

_DAY = 86_400
_NOW = 1_795_000_000
_IDS = ("a", "b", "c", "d", "红鞋", "حذاء", "รองเท้า", "신발", "👟", "e", "f", "g", "h", "i")
_LABELS = ("shoes", "鞋", "أحذية", "รองเท้า", "신발", "신발", "👟", "👩‍👩‍👧", "café", "café")
_LANGUAGES = ("en", "en-US", "pt", "pt-BR", "zh-Hant", "zh", "ar", "th", "no", "und", "PT-br")
_SELLERS: tuple[Any, ...] = ("acme", "Acme", "株式会社", "ＡＣＭＥ", "ACME", "1", 1, 1.0, True, False, 0, "true")
_NUMBERS = (-1.0, 0.0, 1.0, 2.5, 1e300, math.inf, -math.inf, math.nan)
# Eighths, whose sums and halves are exact, so that both agree on what is equal.
_eighths = st.integers(-16, 16).map(lambda number: number / 8)
_scores = st.one_of(_eighths, _eighths, _eighths, st.sampled_from([math.inf, -math.inf, math.nan]))
_titles = st.lists(st.sampled_from([*_LABELS, "ＣＡＦÉ", "STRASSE", "straße", "ﷺ"]), max_size=3).map(" ".join)


def _some(values: Any, *sizes: int) -> Any:
    """Lists of these sizes: those of hypothesis are mostly short."""
    return st.sampled_from(sizes).flatmap(lambda size: st.lists(values, min_size=size, max_size=size))


@st.composite
def _items(draw: st.DrawFn) -> Item:
    often = st.sampled_from([True, True, True, True, True, False])
    numbers = {"price": draw(st.sampled_from(_NUMBERS)), "made": float(_NOW + draw(st.integers(-2, 1)) * _DAY)}
    return Item(
        item_id=draw(st.sampled_from(_IDS)),
        language=draw(st.sampled_from(_LANGUAGES)),
        title=draw(_titles),
        categories=draw(st.lists(st.sampled_from(_LABELS), max_size=3)),
        numbers=numbers if draw(often) else {},
        attributes={"seller": draw(st.sampled_from(_SELLERS))} if draw(often) else {},
        available=draw(often),
        valid_from=draw(st.sampled_from([None, _NOW - 2 * _DAY, _NOW - _DAY, _NOW, _NOW, _NOW + 1])),
        valid_until=draw(st.sampled_from([None, None, _NOW + _DAY, _NOW + 1, _NOW])),
    )


_texts = st.sampled_from(_LABELS)
_values = st.sampled_from(_SELLERS)
_comparisons = st.dictionaries(st.sampled_from(["<", "<=", ">", ">="]), _eighths, min_size=1, max_size=2)
_conditions = st.one_of(
    st.fixed_dictionaries({"categories": st.fixed_dictionaries({"contains": _texts})}),
    st.fixed_dictionaries({"categories": st.fixed_dictionaries({"in": st.lists(_texts, min_size=1, max_size=3)})}),
    st.fixed_dictionaries({"language": st.fixed_dictionaries({"equals": st.sampled_from(_LANGUAGES)})}),
    st.fixed_dictionaries(
        {"language": st.fixed_dictionaries({"in": st.lists(st.sampled_from(_LANGUAGES), min_size=1, max_size=2)})}
    ),
    st.fixed_dictionaries({"title": st.fixed_dictionaries({"contains": _texts | st.just("ss")})}),
    st.fixed_dictionaries({"price": _comparisons}),
    st.fixed_dictionaries({"seller": _comparisons}),
    st.fixed_dictionaries({"seller": st.fixed_dictionaries({"equals": _values})}),
    st.fixed_dictionaries({"seller": st.fixed_dictionaries({"in": st.lists(_values, min_size=1, max_size=3)})}),
    st.fixed_dictionaries({"seller": st.fixed_dictionaries({"contains": st.just("acm")})}),
    st.fixed_dictionaries({"missing": st.fixed_dictionaries({"equals": _values})}),
)
_where = st.recursive(
    _conditions | st.tuples(_conditions, _conditions).map(lambda two: {**two[0], **two[1]}),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
    ),
    max_leaves=4,
)
_raise = st.sampled_from([{"multiply": 2}, {"multiply": 1.5}, {"add": 0.25}, {"add": 1}])
_lower = st.sampled_from([{"multiply": 0.5}, {"add": -0.25}, {"add": -1}])
_scope = st.fixed_dictionaries(
    {},
    optional={
        "placements": st.just(["home", "购物车"]),
        "languages": st.lists(st.sampled_from(_LANGUAGES), min_size=1, max_size=2),
        "countries": st.sampled_from([["BR"], ["br", "PT"], ["KR"]]),
        "from": st.sampled_from([_NOW, _NOW, _NOW + 0.5, "2026-01-01T00:00:00+09:00"]),
        "until": st.sampled_from([_NOW, _NOW + 2, "2027-01-01T00:00:00Z"]),
    },
).filter(lambda scope: scope.get("until") != _NOW or "from" not in scope)


def _maybe(name: str, values: Any) -> Any:
    return st.sampled_from([False, True]).flatmap(lambda there: st.fixed_dictionaries({name: values} if there else {}))


def _merged(*parts: Any) -> Any:
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


_often_unlimited = st.sampled_from([False, False, False, True]).flatmap(
    lambda limited: _scope if limited else st.just({})
)


def _kind(kind: str, fields: Any) -> Any:
    return fields.map(lambda given: {"kind": kind, **given})


_scored = _merged(st.fixed_dictionaries({"where": _where}), _raise)
_buried = _merged(st.fixed_dictionaries({"where": _where}), _lower)
_fresh = _merged(
    st.fixed_dictionaries({"half_life_days": st.sampled_from([1, 0.5])}),
    _maybe("column", st.sampled_from(["made", "valid_from", "title"])),
    _maybe("where", _where),
    _raise,
)
_caps = _merged(
    st.fixed_dictionaries(
        {"per": st.sampled_from(["categories", "language", "seller", "price"]), "at_most": st.integers(1, 2)}
    ),
    _maybe("where", _where),
)
_rules = st.one_of(
    _kind("pin", st.fixed_dictionaries({"item": st.sampled_from(_IDS), "position": st.integers(0, 6)})),
    _kind("block", st.fixed_dictionaries({"where": _where})),
    _kind("boost", _scored),
    _kind("bury", _buried),
    _kind("freshness", _fresh),
    _kind("cap", _caps),
)


@st.composite
def _documents(draw: st.DrawFn) -> list[Plain]:
    rules = draw(_some(st.tuples(_rules, _often_unlimited), 7, 5, 3, 1))
    return [{"name": f"règle {place} 👟", **rule, **scope} for place, (rule, scope) in enumerate(rules)]


def _plain(outcome: Outcome) -> Plain:
    return {
        "items": [
            (
                placed.item.item_id,
                placed.score,
                [(touch.rule, touch.kind, touch.before, touch.after, touch.position) for touch in placed.touches],
            )
            for placed in outcome.items
        ],
        "removals": [(removal.rule, removal.items) for removal in outcome.removals],
        "missed": [(pin.rule, pin.item_id, pin.reason) for pin in outcome.missed_pins],
        "unavailable": outcome.unavailable,
        "repeated": outcome.repeated,
    }


@settings(max_examples=500)
@given(
    document=_documents(),
    candidates=_some(st.tuples(_items(), _scores), 12, 9, 5, 0),
    extras=st.lists(st.tuples(_items(), _eighths), max_size=3),
    count=st.sampled_from([6, 4, 9, 1, 0]),
    request=st.fixed_dictionaries(
        {
            "placement": st.sampled_from(["home", "", "购物车"]),
            "language": st.sampled_from(["", *_LANGUAGES]),
            "country": st.sampled_from(["", "BR", "kr"]),
            "now": st.just(_NOW),
        }
    ),
)
def test_rules_do_what_a_naive_interpreter_does(
    document: list[Plain],
    candidates: list[tuple[Item, float]],
    extras: list[tuple[Item, float]],
    count: int,
    request: Plain,
) -> None:
    rules = parse_rules(json.dumps({"rules": document}, ensure_ascii=False))
    assert rules == rules_from({"rules": document})
    context = Context(**request)
    outcome = apply(
        rules, [Candidate(*each) for each in candidates], context, count, extras=[Candidate(*each) for each in extras]
    )
    # As text: NaN is not equal to itself.
    assert repr(_plain(outcome)) == repr(expected(document, candidates, extras, request, count))
    assert {touch.rule for placed in outcome.items for touch in placed.touches} <= {rule["name"] for rule in document}
    assert {placed.item.item_id for placed in outcome.items if placed.source == "pinned"} <= {
        *pinned_items(rules, context)
    }
