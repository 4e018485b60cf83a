"""User Behavior Insights 1.3 (https://github.com/o19s/ubi): queries and events of search pages, as our events.

``query_id`` is what we call ``recommendation_id``, ``object_id`` is ``item_id``, and ``ordinal`` counts from 1. Their
events have no ids: ours come from the content, so that a repeated request changes nothing.
"""

import hashlib
import time
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from serving.service.api.access.principals import Principal
from serving.service.api.collecting import lines
from serving.service.api.collecting.events import Incoming, admit
from serving.service.store.limits import EVENT_NAMES
from serving.service.types import Event, Scalar

Kind = Literal["query", "event"]
# Other names are the same with us, or are kept as they are.
_ACTIONS: Final = {"click_through": "click", "watch": "play", "on_search": "search"}
_SEARCH: Final = "search"


class UbiObject(msgspec.Struct):
    """What was acted on."""

    object_id: str | int | None = None
    object_id_type: str | None = None
    object_id_field: str | None = None
    internal_id: str | int | None = None


class UbiPosition(msgspec.Struct):
    """Where on the page."""

    ordinal: int | None = None


class UbiEvent(msgspec.Struct):
    """A line of /v1/ubi/events, with the schema's names."""

    action_name: str
    timestamp: datetime | int
    application: str | None = None
    query_id: str | None = None
    session_id: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    message_type: str | None = None
    message: str | None = None
    event_attributes: dict[str, Any] | None = None


class UbiQuery(msgspec.Struct):
    """A line of /v1/ubi/queries, with the schema's names, and with ``session_id`` and ``user_id`` as in events."""

    user_query: str
    application: str | None = None
    query_id: str | None = None
    session_id: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    timestamp: datetime | int | None = None
    object_id_field: str | None = None
    query_attributes: dict[str, Any] | None = None
    query_response_id: str | None = None
    query_response_hit_ids: list[str] | None = None


_event: Final = msgspec.json.Decoder(UbiEvent, strict=True)
_query: Final = msgspec.json.Decoder(UbiQuery, strict=True)


def read_ubi(array: bytes, kind: Kind, principal: Principal) -> Incoming:
    """The events of a JSON array of lines of one kind.

    Raises:
        ProblemError: it is no array, or has too many lines.
        ForbiddenError: a token is used for somebody else's line; then none is taken.
    """
    now = int(time.time())
    events: list[Event | str] = []
    for line in lines.split(array):
        try:
            if kind == "event":
                events.append(_from_event(_event.decode(line), bytes(line), principal))
            else:
                events.append(_from_query(_query.decode(line), bytes(line), now, principal))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
            events.append(f"{error}. Remedy: see the schema of User Behavior Insights 1.3.")
    return admit(events, principal, now)


def _from_event(line: UbiEvent, content: bytes, principal: Principal) -> Event:
    attributes = dict(line.event_attributes or {})
    thing = msgspec.convert(_mapping(attributes.pop("object", None)), UbiObject)
    position = msgspec.convert(_mapping(attributes.pop("position", None)), UbiPosition)
    context: dict[str, Scalar] = {name: value for name, value in attributes.items() if _is_scalar(value)}
    context |= _given(application=line.application, object_id_type=thing.object_id_type)
    event = _ACTIONS.get(line.action_name, line.action_name)
    query = ""
    if line.message is not None and (event == _SEARCH or (line.message_type or "").upper() == "QUERY"):
        query = line.message
    else:
        context |= _given(message=line.message)
    context |= _given(message_type=line.message_type)
    session_id, client = _session(line.session_id, line.client_id, principal)
    item_id = thing.object_id if thing.object_id is not None else thing.internal_id
    return Event(
        event_id=_id(content),
        event=event,
        timestamp=_seconds(line.timestamp),
        user_id=line.user_id or "",
        session_id=session_id,
        item_id="" if item_id is None else str(item_id),
        recommendation_id=line.query_id or "",
        position=None if position.ordinal is None else max(0, position.ordinal - 1),
        query=query,
        context=_without_fields(context | client),
    )


def _from_query(line: UbiQuery, content: bytes, now: int, principal: Principal) -> Event:
    context: dict[str, Scalar] = {
        name: value for name, value in (line.query_attributes or {}).items() if _is_scalar(value)
    }
    context |= _given(application=line.application, query_response_id=line.query_response_id)
    if line.query_response_hit_ids is not None:
        context["hits"] = len(line.query_response_hit_ids)
    session_id, client = _session(line.session_id, line.client_id, principal)
    return Event(
        # Without a time, the same words may be searched for again: only a query's own id tells.
        event_id=_id(content) if line.query_id or line.timestamp else _id(content + time.time_ns().to_bytes(8)),
        event=_SEARCH,
        timestamp=now if line.timestamp is None else _seconds(line.timestamp),
        user_id=line.user_id or "",
        session_id=session_id,
        recommendation_id=line.query_id or "",
        query=line.user_query,
        context=_without_fields(context | client),
    )


def _session(session_id: str | None, client_id: str | None, principal: Principal) -> tuple[str, dict[str, Scalar]]:
    """The visit, and what remains of the client: without a session, the client is used instead."""
    if session_id or principal.is_token:
        return session_id or "", _given(client_id=client_id)
    return client_id or "", {}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _given(**values: str | None) -> dict[str, Scalar]:
    return {name: value for name, value in values.items() if value}


def _without_fields(context: dict[str, Scalar]) -> dict[str, Scalar]:
    """Columns whose names our events have already, under another name."""
    return {f"ubi_{name}" if name in EVENT_NAMES else name: each for name, each in context.items()}


def _seconds(time_: datetime | int) -> int:
    if isinstance(time_, int):
        return time_ // 1000  # OpenSearch's index takes milliseconds too
    # The schema allows times without a zone.
    return int((time_ if time_.tzinfo else time_.replace(tzinfo=UTC)).timestamp())


def _id(content: bytes) -> str:
    return f"ubi-{hashlib.sha256(content).hexdigest()[:32]}"
