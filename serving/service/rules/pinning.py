"""The places of pinned items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from serving.service.rules.candidates import MissedPin
from serving.service.rules.kinds import Pin
from serving.service.rules.scoring import Reason

_Entry = TypeVar("_Entry")


@dataclass(frozen=True, slots=True)
class Places:
    """Where pins put items.

    Attributes:
        taken: Place -> the pin and the number of its candidate, by rising place.
        missed: Pins without a place.
    """

    taken: Mapping[int, tuple[Pin, int]]
    missed: Sequence[MissedPin]


def place_pins(pins: Sequence[Pin], numbers: Mapping[str, int], reasons: Mapping[str, Reason], count: int) -> Places:
    """Gives each pin its place, or the next free one.

    Args:
        pins: In the document's order: earlier ones have precedence.
        numbers: Item -> its candidate, of those that may be shown.
        reasons: Item -> why it may not be shown.
        count: Places of the list.
    """
    taken: dict[int, tuple[Pin, int]] = {}
    missed: list[MissedPin] = []
    pinned: set[str] = set()
    for pin in pins:
        place = next((place for place in range(pin.position, count) if place not in taken), None)
        if pin.item_id not in numbers:
            missed.append(MissedPin(rule=pin.name, item_id=pin.item_id, reason=reasons.get(pin.item_id, "absent")))
        elif pin.item_id in pinned:
            missed.append(MissedPin(rule=pin.name, item_id=pin.item_id, reason="repeated"))
        elif place is None:
            missed.append(MissedPin(rule=pin.name, item_id=pin.item_id, reason="beyond"))
        else:
            taken[place] = (pin, numbers[pin.item_id])
            pinned.add(pin.item_id)
    return Places(dict(sorted(taken.items())), missed)


def merged(pinned: Mapping[int, _Entry], others: Sequence[_Entry]) -> list[_Entry]:
    """Others around what is pinned, without gaps.

    Args:
        pinned: Place -> entry, by rising place.
        others: The entries for the other places.
    """
    merged = list(others)
    for place, entry in pinned.items():
        # A place beyond the end inserts at the end.
        merged.insert(place, entry)
    return merged
