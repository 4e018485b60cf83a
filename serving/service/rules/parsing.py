"""Documents of rules.

rules:
  - name: launch of the red shoe    # names are in explanations, and differ
    kind: pin
    item: sku-1
    position: 0                     # from 0, as in events
    placements: [home]              # all four limits and both times are optional
    languages: [pt, es]             # of the request; `pt` takes in pt-BR
    countries: [BR]
    from: 2026-11-27T00:00:00-03:00 # or unix seconds
    until: 2026-11-30T00:00:00-03:00
  - {name: own brand, kind: boost, where: {seller: {equals: acme}}, multiply: 1.2}
  - {name: few left, kind: bury, where: {stock: {"<": 3}}, add: -0.1}
  - {name: no weapons, kind: block, where: {categories: {in: [knives, guns]}}}
  - {name: variety of sellers, kind: cap, per: seller, at_most: 2}
  - {name: news, kind: freshness, half_life_days: 2, multiply: 1.5}
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from serving.service.rules import columns
from serving.service.rules.fields import Value, refuse_unknown, suggestion
from serving.service.rules.kinds import Block, Boost, Bury, Cap, Freshness, Pin, Rule, Rules, Scope
from serving.service.rules.predicate_parsing import predicate
from serving.service.rules.predicates import AllOf, AnyOf, Not, Predicate
from serving.service.rules.reading import Document, read_yaml

MAX_RULES: Final = 200
MAX_CONDITIONS: Final = 1_000
"""Conditions of all rules: each may be tried on every candidate of a request."""
MAX_POSITION: Final = 999
MAX_CAP: Final = 1_000
MAX_FACTOR: Final = 1e6
_MAX_LIMITS: Final = 1_000
_DAY: Final = 86_400.0
_COMMON: Final = ("name", "kind", "placements", "languages", "countries", "from", "until")
_TIME: Final = "a time with its zone is wanted, such as 2026-11-27T00:00:00+01:00 or 2026-11-27T00:00:00Z"


def parse_rules(text: str, origin: str = "rules") -> Rules:
    """The rules of a YAML document, or of a JSON text.

    Args:
        text: The document.
        origin: Its name in messages, such as its file.

    Raises:
        RulesError: for the first mistake, with its line and path.
    """
    return _rules(read_yaml(text, origin))


def rules_from(content: object, origin: str = "rules") -> Rules:
    """The rules of a document that is parsed already, such as a request's body in JSON.

    Raises:
        RulesError: for the first mistake, with its path.
    """
    return _rules(Document(content, origin))


def _rules(document: Document) -> Rules:
    form = "a mapping with the list `rules` is wanted"
    top = Value(document, (), document.content).mapping(form)
    refuse_unknown(top, ("rules",), "the document")
    if "rules" not in top:
        raise document.error((), f"{form}. Write `rules: []` for none.")
    if top["rules"].content == []:
        return Rules()
    rules: list[Rule] = []
    names: dict[str, int] = {}
    conditions = 0
    for place, value in enumerate(top["rules"].sequence("a list of rules is wanted", MAX_RULES)):
        rule = _rule(value)
        if (first := names.setdefault(rule.name, place)) != place:
            raise value.error(f"the name {rule.name!r:.60} is that of rules[{first}] too. Give each rule its own.")
        conditions += _size(getattr(rule, "where", None))
        if conditions > MAX_CONDITIONS:
            problem = f"the rules up to here have more than {MAX_CONDITIONS:,} conditions. Use `in` instead of `any`."
            raise value.error(problem)
        rules.append(rule)
    return Rules(tuple(rules))


def _size(predicate: Predicate | None) -> int:
    if predicate is None:
        return 0
    if isinstance(predicate, AllOf | AnyOf):
        return sum(map(_size, predicate.parts))
    return _size(predicate.part) if isinstance(predicate, Not) else 1


def _rule(value: Value) -> Rule:
    fields = value.mapping("a rule is wanted, such as {name: ..., kind: block, where: {...}}")
    name = _required(value, fields, "name").text("the name of the rule is wanted")
    kind = _required(value, fields, "kind").text(f"the kind of the rule is wanted: {', '.join(_KINDS)}")
    if kind not in _KINDS:
        raise fields["kind"].error(f"there is no kind of rule {kind!r:.60}.{suggestion(kind, _KINDS)}")
    known, build = _KINDS[kind]
    refuse_unknown(fields, (*known, *_COMMON), f"a rule of kind {kind}")
    return build(value, fields, name, _scope(fields))


def _required(rule: Value, fields: Mapping[str, Value], name: str) -> Value:
    if name not in fields:
        raise rule.error(f"`{name}` is missing. Add it to the rule.")
    return fields[name]


def _scope(fields: Mapping[str, Value]) -> Scope:
    start, end = _time(fields.get("from")), _time(fields.get("until"))
    if start is not None and end is not None and start >= end:
        raise fields["until"].error("it is not after `from`, so that the rule would never apply. Give a later time.")
    return Scope(
        placements=_texts(fields.get("placements"), str),
        languages=_texts(fields.get("languages"), columns.language_tag),
        countries=_texts(fields.get("countries"), lambda text: text.strip().upper()),
        start=start,
        end=end,
    )


def _texts(value: Value | None, form: Callable[[str], str]) -> frozenset[str]:
    if value is None:
        return frozenset()
    listed = value.sequence("a list of texts is wanted; leave it out for all", _MAX_LIMITS)
    return frozenset(form(inner.text("text is wanted")) for inner in listed)


def _time(value: Value | None) -> float | None:
    if value is None:
        return None
    if not isinstance(value.content, str):
        return float(value.number(f"{_TIME}, or unix seconds"))
    try:
        time = datetime.fromisoformat(value.text(_TIME))
    except ValueError:
        raise value.unexpected(_TIME) from None
    if time.tzinfo is None:
        raise value.unexpected(_TIME)
    return time.timestamp()


def _pin(rule: Value, fields: Mapping[str, Value], name: str, scope: Scope) -> Pin:
    return Pin(
        name=name,
        scope=scope,
        item_id=_required(rule, fields, "item").text("the id of an item is wanted"),
        position=_required(rule, fields, "position").integer("a place in the list, counted from 0,", 0, MAX_POSITION),
    )


def _block(rule: Value, fields: Mapping[str, Value], name: str, scope: Scope) -> Block:
    return Block(name=name, scope=scope, where=predicate(_required(rule, fields, "where")))


def _boost(rule: Value, fields: Mapping[str, Value], name: str, scope: Scope) -> Boost:
    multiply, add = _raise(rule, fields)
    return Boost(name=name, scope=scope, where=predicate(_required(rule, fields, "where")), multiply=multiply, add=add)


def _raise(rule: Value, fields: Mapping[str, Value]) -> tuple[float | None, float | None]:
    remedy = "; `kind: bury` lowers scores" if fields["kind"].content == "boost" else ""
    return _change(
        rule,
        fields,
        (lambda factor: 1 < factor <= MAX_FACTOR, f"a factor above 1 and up to {MAX_FACTOR:,.0f} is wanted{remedy}"),
        (lambda added: added > 0, f"a number above 0 is wanted{remedy}"),
    )


def _bury(rule: Value, fields: Mapping[str, Value], name: str, scope: Scope) -> Bury:
    multiply, add = _change(
        rule,
        fields,
        (
            lambda factor: 1 / MAX_FACTOR <= factor < 1,
            f"a factor below 1 and from {1 / MAX_FACTOR:f} is wanted; `kind: boost` raises scores, `block` removes",
        ),
        (lambda added: added < 0, "a number below 0 is wanted; `kind: boost` raises scores"),
    )
    return Bury(name=name, scope=scope, where=predicate(_required(rule, fields, "where")), multiply=multiply, add=add)


_Check = tuple[Callable[[float], bool], str]


def _change(
    rule: Value, fields: Mapping[str, Value], multiply: _Check, add: _Check
) -> tuple[float | None, float | None]:
    if ("multiply" in fields) == ("add" in fields):
        raise rule.error("either `multiply` or `add` is wanted. Give one of them.")
    if "multiply" in fields:
        return _checked(fields["multiply"], multiply), None
    return None, _checked(fields["add"], add)


def _checked(value: Value, check: _Check) -> float:
    is_right, wanted = check
    number = float(value.number(wanted))
    if not is_right(number):
        raise value.unexpected(wanted)
    return number


def _freshness(rule: Value, fields: Mapping[str, Value], name: str, scope: Scope) -> Freshness:
    multiply, add = _raise(rule, fields)
    least, most = 1 / _DAY, 36_500.0
    wanted = "a number of days from one second to a century is wanted"
    half_life = _checked(
        _required(rule, fields, "half_life_days"), (lambda days: least <= days <= most and math.isfinite(days), wanted)
    )
    return Freshness(
        name=name,
        scope=scope,
        half_life=half_life * _DAY,
        column=_column(fields.get("column"), "valid_from"),
        where=_where(fields),
        multiply=multiply,
        add=add,
    )


def _cap(rule: Value, fields: Mapping[str, Value], name: str, scope: Scope) -> Cap:
    return Cap(
        name=name,
        scope=scope,
        per=_column(_required(rule, fields, "per"), ""),
        at_most=_required(rule, fields, "at_most").integer(
            "a number of items (to show none, use `kind: block`)", 1, MAX_CAP
        ),
        where=_where(fields),
    )


def _column(value: Value | None, default: str) -> str:
    return default if value is None else value.text("the name of a column is wanted")


def _where(fields: Mapping[str, Value]) -> Predicate | None:
    return predicate(fields["where"]) if "where" in fields else None


_Builder = Callable[[Value, Mapping[str, Value], str, Scope], Rule]
_KINDS: Final[Mapping[str, tuple[tuple[str, ...], _Builder]]] = {
    "pin": (("item", "position"), _pin),
    "boost": (("where", "multiply", "add"), _boost),
    "bury": (("where", "multiply", "add"), _bury),
    "block": (("where",), _block),
    "cap": (("per", "at_most", "where"), _cap),
    "freshness": (("half_life_days", "column", "where", "multiply", "add"), _freshness),
}
