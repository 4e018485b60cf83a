"""Which items rules would admit to a list that is finished."""

from collections.abc import Iterable, Sequence

from serving.service.rules.kinds import Block, Cap, Context, Rules
from serving.service.rules.limits import Limits
from serving.service.types import Item


def addable(rules: Rules, shown: Iterable[Item], others: Sequence[Item], context: Context) -> list[Item]:
    """The items of ``others`` of which any one could be added to a list, or take the place of one of its items.

    Args:
        rules: All rules; those that don't apply to the request do nothing.
        shown: The items of the list.
        others: Items that are not in it.
        context: The request.
    """
    active = rules.active(context)
    blocks = [rule for rule in active.rules if isinstance(rule, Block)]
    limits = Limits([rule for rule in active.rules if isinstance(rule, Cap)])
    for item in shown:
        limits.take(item)
    return [
        item
        for item in others
        if item.is_shown(context.now) and not any(block.where.holds(item) for block in blocks) and limits.has_room(item)
    ]
