"""Applies rules to candidates.

The order is fixed, whatever the order of the document:

1. Items that may not be shown now, and those that a ``block`` holds of, are left out.
2. Score changes (``boost``, ``bury``, ``freshness``) follow each other in the document's order. Then candidates are
   sorted by score; equal scores keep their order. Of an item that is there twice the better score stays.
3. Pins get their places. A pin never shows what step 1 left out. If its place is taken by an earlier rule it gets the
   next free one. In a list with too few items it moves up: there are no gaps.
4. The other places are filled by the chooser: in the order of scores, or with diversity (`serving.service.diversity`),
   which sees what is pinned. It asks for each item whether the caps admit it, so both hold in the end.

Caps respect pins: pinned items are counted first and never removed, so the rest of the list has what room they leave.
Two pins may exceed a cap; nothing else can.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from serving.service.rules.candidates import Candidate, Outcome, Placed, Removal, Touch
from serving.service.rules.kinds import Cap, Context, Pin, Rules
from serving.service.rules.limits import Limits
from serving.service.rules.pinning import merged, place_pins
from serving.service.rules.scoring import Scored, screen


class Chooser(Protocol):
    """Fills the places that pins leave."""

    def __call__(
        self,
        order: Sequence[int],
        scores: Sequence[float],
        fixed: Sequence[int],
        room: int,
        admit: Callable[[int], bool],
    ) -> Sequence[int]:
        """Chooses candidates, the first for the first free place.

        Args:
            order: Candidates by falling score: their numbers in the list given to `apply`; extras come after it.
            scores: Their scores after rules, in the same order.
            fixed: Pinned candidates.
            room: How many to choose at most.
            admit: Whether caps admit a candidate; it then counts as chosen.
        """


def by_score(
    order: Sequence[int], scores: Sequence[float], fixed: Sequence[int], room: int, admit: Callable[[int], bool]
) -> Sequence[int]:
    """The chooser without diversity: the best that caps admit."""
    chosen: list[int] = []
    for number in order:
        if len(chosen) == room:
            break
        if admit(number):
            chosen.append(number)
    return chosen


def pinned_items(rules: Rules, context: Context) -> tuple[str, ...]:
    """Ids of the items that pins want to show: those missing among the candidates are given to `apply` as extras."""
    pins = (rule for rule in rules.active(context).rules if isinstance(rule, Pin))
    return tuple(dict.fromkeys(pin.item_id for pin in pins))


def apply(
    rules: Rules,
    candidates: Sequence[Candidate],
    context: Context,
    count: int,
    *,
    extras: Sequence[Candidate] = (),
    choose: Chooser = by_score,
) -> Outcome:
    """The list of at most ``count`` items that the rules make of candidates.

    Args:
        rules: All rules; those that don't apply to the request do nothing.
        candidates: In any order, for instance by score.
        context: The request.
        count: Places of the list.
        extras: Candidates that only pins may show. One whose item is among the candidates does nothing.
        choose: Fills the places that pins leave.

    Raises:
        ValueError: the chooser returned what it had not asked for, or too much.
    """
    active = rules.active(context)
    numbered = list(enumerate([*candidates, *extras]))
    known = {candidate.item.item_id for candidate in candidates}
    screened = screen(active, numbered[: len(candidates)], context)
    # Apart, so that only candidates are counted.
    spare = screen(active, [each for each in numbered[len(candidates) :] if each[1].item.item_id not in known], context)
    entries = {**screened.kept, **spare.kept}
    places = place_pins(
        [rule for rule in active.rules if isinstance(rule, Pin)],
        {entry.item.item_id: number for number, entry in entries.items()},
        {**screened.reasons, **spare.reasons},
        count,
    )
    pin_of = {number: pin for pin, number in places.taken.values()}
    limits = Limits([rule for rule in active.rules if isinstance(rule, Cap)])
    for number in pin_of:
        limits.take(entries[number].item)
    chosen = _chosen(choose, screened.kept, list(pin_of), count - len(pin_of), limits)
    order = merged({place: number for place, (_, number) in places.taken.items()}, chosen)
    return Outcome(
        items=[_placed(entries[number], pin_of.get(number), position) for position, number in enumerate(order)],
        removals=[
            Removal(rule=rule.name, kind=rule.kind, items=items)
            for rule in active.rules
            if (items := screened.blocked.get(rule.name, 0) + limits.refused[rule.name])
        ],
        missed_pins=places.missed,
        unavailable=screened.unavailable,
        repeated=screened.repeated,
    )


def _chosen(
    choose: Chooser, kept: Mapping[int, Scored], fixed: Sequence[int], room: int, limits: Limits
) -> Sequence[int]:
    """What the chooser chooses, checked."""
    admitted: set[int] = set()

    def admit(number: int) -> bool:
        if number in admitted or not limits.admit(kept[number].item):
            return False
        admitted.add(number)
        return True

    pinned = frozenset(fixed)
    order = [number for number in kept if number not in pinned]
    if room <= 0 or not order:
        return ()
    chosen = choose(order, [kept[number].score for number in order], fixed, room, admit)
    if len(chosen) > room or len(set(chosen)) < len(chosen) or not admitted.issuperset(chosen):
        raise ValueError("the chooser returned candidates that it had not asked for. Return what `admit` admitted.")
    return chosen


def _placed(entry: Scored, pin: Pin | None, position: int) -> Placed:
    if pin is None:
        return Placed(entry.item, entry.score, entry.source, entry.touches)
    touch = Touch(rule=pin.name, kind=pin.kind, position=position)
    return Placed(entry.item, entry.score, "pinned", [*entry.touches, touch])
