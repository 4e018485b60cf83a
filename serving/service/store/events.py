"""Events, and the histories made of them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection as Columns

from serving.service.store import limits, marks, people, schema
from serving.service.store.errors import ConflictError
from serving.service.store.part import Part
from serving.service.store.popularity import count_events
from serving.service.store.statements import insert, insert_many, keep
from serving.service.store.steps import step
from serving.service.types import Event, Interaction, Scalar

_events, _sessions = schema.events.c, schema.sessions.c
_FIELDS = [name for name in Event.__dataclass_fields__ if name != "context"]


class Events(Part):
    """Events and sessions."""

    def append_events(self, events: Sequence[Event]) -> list[bool]:
        """Stores events in one transaction; they are durable when it returns.

        An event that comes again after it was moved to a file (`segment_events`) is new to the table, but not to the
        file. An event of a deleted user that is stored after the deletion is kept like anybody's.

        Returns:
            For each event whether it is new: False if its ``event_id`` was there already, or earlier in this call.
        """
        contexts = limits.each("events", events, limits.check_event)
        if not events:
            return []
        with self._database.writing() as connection:
            self._database.share(connection, people.ERASURE_LOCK)
            return self._append(connection, events, contexts)

    def events_after(self, mark: str, limit: int = 1000) -> tuple[list[Event], str]:
        """Events in the order in which they became visible, and the mark to continue from.

        Args:
            mark: From the previous call or `latest_mark`; empty: from the beginning.
            limit: Most events to return; fewer mean that there are no more at present.
        """
        limits.check_limit(limit)
        rows, mark = marks.rows_after(self._database, schema.events, mark, limit)
        return [event_of(row) for row in rows], mark

    def history(self, user_id: str = "", session_id: str = "", limit: int = 100) -> list[Interaction]:
        """The newest events with an item, the newest last.

        A user's are those with that ``user_id`` and the anonymous ones of sessions linked to the user. A session's are
        added to them; without a user they are all of that session.
        """
        limits.check_limit(limit)
        limits.check_id("user_id", user_id, optional=bool(session_id))
        limits.check_id("session_id", session_id, optional=True)

        def newest(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
            # Each part is limited itself, so that it is read from the end of its index.
            columns = (_events.item_id, _events.event, _events.timestamp, _events.xid, _events.number)
            found = sa.select(*columns).where(*conditions, _events.item_id != "").order_by(*_newest_first(_events))
            return sa.select(found.limit(limit).subquery())

        if user_id:
            linked = sa.select(_sessions.session_id).where(_sessions.user_id == user_id)
            session = _events.session_id.in_(linked.union(sa.select(sa.literal(session_id))) if session_id else linked)
            parts = [newest(_events.user_id == user_id), newest(people.is_anonymous(_events), session)]
        else:
            parts = [newest(_events.session_id == session_id)]
        both = sa.union_all(*parts).subquery()
        query = sa.select(both.c.item_id, both.c.event, both.c.timestamp).order_by(*_newest_first(both.c)).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [Interaction(item_id=row[0], event=row[1], timestamp=row[2]) for row in reversed(rows)]

    def link_session(self, session_id: str, user_id: str, event: Event | None = None) -> None:
        """At log-in: what the session does anonymously, before and after, counts as the user's.

        Args:
            session_id: The session.
            user_id: Who has logged in.
            event: By which replicas learn of it; stored in the same transaction, so that an erasure of the person takes
                both or neither.

        Raises:
            ConflictError: the session is linked to another user.
        """
        limits.check_id("session_id", session_id)
        limits.check_user_id(user_id)
        context = "" if event is None else limits.check_event(event)
        with self._database.writing() as connection:
            self._database.share(connection, people.ERASURE_LOCK)
            connection.execute(
                insert(connection, schema.sessions).on_conflict_do_nothing(),
                {"session_id": session_id, "user_id": user_id},
            )
            query = sa.select(_sessions.user_id).where(_sessions.session_id == session_id)
            if connection.execute(query).scalar_one() != user_id:
                raise ConflictError(
                    "The session is linked to another user. Remedy: begin a new session when another person logs in."
                )
            step("linked")
            if event is not None:
                self._append(connection, [event], [context])

    def _append(self, connection: sa.Connection, events: Sequence[Event], contexts: Sequence[str]) -> list[bool]:
        """Of checked events and their contexts as JSON; at least one."""
        first: dict[str, int] = {}
        for place, event in enumerate(events):
            first.setdefault(event.event_id, place)
        stamp = marks.stamp(self._database, connection)
        rows = [_row(events[place], contexts[place], stamp, place) for place in first.values()]
        # Two transactions with the same events in another order would wait for each other.
        rows.sort(key=lambda row: row["event_id"])
        found = insert_many(connection, schema.events, rows, keep, _events.event_id)
        stored = {first[row.event_id] for row in found}
        new = [place in stored for place in range(len(events))]
        kept = [event for event, is_new in zip(events, new, strict=True) if is_new]
        count_events(connection, kept, self._settings.counted_events)
        return new


def event_of(row: sa.Row[Any]) -> Event:
    """An event from its row."""
    context: dict[str, Scalar] = msgspec.json.decode(row.context) if row.context else {}
    return Event(**{name: getattr(row, name) for name in _FIELDS}, context=context)


def _row(event: Event, context: str, stamp: marks.Stamp, place: int) -> dict[str, Any]:
    row = {name: getattr(event, name) for name in _FIELDS}
    row |= {"context": context, "xid": stamp.xid, "number": stamp.number(place)}
    return row


def _newest_first(columns: Columns[str, Any]) -> tuple[sa.ColumnElement[Any], ...]:
    # Of events of one second, the one that was written later is the newer one.
    return columns.timestamp.desc(), columns.xid.desc(), columns.number.desc()
