"""Predicates from mappings.

    where:
      categories: {contains: shoes}      # a column: operators, all of which must hold
      price: {">=": 10, "<": 50}         # several columns: all must hold; `>` needs quotes in YAML
      any:                               # at least one of a list; `all` is the same for all, `not` takes one mapping
        - seller: {in: [acme, 株式会社]}
        - not: {title: {contains: casino}}

Columns named ``all``, ``any`` or ``not`` can't be named.
"""

from typing import Final

from serving.service.rules import columns
from serving.service.rules.fields import Value, suggestion
from serving.service.rules.predicates import COMPARISONS, AllOf, AnyOf, Compares, Contains, Not, OneOf, Predicate

MAX_DEPTH: Final = 8
"""Mappings inside of each other in a predicate."""
MAX_LIST: Final = 10_000
"""Values of ``in``."""
MAX_PARTS: Final = 100
"""Conditions of one mapping, or parts of ``all`` and ``any``."""

_OPERATORS: Final = ("equals", "in", "contains", *COMPARISONS)
# Operators that can be true of an item's own fields; other columns may hold text or numbers.
_FITTING: Final = {
    columns.LABELS: ("contains", "in"),
    columns.LANGUAGE: ("equals", "in"),
    **dict.fromkeys(columns.TEXTS, ("equals", "in", "contains")),
    **dict.fromkeys(columns.TIMES, ("equals", "in", *COMPARISONS)),
}
_FORM: Final = "a mapping such as {categories: {contains: shoes}} is wanted"


def predicate(value: Value, depth: int = 1) -> Predicate:
    """The predicate that a mapping describes.

    Args:
        value: The mapping.
        depth: Mappings of predicates around it, with itself.

    Raises:
        RulesError: it is none.
    """
    if depth > MAX_DEPTH:
        raise value.error(f"a predicate nested more than {MAX_DEPTH} deep. Make it flatter, or write two rules.")
    parts = [_part(name, inner, depth) for name, inner in _entries(value).items()]
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _entries(value: Value) -> dict[str, Value]:
    entries = value.mapping(_FORM)
    if not entries:
        raise value.unexpected(_FORM)
    if len(entries) > MAX_PARTS:
        raise value.error(f"{len(entries):,} conditions where at most {MAX_PARTS} are allowed. Write several rules.")
    return entries


def _part(name: str, value: Value, depth: int) -> Predicate:
    if name == "not":
        return Not(predicate(value, depth + 1))
    if name in ("all", "any"):
        wanted = f"a list of predicates is wanted, such as {name}: [{{seller: {{equals: acme}}}}]"
        parts = tuple(predicate(inner, depth + 1) for inner in value.sequence(wanted, MAX_PARTS))
        return AllOf(parts) if name == "all" else AnyOf(parts)
    if not name.strip():
        raise value.error("an empty name. Name a column of the items.")
    wanted = f"an operator and a value are wanted, such as {{{_fitting(name)[0]}: ...}}"
    conditions = value.mapping(wanted)
    if not conditions:
        raise value.unexpected(wanted)
    built = [_condition(name, operator, inner) for operator, inner in conditions.items()]
    return built[0] if len(built) == 1 else AllOf(tuple(built))


def _fitting(column: str) -> tuple[str, ...]:
    return _FITTING.get(column, _OPERATORS)


def _condition(column: str, operator: str, value: Value) -> Predicate:
    fitting = _fitting(column)
    if operator not in _OPERATORS:
        hint = (
            f" Write {operator} around the column: {operator}: {{{column[:60]}: ...}}."
            if operator in ("not", "all", "any")
            else suggestion(operator, fitting)
        )
        raise value.error(f"there is no operator {operator!r:.60}.{hint}")
    if operator not in fitting:
        raise value.error(f"{operator!r} can't be true of {column}. Use {' or '.join(map(repr, fitting))}.")
    if operator in COMPARISONS:
        return Compares(column, operator, value.number("a number is wanted"))
    if operator == "contains":
        text = value.text("text is wanted")
        return Contains(column, text if column == columns.LABELS else columns.folded(text))
    listed = [value] if operator == "equals" else value.sequence("a list of values is wanted", MAX_LIST)
    return OneOf(column, frozenset(_key(column, inner) for inner in listed))


def _key(column: str, value: Value) -> columns.Key:
    if column == columns.LANGUAGE:
        return columns.key(columns.language_tag(value.text("a language such as pt-BR is wanted")))
    if column in (columns.LABELS, *columns.TEXTS):
        return columns.key(value.text("text is wanted"))
    if column in columns.TIMES:
        return columns.key(value.number("a time in unix seconds is wanted"))
    return columns.key(value.scalar("text, a number, true or false is wanted"))
