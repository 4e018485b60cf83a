"""The kinds of rules.

A factor makes a boost a boost for scores of either sign: a score below zero, as of a cosine, is divided by it. A score
that is not finite stays as it is, and none becomes infinite.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from serving.service.rules import columns
from serving.service.rules.predicates import Predicate, columns_read
from serving.service.types import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What rules know of a request.

    Attributes:
        now: Its time, unix seconds.
        placement: Where in the application.
        language: Of the page, BCP 47.
        country: Of the visit, ISO 3166-1 alpha-2.
    """

    now: float
    placement: str = ""
    language: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """When a rule applies. What is empty or None sets no limit; a request that does not say is outside a limit.

    Attributes:
        placements: Of the request.
        languages: Ranges in lower case, one of which the request's language falls into (``pt``: every Portuguese).
        countries: In capitals.
        start: From then on, unix seconds.
        end: Until just before then.
    """

    placements: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    start: float | None = None
    end: float | None = None

    def covers(self, context: Context) -> bool:
        """Whether it applies to a request."""
        return (
            (not self.placements or context.placement in self.placements)
            and (not self.languages or not self.languages.isdisjoint(columns.language_ranges(context.language)))
            and (not self.countries or context.country.strip().upper() in self.countries)
            and (self.start is None or self.start <= context.now)
            and (self.end is None or context.now < self.end)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    kind: ClassVar[str]
    name: str
    scope: Scope = field(default_factory=Scope)

    def columns(self) -> tuple[str, ...]:
        """Columns of items that it reads."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin(_Rule):
    """Shows an item in a place.

    Attributes:
        item_id: The item.
        position: The place in the list, from 0.
    """

    kind = "pin"
    item_id: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(_Rule):
    """Shows no item of which a predicate is true.

    Attributes:
        where: The predicate.
    """

    kind = "block"
    where: Predicate

    def columns(self) -> tuple[str, ...]:
        """Columns of items that it reads."""
        return columns_read(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boost(_Rule):
    """Raises the scores of items; just one of ``multiply`` and ``add`` is there.

    Attributes:
        where: Of which items.
        multiply: By which factor, more than 1.
        add: By how much, more than 0.
    """

    kind = "boost"
    where: Predicate
    multiply: float | None = None
    add: float | None = None

    def score(self, score: float, item: Item, now: float) -> float | None:
        """An item's new score; None if the rule does not touch it."""
        if not math.isfinite(score) or not self.where.holds(item):
            return None
        return _changed(score, self.multiply, self.add, 1.0)

    def columns(self) -> tuple[str, ...]:
        """Columns of items that it reads."""
        return columns_read(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bury(Boost):
    """Lowers the scores of items: ``multiply`` is between 0 and 1, ``add`` less than 0."""

    kind = "bury"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness(_Rule):
    """Raises the scores of new items, by half as much after each half-life.

    Attributes:
        half_life: Seconds.
        column: Of the time an item is from, unix seconds. An item without it is not touched; one from the future is
            as good as new.
        where: Of which items; None: of all.
        multiply: By which factor at age 0: later by ``1 + (multiply - 1) / 2 ** (age / half_life)``.
        add: By how much at age 0: later by ``add / 2 ** (age / half_life)``.
    """

    kind = "freshness"
    half_life: float
    column: str = "valid_from"
    where: Predicate | None = None
    multiply: float | None = None
    add: float | None = None

    def score(self, score: float, item: Item, now: float) -> float | None:
        """An item's new score; None if the rule does not touch it."""
        time = columns.number(item, self.column)
        if time is None or not math.isfinite(score) or (self.where is not None and not self.where.holds(item)):
            return None
        return _changed(score, self.multiply, self.add, 0.5 ** (max(0.0, now - _double(time)) / self.half_life))

    def columns(self) -> tuple[str, ...]:
        """Columns of items that it reads."""
        return (self.column, *(columns_read(self.where) if self.where is not None else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap(_Rule):
    """Shows at most so many items that have the same value in a column.

    An item with several labels counts for each, and finds no place if one of them is full. Items without the column
    are not counted.

    Attributes:
        per: The column.
        at_most: How many.
        where: Which items are counted; None: all.
    """

    kind = "cap"
    per: str
    at_most: int
    where: Predicate | None = None

    def columns(self) -> tuple[str, ...]:
        """Columns of items that it reads."""
        return (self.per, *(columns_read(self.where) if self.where is not None else ()))


ScoreRule = Boost | Bury | Freshness
Rule = Pin | Block | Boost | Bury | Freshness | Cap


@dataclass(frozen=True, slots=True)
class Rules:
    """A document of rules, in its order.

    Attributes:
        rules: The rules; their names differ.
    """

    rules: Sequence[Rule] = ()

    def active(self, context: Context) -> "Rules":
        """Those that apply to a request."""
        return Rules(tuple(rule for rule in self.rules if rule.scope.covers(context)))


def _changed(score: float, multiply: float | None, add: float | None, share: float) -> float:
    """A score after a share, from 0 to 1, of a change."""
    if add is not None:
        new = score + add * share
    else:
        factor = 1.0 + ((1.0 if multiply is None else multiply) - 1.0) * share
        new = score * factor if score >= 0 else score / factor
    return max(-sys.float_info.max, min(sys.float_info.max, new))


def _double(number: float) -> float:
    """A number as a double: attributes are integers of any size."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
