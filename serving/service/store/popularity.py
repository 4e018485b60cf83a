"""Popular items, for answers without the model."""

import time
from collections import Counter
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from serving.service.store import limits, schema
from serving.service.store.part import Part
from serving.service.store.statements import Insert, insert_many
from serving.service.types import Event

DAY_SECONDS = 86_400
_ALL = ""
_counts, _items = schema.counts.c, schema.items.c


class Popularity(Part):
    """Counts of events per language, day and item."""

    def popular_items(self, language: str, limit: int = 100, now: float | None = None) -> list[str]:
        """Ids of the items with the most events in a language, then of those with the most in all languages.

        Only items that may be in an answer now. The events of the last `StoreSettings.popularity_days` count.
        """
        limits.check_limit(limit)
        limits.check_id("language", language, optional=True)
        now = time.time() if now is None else now
        found: list[str] = []
        with self._database.reading() as connection:
            for each in dict.fromkeys((language, _ALL)):
                if len(found) < limit:
                    ranked = connection.execute(self._ranking(each, limit, int(now))).scalars()
                    known = set(found)
                    found += [item for item in ranked if item not in known]
        return found[:limit]

    def _ranking(self, language: str, limit: int, now: int) -> sa.Select[str]:
        today = now // DAY_SECONDS
        first = today - self._settings.popularity_days + 1
        return (
            sa.select(_counts.item_id)
            .join(schema.items, _items.item_id == _counts.item_id)
            # Not those with a time in the future, which would count for too long.
            .where(_counts.language == language, _counts.day.between(first, today))
            .where(_items.body.is_not(None), _items.available)
            .where(sa.or_(_items.valid_from.is_(None), _items.valid_from <= now))
            .where(sa.or_(_items.valid_until.is_(None), _items.valid_until > now))
            .group_by(_counts.item_id)
            .order_by(sa.func.sum(_counts.events).desc(), _counts.item_id)
            .limit(limit)
        )


def count_events(connection: sa.Connection, events: Sequence[Event], counted: Collection[str]) -> None:
    """Adds new events to the counts, in the transaction that stores them, so that none is counted twice."""
    totals = Counter[tuple[str, int, str]]()
    for event in events:
        if event.item_id and event.event in counted:
            day = event.timestamp // DAY_SECONDS
            # A set: an event without a language counts once.
            for language in {event.language, _ALL}:
                totals[language, day, event.item_id] += 1
    if not totals:
        return

    def add(statement: Insert) -> Insert:
        return statement.on_conflict_do_update(
            index_elements=["language", "day", "item_id"], set_={"events": _counts.events + statement.excluded.events}
        )

    rows = [{"language": a, "day": b, "item_id": c, "events": n} for (a, b, c), n in sorted(totals.items())]
    insert_many(connection, schema.counts, rows, add, _counts.day)


def forget_counts(connection: sa.Connection, now: float, days: int) -> None:
    """Deletes the counts of days that no answer reads any more."""
    connection.execute(sa.delete(schema.counts).where(_counts.day <= int(now) // DAY_SECONDS - days))
