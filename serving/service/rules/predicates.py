"""Conditions on an item's columns.

A condition on a column that the item lacks is false, whatever its operator, and ``not`` of it is therefore true:
``not: {seller: {equals: acme}}`` holds for an item without a seller. Operators that do not fit a value, such as ``<``
on text, are false in the same way.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from serving.service.rules import columns
from serving.service.types import Item

COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class OneOf:
    """``equals`` and ``in``: the column has one of the values; of labels, at least one is among them.

    Attributes:
        column: The column.
        keys: The values; of a language the ranges, in lower case.
    """

    column: str
    keys: frozenset[columns.Key]

    def holds(self, item: Item) -> bool:
        """Whether it is true of an item."""
        if self.column == columns.LANGUAGE:
            return any(columns.key(tag) in self.keys for tag in columns.language_ranges(item.language) if tag)
        return any(key in self.keys for key in columns.keys(item, self.column))


@dataclass(frozen=True, slots=True)
class Contains:
    """``contains``: a text has the part; labels have the label, letter by letter.

    Attributes:
        column: The column.
        text: The part, as `columns.folded` makes it, or the label.
    """

    column: str
    text: str

    def holds(self, item: Item) -> bool:
        """Whether it is true of an item."""
        if self.column == columns.LABELS:
            return columns.key(self.text) in columns.keys(item, self.column)
        found = columns.values(item, self.column)
        return any(isinstance(value, str) and self.text in columns.folded(value) for value in found)


@dataclass(frozen=True, slots=True)
class Compares:
    """``<``, ``<=``, ``>`` and ``>=`` with a number.

    Attributes:
        column: The column.
        operator: Its sign.
        number: The number on the right.
    """

    column: str
    operator: str
    number: float

    def holds(self, item: Item) -> bool:
        """Whether it is true of an item."""
        value = columns.number(item, self.column)
        return value is not None and COMPARISONS[self.operator](value, self.number)


@dataclass(frozen=True, slots=True)
class AllOf:
    """``all``: each of its parts holds."""

    parts: "tuple[Predicate, ...]"

    def holds(self, item: Item) -> bool:
        """Whether it is true of an item."""
        return all(part.holds(item) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """``any``: at least one of its parts holds."""

    parts: "tuple[Predicate, ...]"

    def holds(self, item: Item) -> bool:
        """Whether it is true of an item."""
        return any(part.holds(item) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """``not``: its part does not hold."""

    part: "Predicate"

    def holds(self, item: Item) -> bool:
        """Whether it is true of an item."""
        return not self.part.holds(item)


Predicate = OneOf | Contains | Compares | AllOf | AnyOf | Not


def columns_read(predicate: Predicate) -> tuple[str, ...]:
    """Columns that a predicate names, in its order."""
    if isinstance(predicate, OneOf | Contains | Compares):
        return (predicate.column,)
    parts = (predicate.part,) if isinstance(predicate, Not) else predicate.parts
    return tuple(dict.fromkeys(column for part in parts for column in columns_read(part)))
