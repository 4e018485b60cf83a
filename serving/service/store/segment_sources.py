"""What moves to files: events and the answers that were shown, as rows of `segment_files.COLUMNS`."""

from array import array
from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from serving.service.store import limits, schema, segment_files
from serving.service.store.popularity import DAY_SECONDS
from serving.service.types import EVENTS, ShownRecommendation

_events, _sessions, _shown = schema.events.c, schema.sessions.c, schema.recommendations.c
# As msgspec writes an answer without items; within a text the quotes have a backslash before them.
_NO_ITEMS: Final = '"items":[]'
_IMPRESSION: Final = "impression"


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of a table that move to one folder, a file for a day.

    Attributes:
        folder: Its name.
        key: Column by which rows are deleted.
        keys: Makes a list of keys.
        query: Day since 1970 -> the key, and what `rows` needs.
        rows: What has been queried, without the key -> rows of a file, with the context as JSON.
    """

    folder: str
    key: sa.Column[Any]
    keys: Callable[[], MutableSequence[Any]]
    query: Callable[[int], sa.Select[Any]]
    rows: Callable[[Sequence[Any]], list[Sequence[Any]]]


def times_of(key: sa.Column[Any]) -> sa.Column[Any]:
    """The column with the times of a key's table."""
    return key.table.c.timestamp


def _day(timestamp: sa.Column[Any], day: int) -> sa.ColumnElement[bool]:
    return (timestamp >= day * DAY_SECONDS) & (timestamp < (day + 1) * DAY_SECONDS)


def _user(user_id: sa.Column[str], anonymous: "sa.ColumnElement[str]") -> "sa.ColumnElement[str]":
    return sa.case((user_id != "", user_id), else_=sa.func.coalesce(_sessions.user_id, anonymous))


def select_events(condition: sa.ColumnElement[bool], *, with_item: bool) -> sa.Select[Any]:
    """Events as rows of `segment_files.COLUMNS`, between their number and the context as JSON, in order of time.

    Args:
        condition: Which.
        with_item: True: interactions in the dataset format (docs/data.md). False: the other events.
    """
    columns: dict[str, Any] = {
        "user_id": _user(_events.user_id, sa.literal(limits.ANONYMOUS) + _events.session_id),
        "position": _events.position + 1,
    }
    # Training refuses a dataset with other kinds of events.
    known = (_events.item_id != "") & _events.event.in_(EVENTS)
    required = {"item_id", "timestamp", "event", "event_id", "value", "propensity"}
    for name in segment_files.COLUMNS.names:
        if name not in columns:
            columns[name] = _events[name] if name in required else sa.func.nullif(_events[name], "")
    return (
        sa.select(_events.number, *(columns[name] for name in segment_files.COLUMNS.names), _events.context)
        .join_from(schema.events, schema.sessions, _sessions.session_id == _events.session_id, isouter=True)
        .where(condition, known if with_item else ~known)
        .order_by(_events.timestamp, _events.number)
    )


def _answers_of(day: int, with_items: bool) -> sa.Select[Any]:
    # Somebody without a user and a session is somebody else in each answer.
    visit = sa.case((_shown.session_id != "", _shown.session_id), else_=_shown.recommendation_id)
    user = _user(_shown.user_id, sa.literal(limits.ANONYMOUS) + visit)
    is_empty = _shown.body.contains(_NO_ITEMS, autoescape=True)
    return (
        sa.select(_shown.recommendation_id, user, _shown.body)
        .join_from(schema.recommendations, schema.sessions, _sessions.session_id == _shown.session_id, isouter=True)
        .where(_day(_shown.timestamp, day), ~is_empty if with_items else is_empty)
        .order_by(_shown.timestamp, _shown.recommendation_id)
    )


def _rows_of_answer(found: Sequence[Any]) -> list[Sequence[Any]]:
    """A row for each item; one without an item for an answer that has none."""
    user_id, body = found
    shown = msgspec.json.decode(body, type=ShownRecommendation)
    common = {
        "user_id": user_id,
        "item_id": "",
        "timestamp": int(shown.timestamp),
        "event": _IMPRESSION,
        "event_id": shown.recommendation_id,
    }
    for name in ("recommendation_id", "session_id", "language", "country", "placement", "query"):
        common[name] = getattr(shown, name) or None
    context: dict[str, Any] = {
        "shown_at": shown.timestamp,
        "model_version": shown.model_version,
        "degraded": shown.degraded,
    }
    context |= {"variant": shown.variant} if shown.variant else {}
    if not shown.items:
        return [_row(common, context)]
    return [
        _row(
            common
            | {
                "event_id": f"{shown.recommendation_id}:{position}",
                "item_id": item.item_id,
                "position": position,
                "propensity": item.propensity,
            },
            context | {"score": item.score, "source": item.source},
        )
        for position, item in enumerate(shown.items, 1)  # the format counts from 1
    ]


def _row(values: dict[str, Any], context: dict[str, Any]) -> Sequence[Any]:
    row = [values.get(name) for name in segment_files.COLUMNS.names]
    return [*row, msgspec.json.encode(context).decode()]


def _numbers() -> "array[int]":
    return array("q")


def _source_of_events(folder: str, with_item: bool) -> Source:
    def query(day: int) -> sa.Select[Any]:
        return select_events(_day(_events.timestamp, day), with_item=with_item)

    return Source(folder, _events.number, _numbers, query, lambda row: [row])


def _source_of_answers(folder: str, with_items: bool) -> Source:
    return Source(folder, _shown.recommendation_id, list, lambda day: _answers_of(day, with_items), _rows_of_answer)


EVENTS_WITH_ITEM: Final = _source_of_events("interactions", True)
OTHER_EVENTS: Final = _source_of_events("other_events", False)
# Not among the interactions: what was answered need not have been seen (what was is an event `impression` there), and
# there are many times as many.
ANSWERS: Final = _source_of_answers("recommendations", True)
EMPTY_ANSWERS: Final = _source_of_answers("other_recommendations", False)
ANSWER_FOLDERS: Final = frozenset({ANSWERS.folder, EMPTY_ANSWERS.folder})
