"""What the store answers with, besides the types of the service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

COUNTED_EVENTS = frozenset(
    {"view", "click", "play", "complete", "rating", "like", "bookmark", "share", "add_to_cart", "purchase"}
)
"""Events that make an item popular; being shown, skipped or hidden does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """How a store is used.

    Attributes:
        popularity_days: Days that count for popular items.
        popularity_seconds: How old the order of popular items may be; what may be shown is always looked up.
        counted_events: Kinds of events that count.
        wait_seconds: How long a call waits for another writer or for a connection.
        connections: Most that this process has open at a time.
    """

    popularity_days: int = 30
    popularity_seconds: float = 60.0
    counted_events: frozenset[str] = COUNTED_EVENTS
    wait_seconds: float = 30.0
    connections: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPerson:
    """A person that was looked for.

    Attributes:
        user_id: Its id.
        languages: Of the profile.
        last_event: Unix seconds of the newest event; None: there is none.
    """

    user_id: str
    languages: Sequence[str] = ()
    last_event: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of the service's interface, without the key.

    Attributes:
        name: Whose it is.
        role: What it may do.
        hash: Of the secret, as the caller made it.
        created: Unix seconds.
        revoked: Unix seconds; None: it is valid.
    """

    name: str
    role: str
    hash: str
    created: int
    revoked: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Something that an administrator did."""

    timestamp: int
    actor: str
    action: str
    target: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedDay:
    """What became of one day's events.

    Attributes:
        day: UTC, ``2026-11-29``.
        moved: Events that left the table.
        known: Of these, events that the files held already: a stopped run had written them, or they came again later.
        interactions: Rows of the file of events with an item.
        other_events: Rows of the file of events without one.
    """

    day: str
    moved: int
    known: int
    interactions: int
    other_events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedAnswers:
    """What became of one day's answers.

    Attributes:
        day: UTC, ``2026-11-29``.
        moved: Answers that left the table.
        recommendations: Rows of the file of shown items.
    """

    day: str
    moved: int
    recommendations: int


Segmented = TypeVar("Segmented", SegmentedDay, SegmentedAnswers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport(Generic[Segmented]):
    """What moving rows of a table to files did: `Store.segment_events`, `Store.segment_recommendations`.

    Attributes:
        days: Oldest first.
        before, after: Rows in the table before and after.
        appended: Rows that arrived meanwhile: ``before + appended - moved == after`` was checked.
    """

    days: Sequence[Segmented] = ()
    before: int
    after: int
    appended: int

    @property
    def moved(self) -> int:
        """Rows that left the table."""
        return sum(day.moved for day in self.days)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedEvents:
    """What `Snapshots.copy_events` found.

    Attributes:
        mark: Up to which events have been read: for the next call.
        events: Rows of the file.
        others: Events that are no interactions of the dataset format: without an item, or of other kinds.
        links: Session -> the user who has logged in since; the session's earlier anonymous events are theirs.
        erased: SHA-256 (hexadecimal) of the ids of erased people, and of the ids ``session:...`` of their anonymous
            sessions: rows that were copied before must go.
    """

    mark: str
    events: int
    others: int
    links: dict[str, str] = field(default_factory=dict)
    erased: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The state of a store.

    Attributes:
        database: ``sqlite`` or ``postgresql``.
        revision: Of the schema.
        problems: Sentences with their remedies; empty: all is well.
        rows: Rows by table.
    """

    database: str
    revision: str
    problems: Sequence[str] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
