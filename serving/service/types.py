"""What the service hears and keeps: events, items, users and the recommendations that were shown.

Names are those of the dataset format (docs/data.md), so that the trainer can read what the service has stored.
"""

import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a person did.

    Attributes:
        event_id: Given by the caller; an event with a known id is not counted again.
        event: Its kind: ``view``, ``click``, ``purchase``, ``rating``, ``hide``, ...
        timestamp: Unix seconds.
        user_id: Who; empty for somebody who has not logged in.
        session_id: The visit; either it or ``user_id`` is there.
        item_id: With what; empty for events without an item, such as a search.
        value: A rating, a price or a duration, by the kind of event.
        recommendation_id: The answer that showed the item.
        position: Place of the item in that answer, from 0.
        propensity: Probability with which it was shown there.
        language: Of the page, BCP 47.
        country: Of the visit.
        placement: Where in the application.
        query: What the person had typed.
        context: Further columns.
    """

    event_id: str
    event: str
    timestamp: int
    user_id: str = ""
    session_id: str = ""
    item_id: str = ""
    value: float | None = None
    recommendation_id: str = ""
    position: int | None = None
    propensity: float | None = None
    language: str = ""
    country: str = ""
    placement: str = ""
    query: str = ""
    context: Mapping[str, Scalar] = field(default_factory=dict)


EVENTS: Final = (
    "impression",
    "view",
    "click",
    "play",
    "complete",
    "rating",
    "like",
    "dislike",
    "bookmark",
    "share",
    "add_to_cart",
    "purchase",
    "skip",
    "hide",
)
"""Kinds of events in the dataset format, which training knows. The service keeps others too."""
LOGIN: Final = "login"
"""The event by which replicas learn that a session belongs to a user."""


def login_event(session_id: str, user_id: str) -> Event:
    """Of a log-in now."""
    return Event(
        event_id=f"login-{uuid.uuid4().hex}",
        event=LOGIN,
        timestamp=int(time.time()),
        user_id=user_id,
        session_id=session_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of the catalogue as it is now.

    Attributes:
        item_id: Its id.
        language: BCP 47.
        title, description: Its text.
        categories: Its labels.
        numbers: Numeric columns by name.
        embeddings: Embedding columns by name.
        attributes: Columns that only rules read, such as a seller.
        available: False: in no answer, for instance sold out.
        valid_from, valid_until: Unix seconds between which it may be in an answer; None: no limit.
    """

    item_id: str
    language: str
    title: str = ""
    description: str = ""
    categories: Sequence[str] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    embeddings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    available: bool = True
    valid_from: int | None = None
    valid_until: int | None = None

    def is_shown(self, now: float) -> bool:
        """Whether it may be in an answer at a time, unix seconds."""
        return (
            self.available
            and (self.valid_from is None or self.valid_from <= now)
            and (self.valid_until is None or now < self.valid_until)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChange:
    """An item that was put, patched or deleted.

    Attributes:
        item_id: Its id.
        revision: Grows with each change of the item, also across a deletion.
        item: As it is now; None: deleted.
    """

    item_id: str
    revision: int
    item: Item | None


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The profile of one person.

    Attributes:
        user_id: Its id.
        languages: BCP 47, the preferred one first.
        country: ISO 3166-1 alpha-2.
        attributes: Further columns.
    """

    user_id: str
    languages: Sequence[str] = ()
    country: str = ""
    attributes: Mapping[str, Scalar] = field(default_factory=dict)


def user_digest(user_id: str) -> str:
    """By which a person is named where the id must not be kept: in deletions and in the audit log."""
    return hashlib.sha256(user_id.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """What a history is made of: an event with an item, in short.

    Attributes:
        item_id: The item.
        event: Kind of the event.
        timestamp: Unix seconds.
    """

    item_id: str
    event: str
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownItem:
    """One place of an answer.

    Attributes:
        item_id: The item.
        score: The model's, after rules.
        propensity: Probability that this item was shown in this place.
        source: What put it there: ``model``, ``fresh``, ``pinned``, ``explored``, ``popular``.
    """

    item_id: str
    score: float
    propensity: float = 1.0
    source: str = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRecommendation:
    """An answer as it was given, for measuring.

    Attributes:
        recommendation_id: Its id.
        timestamp: Unix seconds, with fractions.
        user_id, session_id: Who asked.
        placement, language, country, query: Of the request.
        model_version: Of the model that answered; 0: none did.
        variant: Of an experiment; empty without one.
        degraded: Whether the store answered in the model's place.
        items: In the order of their places.
    """

    recommendation_id: str
    timestamp: float
    user_id: str = ""
    session_id: str = ""
    placement: str = ""
    language: str = ""
    country: str = ""
    query: str = ""
    model_version: int = 0
    variant: str = ""
    degraded: bool = False
    items: Sequence[ShownItem] = ()
