"""Which rows are about a person."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection as Columns

from serving.service.store import schema
from serving.service.store.statements import parts_of

_events, _sessions, _shown = schema.events.c, schema.sessions.c, schema.recommendations.c


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


def is_anonymous(columns: Columns[str, Any]) -> sa.ColumnElement[bool]:
    """Rows without a user id; written so that no database reads all of them by the index of users."""
    return sa.type_coerce(columns.user_id + "", sa.Text) == ""


def rows_about(columns: Columns[str, Any], user_id: str, sessions: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """Conditions that together find all rows of a table about a person, none of them twice."""
    anonymous = [sa.and_(is_anonymous(columns), columns.session_id.in_(part)) for part in parts_of(sessions)]
    return [columns.user_id == user_id, *anonymous]
