"""The first steps: what may not be shown is left out, scores are changed, and candidates are sorted."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.service.rules.candidates import Candidate, Touch
from serving.service.rules.kinds import Block, Boost, Context, Freshness, Rules
from serving.service.types import Item

Reason = Literal["unavailable", "blocked"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate after score changes.

    Attributes:
        item: The item.
        source: What found it.
        score: After rules.
        touches: What rules did to the score.
    """

    item: Item
    source: str
    score: float
    touches: Sequence[Touch]


@dataclass(frozen=True, slots=True)
class Screened:
    """Candidates that may be shown.

    Attributes:
        kept: Those by their numbers, the best first; each item once.
        reasons: Item -> why its first candidate that may not be shown may not.
        blocked: Name of a rule -> candidates that it blocked.
        unavailable: Candidates that may not be shown now.
        repeated: Candidates whose item was there with a better score.
    """

    kept: Mapping[int, Scored]
    reasons: Mapping[str, Reason]
    blocked: Mapping[str, int]
    unavailable: int
    repeated: int


def screen(rules: Rules, candidates: Collection[tuple[int, Candidate]], context: Context) -> Screened:
    """Leaves out, scores and sorts.

    Args:
        rules: Those that apply.
        candidates: Each with its number, in any order; equal scores keep it.
        context: The request.
    """
    blocks = [rule for rule in rules.rules if isinstance(rule, Block)]
    changes = [rule for rule in rules.rules if isinstance(rule, Boost | Freshness)]
    reasons: dict[str, Reason] = {}
    blocked = Counter[str]()
    scored: list[tuple[int, Scored]] = []
    for number, candidate in candidates:
        item = candidate.item
        if not item.is_shown(context.now):
            reasons.setdefault(item.item_id, "unavailable")
        elif (block := next((block for block in blocks if block.where.holds(item)), None)) is not None:
            reasons.setdefault(item.item_id, "blocked")
            blocked[block.name] += 1
        else:
            scored.append((number, _scored(candidate, changes, context.now)))
    scored.sort(key=lambda entry: -_rank(entry[1].score))
    kept: dict[int, Scored] = {}
    seen: set[str] = set()
    for number, entry in scored:
        if entry.item.item_id not in seen:
            seen.add(entry.item.item_id)
            kept[number] = entry
    return Screened(
        kept=kept,
        reasons=reasons,
        blocked=blocked,
        unavailable=len(candidates) - len(scored) - blocked.total(),
        repeated=len(scored) - len(kept),
    )


def _scored(candidate: Candidate, changes: Sequence[Boost | Freshness], now: float) -> Scored:
    score, touches = candidate.score, []
    for rule in changes:
        after = rule.score(score, candidate.item, now)
        if after is not None:
            touches.append(Touch(rule=rule.name, kind=rule.kind, before=score, after=after))
            score = after
    return Scored(candidate.item, candidate.source, score, touches)


def _rank(score: float) -> float:
    """What scores are sorted by: one that is not a number is the lowest."""
    return -math.inf if math.isnan(score) else score
