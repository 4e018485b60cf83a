"""Events and items in many scripts."""

from typing import Any

from serving.service.types import Event, Item

DAY = 86_400
NOON = 20_000 * DAY + DAY // 2
"""Of some day."""
IDS = ["大輔", "عائشة", "สมชาย", "민수", "🦜🏽", "Ørsted 'quoted'", "a" * 500, "%s:{}?\\", "e\u0301"]


def event(event_id: str, **fields: Any) -> Event:
    values: dict[str, Any] = {"event": "click", "timestamp": NOON, "user_id": "ana", "item_id": "1001"}
    return Event(event_id=event_id, **(values | fields))


def item(item_id: str, **fields: Any) -> Item:
    values: dict[str, Any] = {"language": "es", "title": "Tetera de barro", "categories": ["cocina", "té"]}
    return Item(item_id=item_id, **(values | fields))


def full_event(event_id: str, **fields: Any) -> Event:
    """One with all fields."""
    values: dict[str, Any] = {
        "session_id": "ช่วงเวลา",
        "value": 4.5,
        "recommendation_id": "r1",
        "position": 0,
        "propensity": 0.25,
        "language": "zh-Hant",
        "country": "TW",
        "placement": "home",
        "query": "茶壺 🫖",
        "context": {"device": "手機", "width": 390, "dark": True, "scroll": 0.5},
    }
    return event(event_id, **(values | fields))
