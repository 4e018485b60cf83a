"""Which rows are about a person, and which people have been erased."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection as Columns

from serving.service.store import limits, marks, schema
from serving.service.store.statements import parts_of
from serving.service.types import user_digest

ERASURE_LOCK: Final = 3
"""Held alone by a transaction that erases a person, and shared by those that write about people.

Without it PostgreSQL would let one write, between two statements of the other, what belongs to neither the time before
nor that after: a link whose session is kept although its person is erased, or an answer to somebody who is gone.
"""
_SESSION: Final = "session:"
_events, _sessions, _shown, _deleted = (
    schema.events.c,
    schema.sessions.c,
    schema.recommendations.c,
    schema.deleted_users.c,
)


def sessions_of(connection: sa.Connection, user_id: str) -> set[str]:
    """Sessions that are linked to a user, or in which the user was seen."""
    seen = [
        sa.select(columns.session_id).where(columns.user_id == user_id, columns.session_id != "")
        for columns in (_sessions, _events, _shown)
    ]
    return without_others(connection, user_id, connection.execute(sa.union(*seen)).scalars().all())


def without_others(connection: sa.Connection, user_id: str, sessions: Sequence[str]) -> set[str]:
    """The sessions that are not linked to somebody else, whose anonymous events are then not the user's."""
    found = set(sessions)
    for part in parts_of(sorted(found)):
        query = sa.select(_sessions.session_id).where(_sessions.session_id.in_(part), _sessions.user_id != user_id)
        found.difference_update(connection.execute(query).scalars())
    return found


def tombstones(user_id: str, sessions: Collection[str]) -> list[str]:
    """What remains of an erased person, for `deleted_users`: the digests of the sessions, and that of the id.

    Nobody has so many sessions that the digests of some would not fit into one transaction's numbers. The id comes
    last: whoever has read it in the feed knows of the sessions as well.
    """
    return [*(_session_tombstone(each) for each in sorted(sessions)[: marks.ROWS - 1]), user_digest(user_id)]


def digest_of(tombstone: str) -> str:
    """SHA-256 of the user id under which training and moved events have who is erased: of a session, its own."""
    return tombstone.removeprefix(_SESSION)


def is_user() -> sa.ColumnElement[bool]:
    """Rows of `deleted_users` that are of users."""
    return ~_deleted.digest.startswith(_SESSION)


def erased_after(connection: sa.Connection, mark: str, people: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which people, (user id, session id), have been erased after a mark of `users_deleted_after`.

    Args:
        connection: In a transaction that shares `ERASURE_LOCK`.
        mark: Up to which the erasures are known.
        people: Those without a user id are known by their sessions.
    """
    named = {
        each: user_digest(each[0]) if each[0] else _session_tombstone(each[1]) for each in people if each[0] or each[1]
    }
    found: set[str] = set()
    is_new = marks.is_after(connection, schema.deleted_users, mark)
    for part in parts_of(sorted(set(named.values()))):
        query = sa.select(_deleted.digest).where(is_new, _deleted.digest.in_(part))
        found.update(connection.execute(query).scalars())
    return {each for each, digest in named.items() if digest in found}


def _session_tombstone(session_id: str) -> str:
    return _SESSION + user_digest(f"{limits.ANONYMOUS}{session_id}")


def is_anonymous(columns: Columns[str, Any]) -> sa.ColumnElement[bool]:
    """Rows without a user id; written so that no database reads all of them by the index of users."""
    return sa.type_coerce(columns.user_id + "", sa.Text) == ""


def rows_about(columns: Columns[str, Any], user_id: str, sessions: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """Conditions that together find all rows of a table about a person, none of them twice."""
    anonymous = [sa.and_(is_anonymous(columns), columns.session_id.in_(part)) for part in parts_of(sessions)]
    return [columns.user_id == user_id, *anonymous]
