"""Popular items, for answers without the model."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from serving.service.store import limits, schema
from serving.service.store.database import Database
from serving.service.store.errors import InvalidError
from serving.service.store.part import Part
from serving.service.store.statements import Insert, insert, insert_many
from serving.service.store.types import StoreSettings
from serving.service.types import Event

DAY_SECONDS: Final = 86_400
_ALL: Final = ""
# The day under which all earlier days are counted together.
_EARLIER: Final = 0
_RANKED: Final = 2_000
_LANGUAGES: Final = 64
"""Of which the order is kept in memory."""
_counts, _items = schema.counts.c, schema.items.c


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Items of a language by their events.

    Attributes:
        ids: The first is the most popular one.
        day: Last day that counted.
        made: By the monotonic clock.
    """

    ids: Sequence[str]
    day: int
    made: float


class Popularity(Part):
    """Counts of events per language, day and item."""

    def __init__(self, database: Database, settings: StoreSettings) -> None:
        super().__init__(database, settings)
        self._rankings: OrderedDict[str, _Ranking] = OrderedDict()
        self._ranker = threading.Lock()

    def popular_items(self, language: str, limit: int = 100, now: float | None = None) -> list[str]:
        """Ids of the items with the most events in a language, then of those with the most in all languages.

        Only items that may be in an answer now. The events of the last `StoreSettings.popularity_days` count, and where
        they are equally many, or none, all earlier ones; the order may be `StoreSettings.popularity_seconds` old.
        """
        if not 1 <= limit <= _RANKED:
            raise InvalidError(f"`limit` is {limit}. Remedy: give a number from 1 to {_RANKED:,}.")
        limits.check_id("language", language, optional=True)
        now = time.time() if now is None else now
        found: list[str] = []
        for each in dict.fromkeys((language, _ALL)):
            if len(found) < limit:
                known = set(found)
                ranked = [item for item in self._ranked(each, int(now)) if item not in known]
                found += self._shown(ranked, limit - len(found), now)
        return found

    def _ranked(self, language: str, now: int) -> Sequence[str]:
        """By counts; summing them up takes too long for every answer."""
        found = self._rankings.get(language)
        if found is not None and self._is_fresh(found, now):
            return found.ids
        # One thread sums up, and the others do with what was there before.
        if not self._ranker.acquire(blocking=found is None):
            assert found is not None
            return found.ids
        try:
            found = self._rankings.get(language)
            if found is None or not self._is_fresh(found, now):
                with self._database.reading() as connection:
                    ids = connection.execute(self._ranking(language, now)).scalars().all()
                found = self._rankings[language] = _Ranking(ids, now // DAY_SECONDS, time.monotonic())
                self._rankings.move_to_end(language)
                while len(self._rankings) > _LANGUAGES:
                    self._rankings.popitem(last=False)
            return found.ids
        finally:
            self._ranker.release()

    def _is_fresh(self, ranking: _Ranking, now: int) -> bool:
        age = time.monotonic() - ranking.made
        return ranking.day == now // DAY_SECONDS and age < self._settings.popularity_seconds

    def _ranking(self, language: str, now: int) -> sa.Select[str]:
        today = now // DAY_SECONDS
        first = today - self._settings.popularity_days + 1
        recent = sa.case((_counts.day >= first, _counts.events), else_=0)
        return (
            sa.select(_counts.item_id)
            .join(schema.items, _items.item_id == _counts.item_id)
            # Not those with a time in the future, which would count for too long.
            .where(_counts.language == language, _counts.day <= today)
            .where(_items.body.is_not(None), _items.available)
            # Items whose time has not come yet may be shown before the next ranking.
            .where(sa.or_(_items.valid_until.is_(None), _items.valid_until > now))
            .group_by(_counts.item_id)
            .order_by(sa.func.sum(recent).desc(), sa.func.sum(_counts.events).desc(), _counts.item_id)
            .limit(_RANKED)
        )

    def _shown(self, ranked: Sequence[str], limit: int, now: float) -> list[str]:
        """The first ones that may be in an answer now."""
        found: list[str] = []
        # Most of them may: a little more than are wanted usually suffices.
        step = limit + 50
        for start in range(0, len(ranked), step):
            part = ranked[start : start + step]
            query = sa.select(_items.item_id).where(
                _items.item_id.in_(part),
                _items.body.is_not(None),
                _items.available,
                sa.or_(_items.valid_from.is_(None), _items.valid_from <= now),
                sa.or_(_items.valid_until.is_(None), _items.valid_until > now),
            )
            with self._database.reading() as connection:
                shown = set(connection.execute(query).scalars())
            found += [item for item in part if item in shown]
            if len(found) >= limit:
                break
        return found[:limit]


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
    """Merges the counts of old days into one."""
    old = _counts.day.between(_EARLIER + 1, int(now) // DAY_SECONDS - days)
    total = sa.func.sum(_counts.events).label("events")
    sums = sa.select(_counts.language, sa.literal(_EARLIER).label("day"), _counts.item_id, total)
    statement = insert(connection, schema.counts).from_select(
        ["language", "day", "item_id", "events"], sums.where(old).group_by(_counts.language, _counts.item_id)
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["language", "day", "item_id"], set_={"events": _counts.events + statement.excluded.events}
        )
    )
    connection.execute(sa.delete(schema.counts).where(old))
