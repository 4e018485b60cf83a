"""Bounds of everything that callers give, and the errors beyond them."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from typing import Final, TypeVar

import msgspec

from serving.service.store.errors import InvalidError
from serving.service.types import Event, Item, ShownRecommendation, User

BATCH: Final = 10_000
"""Rows of one call, written or read."""
ID_BYTES: Final = 512
TEXT_BYTES: Final = 2_048
"""Of a query, a placement, an author, ..."""
CONTEXT_BYTES: Final = 8_192
"""Of an event's further columns as JSON."""
CONTEXT_COLUMNS: Final = 64
BODY_BYTES: Final = 1_048_576
"""Of an item, a profile, an answer or rules as JSON."""
CALL_BYTES: Final = 67_108_864
"""Of all bodies of one call."""
VECTOR_BYTES: Final = 65_536
ANONYMOUS: Final = "session:"
"""Before a session's id, where somebody without a user id needs one."""
_LAST_TIME: Final = 253_402_300_799  # the year 9999
_LARGEST: Final = 2**31 - 2
EVENT_NAMES: Final = {name: name for name in Event.__dataclass_fields__} | {"impression_id": "recommendation_id"}
"""Names that no column of a context has -> the field of events to set instead."""
_ID_FIELDS: Final = (
    "event_id",
    "event",
    "user_id",
    "session_id",
    "item_id",
    "recommendation_id",
    "language",
    "country",
)
_T = TypeVar("_T")


def check_batch(what: str, rows: Sized) -> None:
    """Refuses too many rows for one transaction."""
    if len(rows) > BATCH:
        raise InvalidError(f"{len(rows):,} {what} in one call; at most {BATCH:,}. Remedy: send them in parts.")


def check_limit(limit: int) -> None:
    """Refuses a number of rows to read that is none, or too large for memory."""
    if not 1 <= limit <= BATCH:
        raise InvalidError(f"`limit` is {limit}. Remedy: give a number from 1 to {BATCH:,}.")


def check_id(name: str, value: str, *, optional: bool = False) -> None:
    """Refuses an id that is empty, too long or no text."""
    if not value and not optional:
        raise InvalidError(f"`{name}` is empty. Remedy: give it.")
    check_text(name, value, ID_BYTES)


def check_user_id(value: str, *, optional: bool = False) -> None:
    """Refuses an id as `check_id` does, and one that means a session in files of moved events."""
    check_id("user_id", value, optional=optional)
    if value.startswith(ANONYMOUS):
        raise InvalidError(f"`user_id` begins with `{ANONYMOUS}`. Remedy: use another id, or give a `session_id`.")


def check_ids(name: str, values: Collection[str]) -> None:
    """Refuses ids as `check_id` does, and too many of them."""
    check_batch(f"values of `{name}`", values)
    for value in values:
        check_id(name, value)


def check_text(name: str, value: str, most: int = TEXT_BYTES) -> None:
    """Refuses what is longer in UTF-8, or what PostgreSQL can't store."""
    if value.isascii() and "\0" not in value and len(value) <= most:
        return
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidError(f"`{name}` has half of a surrogate pair. Remedy: send valid Unicode.") from None
    if "\0" in value:
        raise InvalidError(f"`{name}` has a null character. Remedy: remove it.")
    if size > most:
        raise InvalidError(f"`{name}` has {size:,} bytes in UTF-8; at most {most:,}. Remedy: shorten it.")


def check_time(name: str, value: float | None) -> None:
    """Refuses what can't be unix seconds."""
    if value is not None and not 0 <= value <= _LAST_TIME:
        raise InvalidError(f"`{name}` is {value}. Remedy: give unix seconds.")


def check_number(name: str, value: float | None) -> None:
    """Refuses infinity and what is not a number, which JSON can't express."""
    if value is not None and not math.isfinite(value):
        raise InvalidError(f"`{name}` is {value}. Remedy: give a finite number, or leave it out.")


def check_event(event: Event) -> str:
    """Refuses a malformed event; returns its context as JSON, empty without one."""
    for name in _ID_FIELDS:
        value: str = getattr(event, name)
        # Nearly all are short and ASCII: one test for them.
        if not (value.isascii() and len(value) <= ID_BYTES and "\0" not in value):
            check_text(name, value, ID_BYTES)
    check_id("event_id", event.event_id)
    check_id("event", event.event)
    check_user_id(event.user_id, optional=True)
    if not event.user_id and not event.session_id:
        raise InvalidError("`user_id` and `session_id` are both empty. Remedy: give one of them.")
    check_text("placement", event.placement)
    check_text("query", event.query)
    check_time("timestamp", event.timestamp)
    check_number("value", event.value)
    check_number("propensity", event.propensity)
    if event.position is not None and not 0 <= event.position <= _LARGEST:
        raise InvalidError(f"`position` is {event.position}. Remedy: give a place from 0.")
    return _context(event.context) if event.context else ""


def _context(context: Mapping[str, object]) -> str:
    if len(context) > CONTEXT_COLUMNS:
        raise InvalidError(
            f"`context` has {len(context)} columns; at most {CONTEXT_COLUMNS}. Remedy: send what is needed."
        )
    for key, value in context.items():
        check_id("a name in `context`", key)
        if key in EVENT_NAMES:
            field = EVENT_NAMES[key]
            raise InvalidError(f"`context` has `{key}`, which is a field of events. Remedy: set the field `{field}`.")
        _scalar("context", value)
    return encoded("context", context, CONTEXT_BYTES)


def check_item(item: Item) -> str:
    """Refuses a malformed item; returns it as JSON."""
    check_id("item_id", item.item_id)
    check_id("language", item.language)
    check_time("valid_from", item.valid_from)
    check_time("valid_until", item.valid_until)
    for name, number in item.numbers.items():
        check_number(f"numbers.{name}"[:80], number)
    for name, vector in item.embeddings.items():
        for number in vector:
            check_number(f"embeddings.{name}"[:80], number)
    for value in item.attributes.values():
        _scalar("attributes", value)
    return encoded("item", item, BODY_BYTES)


def check_user(user: User) -> str:
    """Refuses a malformed profile; returns it as JSON."""
    check_user_id(user.user_id)
    for value in user.attributes.values():
        _scalar("attributes", value)
    return encoded("user", user, BODY_BYTES)


def check_shown(shown: ShownRecommendation) -> str:
    """Refuses a malformed answer; returns it as JSON."""
    check_id("recommendation_id", shown.recommendation_id)
    check_id("user_id", shown.user_id, optional=True)
    check_id("session_id", shown.session_id, optional=True)
    check_time("timestamp", shown.timestamp)
    check_batch("items", shown.items)
    for item in shown.items:
        check_number("score", item.score)
        check_number("propensity", item.propensity)
    return encoded("recommendation", shown, BODY_BYTES)


def encoded(name: str, value: object, most: int) -> str:
    """As JSON, of a bounded size."""
    try:
        text = msgspec.json.encode(value, order="deterministic")  # equal items are equal texts
    except (TypeError, UnicodeEncodeError, OverflowError) as error:
        raise InvalidError(f"`{name}` can't be written as JSON: {error}. Remedy: send texts and numbers.") from None
    if len(text) > most:
        raise InvalidError(f"`{name}` has {len(text):,} bytes as JSON; at most {most:,}. Remedy: send less.")
    return text.decode()


def each(what: str, rows: Sequence[_T], check: Callable[[_T], str]) -> list[str]:
    """Checks all rows of a call; an error says which one, by its place and not by an id, which may be personal."""
    check_batch(what, rows)
    bodies: list[str] = []
    size = 0
    for place, row in enumerate(rows):
        try:
            bodies.append(check(row))
        except InvalidError as error:
            raise InvalidError(f"{what}, place {place}: {error}") from None
        size += len(bodies[-1])
        if size > CALL_BYTES:
            raise InvalidError(f"The {what} have over {CALL_BYTES:,} bytes as JSON. Remedy: send them in parts.")
    return bodies


def _scalar(name: str, value: object) -> None:
    if isinstance(value, float):
        check_number(name, value)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidError(f"`{name}` has the number {value}. Remedy: send it as a text.")
    elif not isinstance(value, str):
        raise InvalidError(f"`{name}` has a {type(value).__name__}. Remedy: send texts, numbers, true or false in it.")
