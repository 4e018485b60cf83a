"""Answers for somebody who administers the service."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of the service.

    Attributes:
        model_version: Of the served model; 0: none.
        degraded: Whether popular items stand in for a model that does not answer.
        waiting_items: New or changed items that are not yet in answers.
        items: Items in the catalogue.
    """

    model_version: int
    degraded: bool
    waiting_items: int
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """An event of a person.

    Attributes:
        item_id: With what.
        event: Its kind.
        timestamp: Unix seconds.
        title, language: Of the item as it is now; empty: there is none any more.
    """

    item_id: str
    event: str
    timestamp: int
    title: str
    language: str
