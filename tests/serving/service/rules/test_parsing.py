"""Documents of rules as typed objects, and their mistakes."""

import contextlib
import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.service.rules import (
    Block,
    Boost,
    Bury,
    Cap,
    Freshness,
    Pin,
    Rules,
    RulesError,
    Scope,
    parse_rules,
    parsing,
    rules_from,
)
from serving.service.rules.predicates import AllOf, AnyOf, Compares, Contains, Not, OneOf

_SELLER: Any = {"seller": {"equals": "acme"}}


def _rule(**fields: Any) -> Any:
    return {"rules": [{"name": "r", "kind": "block", "where": _SELLER, **fields}]}


def _error(content: object) -> str:
    with pytest.raises(RulesError) as found:
        rules_from(content, "body")
    return str(found.value)


def test_the_document_in_the_docstring() -> None:
    assert parsing.__doc__ is not None
    rules = parse_rules(textwrap.dedent(parsing.__doc__.partition("\n\n")[2]))
    acme = frozenset({("text", "acme")})
    assert rules == Rules(
        (
            Pin(
                name="launch of the red shoe",
                item_id="sku-1",
                position=0,
                scope=Scope(
                    placements=frozenset({"home"}),
                    languages=frozenset({"pt", "es"}),
                    countries=frozenset({"BR"}),
                    start=1795748400.0,
                    end=1796007600.0,
                ),
            ),
            Boost(name="own brand", where=OneOf("seller", acme), multiply=1.2),
            Bury(name="few left", where=Compares("stock", "<", 3), add=-0.1),
            Block(name="no weapons", where=OneOf("categories", frozenset({("text", "knives"), ("text", "guns")}))),
            Cap(name="variety of sellers", per="seller", at_most=2),
            Freshness(name="news", half_life=172_800, multiply=1.5),
        )
    )
    assert [rule.kind for rule in rules.rules] == ["pin", "boost", "bury", "block", "cap", "freshness"]


def test_predicates() -> None:
    where = {
        "categories": {"contains": "鞋"},
        "price": {">=": 10, "<": 50.5},
        "any": [{"seller": {"in": ["株式会社", 3, True]}}, {"not": {"title": {"contains": "casino"}}}],
        "language": {"equals": "pt_BR"},
    }
    (rule,) = rules_from(_rule(where=where)).rules
    assert isinstance(rule, Block)
    assert rule.where == AllOf(
        (
            Contains("categories", "鞋"),
            AllOf((Compares("price", ">=", 10), Compares("price", "<", 50.5))),
            AnyOf(
                (
                    OneOf("seller", frozenset({("text", "株式会社"), ("number", 3), ("boolean", True)})),
                    Not(Contains("title", "casino")),
                )
            ),
            OneOf("language", frozenset({("text", "pt-br")})),
        )
    )
    assert rule.columns() == ("categories", "price", "seller", "title", "language")


def test_no_rules() -> None:
    assert parse_rules("rules: []") == rules_from({"rules": []}) == Rules()


def test_a_mistake_names_its_line() -> None:
    text = "rules:\n- name: a\n  kind: block\n  where:\n    price:\n      '<': ten\n"
    with pytest.raises(RulesError) as found:
        parse_rules(text, "shop.yaml")
    assert str(found.value) == "shop.yaml, line 6: rules[0].where.price.<: a number is wanted, received 'ten'."


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": None}, "rules[0].name: the name of the rule is wanted, received nothing."),
        ({"name": "  "}, "the name of the rule is wanted"),
        ({"name": 3}, "(put it into quotes), received 3."),
        ({"name": "x" * 1001}, "text of 1,001 characters"),
        ({"name": "\ud83d"}, "half of a surrogate pair"),
        ({"kind": "blok"}, "rules[0].kind: there is no kind of rule 'blok'. Did you mean 'block'?"),
        ({"kind": "惹"}, "It may have: pin, boost, bury, block, cap, freshness."),
        ({"wher": 1}, "rules[0].wher: a rule of kind block has no 'wher'. Did you mean 'where'?"),
        ({"position": 1}, "a rule of kind block has no 'position'."),
        ({"where": {}}, "rules[0].where: a mapping such as {categories: {contains: shoes}} is wanted, received {}."),
        ({"where": "price < 3"}, "received 'price < 3'"),
        (
            {"where": {"price": 3}},
            "where.price: an operator and a value are wanted, such as {equals: ...}, received 3.",
        ),
        ({"where": {"price": {}}}, "an operator and a value are wanted"),
        ({"where": {"price": {"equal": 3}}}, "no operator 'equal'. Did you mean 'equals'?"),
        ({"where": {"price": {"not": {"equals": 3}}}}, "Write not around the column: not: {price: ...}."),
        ({"where": {"categories": {"equals": "x"}}}, "'equals' can't be true of categories. Use 'contains' or 'in'."),
        ({"where": {"language": {"contains": "x"}}}, "'contains' can't be true of language."),
        ({"where": {"title": {"<": 3}}}, "'<' can't be true of title."),
        ({"where": {"title": {"equals": 3}}}, "text is wanted (put it into quotes), received 3."),
        ({"where": {"price": {"<": True}}}, "a number is wanted, received true."),
        ({"where": {"price": {"<": float("nan")}}}, "a number is wanted, finite and below 1e300, received nan."),
        ({"where": {"price": {"equals": float("inf")}}}, "finite"),
        ({"where": {"price": {"equals": 10**400}}}, "received a number of more than 40 digits."),
        ({"where": {"price": {"equals": None}}}, "text, a number, true or false is wanted, received nothing."),
        ({"where": {"price": {"in": []}}}, "a list of values is wanted, received []."),
        ({"where": {"price": {"in": 3}}}, "a list of values is wanted, received 3."),
        ({"where": {"price": {"in": [[1]]}}}, "where.price.in[0]: text, a number"),
        ({"where": {"price": {"contains": ""}}}, "text is wanted"),
        ({"where": {"any": []}}, "a list of predicates is wanted, such as any: ["),
        ({"where": {"all": {"a": 1}}}, "a list of predicates is wanted"),
        ({"where": {"not": [1]}}, "where.not: a mapping"),
        ({"where": {"": {"equals": 1}}}, "an empty name. Name a column"),
        ({"placements": []}, "a list of texts is wanted; leave it out for all, received []."),
        ({"languages": "pt"}, "a list of texts is wanted"),
        ({"countries": [44]}, "countries[0]: text is wanted (put it into quotes), received 44."),
        ({"from": "2026-11-27"}, "a time with its zone is wanted"),
        ({"from": "2026-11-27T00:00:00"}, "a time with its zone is wanted"),
        ({"until": "soon"}, "a time with its zone is wanted"),
        ({"until": True}, "or unix seconds, received true."),
        ({"until": float("inf")}, "finite"),
        ({"from": 5, "until": 5}, "rules[0].until: it is not after `from`"),
    ],
)
def test_mistakes_in_a_block(fields: Any, message: str) -> None:
    found = _error(_rule(**fields))
    assert found.startswith("body: rules[0]")
    assert message in found


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "boost", "where": _SELLER}, "either `multiply` or `add` is wanted"),
        ({"kind": "boost", "where": _SELLER, "add": 1, "multiply": 2}, "either `multiply` or `add`"),
        (
            {"kind": "boost", "where": _SELLER, "multiply": 0.5},
            "a factor above 1 and up to 1,000,000 is wanted; `kind:",
        ),
        ({"kind": "boost", "where": _SELLER, "multiply": 1}, "received 1."),
        ({"kind": "boost", "where": _SELLER, "multiply": 1e7}, "up to 1,000,000"),
        ({"kind": "boost", "where": _SELLER, "add": 0}, "a number above 0 is wanted; `kind: bury` lowers scores"),
        ({"kind": "boost", "where": _SELLER, "add": float("inf")}, "finite"),
        ({"kind": "boost", "add": 1}, "`where` is missing. Add it to the rule."),
        ({"kind": "bury", "where": _SELLER, "multiply": 0}, "a factor below 1 and from 0.000001 is wanted"),
        ({"kind": "bury", "where": _SELLER, "multiply": -1}, "a factor below 1"),
        ({"kind": "bury", "where": _SELLER, "add": 1}, "a number below 0 is wanted"),
        ({"kind": "pin", "item": "a"}, "`position` is missing"),
        ({"kind": "pin", "position": 0}, "`item` is missing"),
        ({"kind": "pin", "item": "a", "position": -1}, "counted from 0, from 0 to 999, received -1."),
        ({"kind": "pin", "item": "a", "position": 1.0}, "a place in the list"),
        ({"kind": "pin", "item": "a", "position": True}, "received true."),
        ({"kind": "pin", "item": 7, "position": 0}, "(put it into quotes), received 7."),
        ({"kind": "cap", "per": "seller"}, "`at_most` is missing"),
        ({"kind": "cap", "per": "seller", "at_most": 0}, "(to show none, use `kind: block`) from 1 to 1,000"),
        ({"kind": "cap", "at_most": 1}, "`per` is missing"),
        ({"kind": "cap", "per": ["a"], "at_most": 1}, "the name of a column is wanted, received ['a']."),
        ({"kind": "freshness", "add": 1}, "`half_life_days` is missing"),
        ({"kind": "freshness", "half_life_days": 0, "add": 1}, "a number of days from one second to a century"),
        ({"kind": "freshness", "half_life_days": 1, "add": -1}, "a number above 0 is wanted, received -1."),
        ({"where": _SELLER}, "`kind` is missing"),
        ("block", "a rule is wanted"),
    ],
)
def test_mistakes_in_other_kinds(rule: Any, message: str) -> None:
    assert message in _error({"rules": [{"name": "r", **rule} if isinstance(rule, dict) else rule]})


@pytest.mark.parametrize("content", [None, [], "rules", 3, {"rules": {}}, {"rules": None}, {}, {"rule": []}, {3: 4}])
def test_mistakes_at_the_top(content: object) -> None:
    assert _error(content).startswith("body: ")


def test_names_differ() -> None:
    two = {"rules": [_rule()["rules"][0], _rule()["rules"][0]]}
    assert "rules[1]: the name 'r' is that of rules[0] too" in _error(two)


def test_sizes_are_bounded() -> None:
    one = _rule()["rules"][0]
    assert "201 values where at most 200 are allowed" in _error(
        {"rules": [{**one, "name": str(i)} for i in range(201)]}
    )
    assert "10,001 values" in _error(_rule(where={"a": {"in": list(range(10_001))}}))
    assert "101 conditions" in _error(_rule(where={str(i): {"equals": 1} for i in range(101)}))
    assert "101 values" in _error(_rule(where={"any": [_SELLER] * 101}))
    many = [{**one, "name": str(i), "where": {"any": [_SELLER] * 100}} for i in range(11)]
    assert "rules[10]: the rules up to here have more than 1,000 conditions" in _error({"rules": many})
    deep: Any = _SELLER
    for _ in range(7):
        deep = {"not": deep}
    assert rules_from(_rule(where=deep))
    assert "nested more than 8 deep" in _error(_rule(where={"not": deep}))
    endless: Any = {}
    endless["not"] = endless
    assert "nested more than 8 deep" in _error(_rule(where=endless))


_keys = st.sampled_from(["rules", "name", "kind", "where", "all", "any", "not", "equals", "in", "<", "from", "per"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200)
@given(_json, st.sampled_from(["pin", "boost", "bury", "block", "cap", "freshness"]))
def test_any_content_is_read_or_refused(content: Any, kind: str) -> None:
    fields = content if isinstance(content, dict) else {"where": content}
    for document in (content, {"rules": content}, {"rules": [{"name": "r", "kind": kind, **fields}]}):
        try:
            assert isinstance(rules_from(document), Rules)
        except RulesError as error:
            str(error).encode()


@settings(max_examples=200)
@given(st.text(st.sampled_from("rules:[]{}-?&*!|>'\"%@`,# \n\tab01.鞋ก\u200d"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RulesError):
        assert isinstance(parse_rules(text), Rules)
