"""Answers and what people did afterwards, read period by period for measuring."""

import json
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from serving.service.store import limits, people, schema
from serving.service.store.part import Part
from serving.service.store.statements import parts_of
from serving.service.types import ShownRecommendation

_events, _items, _sessions, _shown = schema.events.c, schema.items.c, schema.sessions.c, schema.recommendations.c


class HeardEvent(NamedTuple):
    """An event as measuring needs it.

    Attributes:
        number: Of the row; with ``timestamp`` the place to go on from.
        event: Its kind.
        timestamp: Unix seconds.
        user_id, session_id, item_id, recommendation_id, language, country: As of `Event`.
        value: A rating, a price or a duration; None without one.
    """

    number: int
    event: str
    timestamp: int
    user_id: str
    session_id: str
    item_id: str
    recommendation_id: str
    value: float | None
    language: str
    country: str


class _Language(msgspec.Struct):
    """The part of an item that is read."""

    language: str


_COLUMNS: Final = tuple(_events[name] for name in HeardEvent._fields)


class Outcomes(Part):
    """Reading for measuring: each call is a transaction of its own that reads a bounded number of rows."""

    def answers_between(
        self, since: float, until: float, after: tuple[float, str] | None = None, limit: int = 1_000
    ) -> list[ShownRecommendation]:
        """Answers of ``since <= timestamp < until``, the oldest first.

        Args:
            since, until: Unix seconds.
            after: Timestamp and id of the last answer of the page before; None: from the beginning.
            limit: Most answers; fewer mean that there are no more.
        """
        limits.check_limit(limit)
        start, last = after or (since, "")
        key = sa.tuple_(_shown.timestamp, _shown.recommendation_id)
        query = (
            sa.select(_shown.body)
            .where(_shown.timestamp >= start, _shown.timestamp < until, key > sa.tuple_(start, last))
            .order_by(_shown.timestamp, _shown.recommendation_id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            bodies = connection.execute(query).scalars().all()
        decoder = msgspec.json.Decoder(ShownRecommendation)
        return [decoder.decode(body) for body in bodies]

    def count_answers(self, since: float, until: float, most: int) -> int:
        """Number of answers of ``since <= timestamp < until``, counted up to ``most``."""
        rows = sa.select(sa.literal(1)).where(_shown.timestamp >= since, _shown.timestamp < until).limit(most)
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(rows.subquery())).scalar_one()

    def heard_between(
        self,
        kinds: Collection[str],
        since: float,
        until: float,
        after: tuple[int, int] | None = None,
        limit: int = limits.BATCH,
    ) -> list[HeardEvent]:
        """Events of some kinds of ``since <= timestamp < until``, the oldest first.

        Args:
            kinds: Kinds of events.
            since, until: Unix seconds.
            after: Timestamp and number of the last event of the page before; None: from the beginning.
            limit: Most events; fewer mean that there are no more.
        """
        limits.check_limit(limit)
        start, last = after or (since, -1)
        query = (
            sa.select(*_COLUMNS)
            .where(
                _events.timestamp >= start,
                _events.timestamp < until,
                sa.tuple_(_events.timestamp, _events.number) > sa.tuple_(start, last),
                _events.event.in_(sorted(kinds)),
            )
            .order_by(_events.timestamp, _events.number)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [HeardEvent._make(row) for row in connection.execute(query)]

    def answer_times(self, recommendation_ids: Sequence[str]) -> dict[str, float]:
        """Unix seconds of those of some answers that the table has."""
        return self._values(_shown.recommendation_id, _shown.timestamp, recommendation_ids)

    def linked_users(self, session_ids: Sequence[str]) -> dict[str, str]:
        """The users of those of some sessions that are linked to one."""
        return self._values(_sessions.session_id, _sessions.user_id, session_ids)

    def _values(self, key: sa.Column[str], value: sa.Column[Any], keys: Sequence[str]) -> dict[str, Any]:
        """The values of those of some keys that the table has."""
        found: dict[str, Any] = {}
        with self._database.reading() as connection:
            for part in parts_of(keys):
                rows = connection.execute(sa.select(key, value).where(key.in_(part)))
                found.update((row[0], row[1]) for row in rows)
        return found

    def first_heard(self, user_ids: Sequence[str] = (), session_ids: Sequence[str] = ()) -> dict[str, int]:
        """When people's histories begin: the first event that counts for one.

        Args:
            user_ids: Users; the anonymous events of their sessions count too, as for `Store.history`.
            session_ids: Sessions of nobody.

        Returns:
            Unix seconds by id; those without a history are not there.
        """
        counts = sa.and_(_events.event.in_(sorted(self._settings.counted_events)), _events.item_id != "")
        found: dict[str, int] = {}
        with self._database.reading() as connection:
            for ids, are_users in ((user_ids, True), (session_ids, False)):
                for part in parts_of(ids):
                    given = _given(connection, part)
                    # The first rows of an index, however long the history is.
                    firsts = [_first(counts, (_events.user_id if are_users else _events.session_id) == given.c.value)]
                    if are_users:
                        linked = sa.select(_sessions.session_id).where(_sessions.user_id == given.c.value)
                        linked = linked.correlate(given)
                        anonymous = people.is_anonymous(_events)
                        firsts.append(_first(counts, anonymous, _events.session_id.in_(linked)))
                    for row in connection.execute(sa.select(given.c.value, *firsts)):
                        times = [time for time in row[1:] if time is not None]
                        if times:
                            found[row[0]] = min(times)
        return found

    def item_languages(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Languages of those of some items that are in the catalogue."""
        found: dict[str, str] = {}
        decoder = msgspec.json.Decoder(_Language)
        with self._database.reading() as connection:
            for part in parts_of(item_ids):
                query = sa.select(_items.item_id, _items.body).where(_items.item_id.in_(part), _items.body.is_not(None))
                found.update((row[0], decoder.decode(row[1]).language) for row in connection.execute(query))
        return found


def _first(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    query = sa.select(_events.timestamp).where(*conditions).order_by(_events.timestamp).limit(1)
    return query.scalar_subquery()


def _given(connection: sa.Connection, ids: Sequence[str]) -> sa.TableValuedAlias:
    """A table of ids, in the column ``value``."""
    text = sa.literal(json.dumps(list(ids)), sa.Text)
    column = sa.column("value", schema.users.c.user_id.type)
    if connection.dialect.name == "sqlite":
        return sa.func.json_each(text).table_valued(column, name="given")
    values = sa.func.json_array_elements_text(sa.cast(text, sa.Text).cast(sa.JSON))
    return values.table_valued(column, name="given").render_derived()
