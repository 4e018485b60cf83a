"""What rules are applied to, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serving.service.types import Item


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that may be in an answer.

    Attributes:
        item: The item.
        score: The model's; one that is not a number counts as the lowest.
        source: What found it: ``model``, ``fresh``, ``popular``, ...
    """

    item: Item
    score: float
    source: str = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """What a rule did to an item of the answer.

    Attributes:
        rule: Its name.
        kind: ``boost``, ``bury``, ``freshness`` or ``pin``.
        before, after: The score; None for a pin.
        position: The place that a pin gave, from 0; None for others.
    """

    rule: str
    kind: str
    before: float | None = None
    after: float | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A place of the answer.

    Attributes:
        item: The item.
        score: After rules.
        source: The candidate's, or ``pinned``.
        touches: What rules did to it, in the order in which it was done.
    """

    item: Item
    score: float
    source: str
    touches: Sequence[Touch] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """How many candidates a rule kept out of the answer.

    Attributes:
        rule: Its name.
        kind: ``block`` or ``cap``.
        items: The number. An item is counted once, for the first rule that keeps it out. A cap counts items whose turn
            came while there was room in the list.
    """

    rule: str
    kind: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedPin:
    """A pin that shows nothing.

    Attributes:
        rule: Its name.
        item_id: The item.
        reason: ``absent``: among neither candidates nor extras; ``unavailable``; ``blocked``; ``repeated``: pinned by
            an earlier rule; ``beyond``: the list ends before its place.
    """

    rule: str
    item_id: str
    reason: Literal["absent", "unavailable", "blocked", "repeated", "beyond"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A list and how it came about.

    Attributes:
        items: The list, in the order of its places.
        removals: Rules that kept candidates out, in the document's order.
        missed_pins: Pins that show nothing, in the document's order.
        unavailable: Candidates that may not be shown now (`Item.is_shown`).
        repeated: Candidates whose item was there with a better score.
    """

    items: Sequence[Placed]
    removals: Sequence[Removal] = ()
    missed_pins: Sequence[MissedPin] = ()
    unavailable: int = 0
    repeated: int = 0
