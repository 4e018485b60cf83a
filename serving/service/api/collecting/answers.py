"""What a client learns about each of its events."""

from typing import Literal

import msgspec

from serving.service.api.collecting.events import Incoming
from serving.service.api.context import Context


class Line(msgspec.Struct, omit_defaults=True):
    """What became of one event.

    Attributes:
        index: Its place in the request, from 0.
        event_id: As given.
        status: What became of it.
        reason: Why it is rejected; empty else.
    """

    index: int
    event_id: str
    status: Literal["accepted", "duplicate", "rejected"]
    reason: str = ""


class Answer(msgspec.Struct):
    """What became of the events of a request.

    Attributes:
        accepted, duplicate, rejected: How many.
        results: By line.
    """

    accepted: int
    duplicate: int
    rejected: int
    results: list[Line]


async def collect(context: Context, incoming: Incoming) -> Answer:
    """Writes events; answers when they are durable."""
    new = await context.writer.write(incoming.events) if incoming.events else []
    accepted = sum(new)
    status = dict(zip(incoming.places, new, strict=True))
    results = [
        Line(place, event_id, "accepted" if status[place] else "duplicate")
        if place in status
        else Line(place, event_id, "rejected", incoming.reasons[place])
        for place, event_id in enumerate(incoming.ids)
    ]
    answer = Answer(accepted, len(new) - accepted, len(incoming.reasons), results)
    for name in ("accepted", "duplicate", "rejected"):
        context.metrics.events.labels(name).inc(getattr(answer, name))
    return answer
