"""Answers and events in many scripts."""

from typing import Any

from serving.service.types import Event, ShownItem, ShownRecommendation

DAY = 86_400
START = 20_000 * DAY
"""A midnight."""


def answer(recommendation_id: str, time: float, items: list[str], **fields: Any) -> ShownRecommendation:
    """Of ``time`` seconds after `START`, to ``user_id`` "大輔" if nobody is given."""
    values: dict[str, Any] = {"user_id": "大輔", "language": "ja", "country": "JP", "model_version": 3}
    return ShownRecommendation(
        recommendation_id=recommendation_id,
        timestamp=START + time,
        items=[ShownItem(item_id=item, score=float(len(items) - place)) for place, item in enumerate(items)],
        **(values | fields),
    )


def event(event_id: str, kind: str, time: int, item_id: str, answer_id: str, **fields: Any) -> Event:
    """Of ``time`` seconds after `START`."""
    values: dict[str, Any] = {"user_id": "大輔", "language": "ja", "country": "JP"}
    return Event(
        event_id=event_id,
        event=kind,
        timestamp=START + time,
        item_id=item_id,
        recommendation_id=answer_id,
        **(values | fields),
    )
