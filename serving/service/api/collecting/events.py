"""Events as they come in: decoded, checked, and for whom."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final

import msgspec

from serving.service.api.access.principals import Principal
from serving.service.api.collecting import lines
from serving.service.api.identifiers import ID_BYTES, mistake_of
from serving.service.errors import ForbiddenError
from serving.service.store import InvalidError
from serving.service.store.limits import check_event
from serving.service.types import Event

_IDS: Final = (
    "event_id", "event", "user_id", "session_id", "item_id", "recommendation_id", "language", "country", "placement",
)  # fmt: skip
_FIELDS: Final = frozenset(Event.__dataclass_fields__)
_all: Final = msgspec.json.Decoder(list[Event])
_any: Final = msgspec.json.Decoder(dict[str, Any])
# A clock that is this much ahead is wrong, and its events would be the newest for ever.
_AHEAD_SECONDS: Final = 86_400


@dataclass(slots=True)
class Incoming:
    """The events of a request.

    Attributes:
        ids: As given, by line; empty where there is none.
        events: Those to be written.
        places: Their lines.
        reasons: Line -> why it is rejected.
    """

    ids: list[str]
    events: list[Event] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)


def read_events(array: bytes, principal: Principal) -> Incoming:
    """The events of a JSON array.

    Raises:
        ProblemError: it is not one, or has too many lines.
        ForbiddenError: a token is used for somebody else's event; then none is taken.
    """
    now = int(time.time())
    try:
        events: Sequence[Event | str] = _all.decode(array)
        lines.check_number(len(events))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # One line is malformed: find out which.
        events = [_event(line, now) for line in lines.split(array)]
    return admit(events, principal, now)


def admit(events: Sequence[Event | str], principal: Principal, now: int) -> Incoming:
    """Checks events; a text in an event's place is why that line is rejected.

    Raises:
        ForbiddenError: a token is used for somebody else's event.
    """
    found = Incoming(ids=["" if isinstance(event, str) else event.event_id for event in events])
    for place, event in enumerate(events):
        if isinstance(event, str):
            found.reasons[place] = event
            continue
        if principal.is_token:
            try:
                event = _own(event, principal)
            except ForbiddenError as error:
                raise ForbiddenError(f"Event {place}: {error}") from None
        if reason := _mistake(event, now):
            found.reasons[place] = reason
        else:
            found.events.append(event)
            found.places.append(place)
    return found


def own_event_id(event_id: str, principal: Principal) -> str:
    """The id under which an event of a browser is stored.

    Nobody can take the id of another person's event, or find out whether there is one.
    """
    person = f"{principal.user_id}\n{principal.session_id}"
    owner = blake2b(person.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{owner}-{blake2b(event_id.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def _own(event: Event, principal: Principal) -> Event:
    user_id, session_id = principal.acting_for(event.user_id, event.session_id)
    # An empty id, or one that is malformed, stays as it is and is rejected.
    event_id = event.event_id
    if event_id and not mistake_of(event_id):
        event_id = own_event_id(event_id, principal)
    # What a browser says about propensities is not to be believed; the service has logged them.
    return replace(event, event_id=event_id, user_id=user_id, session_id=session_id, propensity=None)


def _event(line: msgspec.Raw, now: int) -> Event | str:
    try:
        values = _any.decode(line)
        values.setdefault("timestamp", now)
        return msgspec.convert(values, Event)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"{error}. Remedy: see /docs for the form of an event."


def _mistake(event: Event, now: int) -> str:
    """Why an event is rejected; empty: it is not."""
    ids = (
        event.event_id, event.event, event.user_id, event.session_id, event.item_id, event.recommendation_id,
        event.language, event.country, event.placement,
    )  # fmt: skip
    together = "".join(ids)
    # Nearly all are short and ASCII: one test for them.
    if not (together.isascii() and together.isprintable() and len(together) <= ID_BYTES):
        for name, value in zip(_IDS, ids, strict=True):
            if reason := mistake_of(value):
                return f"`{name}` {reason}."
    if event.timestamp > now + _AHEAD_SECONDS:
        return "`timestamp` is in the future. Remedy: give unix seconds, not milliseconds."
    try:
        check_event(event)
    except InvalidError as error:
        return str(error)
    return ""
