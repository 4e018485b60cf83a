"""Profiles, and a person's right to see and to erase what is kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import sqlalchemy as sa

from serving.service.store import limits, marks, people, schema, segment_files
from serving.service.store.events import event_of
from serving.service.store.part import Part
from serving.service.store.segment_sources import ANSWER_FOLDERS
from serving.service.store.segments import SEGMENTS_LOCK, segment_paths
from serving.service.store.statements import upsert
from serving.service.store.steps import step
from serving.service.types import User

_users, _deleted = schema.users.c, schema.deleted_users.c


class Users(Part):
    """Profiles of users."""

    def put_user(self, user: User) -> None:
        """Inserts a profile or replaces it whole."""
        self._put_profiles({user.user_id: limits.check_user(user)})

    def put_users(self, users: Sequence[User]) -> None:
        """Inserts profiles or replaces them whole, in one transaction; of an id that repeats, the last one counts."""
        bodies = limits.each("users", users, limits.check_user)
        self._put_profiles({user.user_id: body for user, body in zip(users, bodies, strict=True)})

    def user(self, user_id: str) -> User | None:
        """A profile; None if there is none."""
        limits.check_id("user_id", user_id)
        with self._database.reading() as connection:
            body = _profile(connection, user_id)
        return None if body is None else msgspec.json.decode(body, type=User)

    def _put_profiles(self, bodies: Mapping[str, str]) -> None:
        if not bodies:
            return
        with self._database.writing() as connection:
            stamp = marks.stamp(self._database, connection)
            rows = [
                {"user_id": user_id, "body": body, "xid": stamp.xid, "number": stamp.number(place)}
                for place, (user_id, body) in enumerate(bodies.items())
            ]
            upsert(connection, schema.users, rows, ["body", "xid", "number"])

    def delete_user(self, user_id: str) -> bool:
        """Erases a person: profile, events, session links and recommendations, also from files of moved events.

        Anonymous events of sessions in which the person was seen are erased too. What remains is a SHA-256 of the id,
        by which the other replicas forget the person (`users_deleted_after`), and those of the sessions, by which
        answers that are on their way are recognised (`log_recommendations`). Counts of popular items stay.

        Whatever else is written about the person meanwhile comes either before, and is erased, or after: events and
        links are then those of somebody who has come back.

        Returns:
            Whether anything was kept about the person.

        Raises:
            SegmentError: a file of moved events is out of reach; nothing is deleted from the database.
        """
        limits.check_id("user_id", user_id)
        # No event may move to a file that has been searched already.
        with self._database.locking(SEGMENTS_LOCK), segment_files.using_files():
            with self._database.reading() as connection:
                paths = segment_paths(connection, sweep=True)
                sessions, ids = _of_files(connection, user_id, paths)
            # Files first: whoever is stopped in between has no answer yet, and asks again.
            removed = sum(segment_files.without_people(path, ids, segment_files.temporary_of(path)) for path in paths)
            with self._database.writing() as connection:
                # Before the stamp: a transaction that has one and waits delays the feeds.
                self._database.seize(connection, people.ERASURE_LOCK)
                stamp = marks.stamp(self._database, connection)
                sessions = sorted({*sessions, *people.sessions_of(connection, user_id)})
                for table in (schema.events, schema.recommendations):
                    for condition in people.rows_about(table.c, user_id, sessions):
                        removed += connection.execute(sa.delete(table).where(condition)).rowcount
                for table in (schema.sessions, schema.users):
                    removed += connection.execute(sa.delete(table).where(table.c.user_id == user_id)).rowcount
                step("erased")
                rows = [
                    {"number": stamp.number(place), "xid": stamp.xid, "digest": digest}
                    for place, digest in enumerate(people.tombstones(user_id, sessions))
                ]
                connection.execute(sa.insert(schema.deleted_users), rows)
            self._database.erase_log()
        return removed > 0

    def users_changed_after(self, mark: str, limit: int = 1000) -> tuple[list[str], str]:
        """Ids of users whose profiles are new or have changed, and the mark to continue from."""
        limits.check_limit(limit)
        rows, mark = marks.rows_after(self._database, schema.users, mark, limit)
        return [row.user_id for row in rows], mark

    def users_deleted_after(self, mark: str, limit: int = 1000) -> tuple[list[str], str]:
        """SHA-256 (hexadecimal, of the id in UTF-8) of deleted users, and the mark to continue from."""
        limits.check_limit(limit)
        rows, mark = marks.rows_after(self._database, schema.deleted_users, mark, limit, people.is_user())
        return [row.digest for row in rows], mark

    def export_user(self, user_id: str) -> dict[str, object]:
        """All that is kept about a person, ready for JSON: also what is in files of moved events."""
        limits.check_id("user_id", user_id)
        # A file must not appear between reading the table and the files.
        locked = self._database.locking(SEGMENTS_LOCK)
        with locked, segment_files.using_files(), self._database.reading() as connection:
            paths = segment_paths(connection)
            sessions, ids = _of_files(connection, user_id, paths)
            body = _profile(connection, user_id)
            events, shown = (
                [
                    row
                    for condition in people.rows_about(table.c, user_id, sessions)
                    for row in connection.execute(sa.select(table).where(condition))
                ]
                for table in (schema.events, schema.recommendations)
            )
            moved: dict[bool, list[dict[str, object]]] = {False: [], True: []}
            for path in paths:
                moved[path.parent.name in ANSWER_FOLDERS] += segment_files.rows_of_people(path, ids)
        # A run that was killed leaves events both in the table and in a file.
        events_there, answers_there = {row.event_id for row in events}, {row.recommendation_id for row in shown}
        return {
            "user_id": user_id,
            "profile": None if body is None else msgspec.json.decode(body),
            "sessions": sessions,
            "events": sorted(
                (msgspec.to_builtins(event_of(row)) for row in events), key=lambda each: each["timestamp"]
            ),
            "moved_events": [row for row in moved[False] if row["event_id"] not in events_there],
            "recommendations": [msgspec.json.decode(row.body) for row in shown],
            "moved_recommendations": [row for row in moved[True] if row["recommendation_id"] not in answers_there],
        }


def _profile(connection: sa.Connection, user_id: str) -> str | None:
    return connection.execute(sa.select(_users.body).where(_users.user_id == user_id)).scalar_one_or_none()


def _of_files(connection: sa.Connection, user_id: str, paths: list[Path]) -> tuple[list[str], list[str]]:
    """The person's sessions, and the user ids under which files have the person."""
    sessions = people.sessions_of(connection, user_id)
    for path in paths:
        rows = segment_files.rows_of_people(path, [user_id], ["session_id"])
        seen = {row["session_id"] for row in rows if "session_id" in row}
        sessions |= people.without_others(connection, user_id, sorted(seen))
    return sorted(sessions), [user_id, *(f"{limits.ANONYMOUS}{session}" for session in sorted(sessions))]
