"""Copies of what the store has heard, for training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from serving.service.store import marks, people, schema, segment_files
from serving.service.store.part import Part
from serving.service.store.segment_sources import EVENTS_WITH_ITEM, select_events
from serving.service.store.segments import SEGMENTS_LOCK, segment_paths
from serving.service.store.types import CopiedEvents
from serving.service.types import LOGIN, User

# Rows of a part of the file, and rows of the table that are read at a time.
_CHUNK: Final = 50_000
_READ: Final = 1_000
_events, _users, _deleted = schema.events.c, schema.users.c, schema.deleted_users.c


class Snapshots(Part):
    """Copies for training."""

    def copy_events(self, path: Path, after: str = "") -> CopiedEvents:
        """Writes the events since a mark that have an item, as interactions of the dataset format, to a Parquet file.

        Users and places are as in `Segments.segment_events`.

        Args:
            path: Of the file, which is replaced.
            after: `CopiedEvents.mark` of an earlier call; empty: all that are in the table.
        """
        mark = marks.latest(self._database)
        parts: list[Path] = []
        found = 0

        def write(rows: list[Any]) -> None:
            parts.append(segment_files.temporary_of(path, len(parts)))
            segment_files.write_part(segment_files.table_of(rows), parts[-1])

        with self._database.reading() as connection, segment_files.using_files():
            new = marks.is_after(connection, schema.events, after) & ~marks.is_after(connection, schema.events, mark)
            streaming = connection.execution_options(stream_results=True)
            waiting: list[Any] = []
            for chunk in streaming.execute(select_events(new, with_item=True)).partitions(_READ):
                waiting += [row[1:] for row in chunk]
                found += len(chunk)
                if len(waiting) >= _CHUNK:
                    write(waiting)
                    waiting = []
            if waiting or not parts:
                write(waiting)
            temporary = segment_files.temporary_of(path)
            segment_files.merge(parts, temporary)
            segment_files.publish(temporary, path)
            for part in parts:
                part.unlink()
            counted = sa.select(sa.func.count()).select_from(schema.events).where(new)
            total = connection.execute(counted).scalar_one()
            logins = sa.select(_events.session_id, _events.user_id).where(new, _events.event == LOGIN)
            links = {row[0]: row[1] for row in connection.execute(logins) if row[0] and row[1]}
            erased = sa.select(_deleted.digest).where(marks.is_after(connection, schema.deleted_users, after))
            digests = frozenset(people.digest_of(each) for each in connection.execute(erased).scalars())
        return CopiedEvents(mark=mark, events=found, others=total - found, links=links, erased=digests)

    def interaction_files(self) -> list[Path]:
        """Files of moved events with an item (`Segments.segment_events`).

        Raises:
            SegmentError: a folder is out of reach.
        """
        with self._database.locking(SEGMENTS_LOCK), segment_files.using_files(), self._database.reading() as connection:
            return [path for path in segment_paths(connection) if path.parent.name == EVENTS_WITH_ITEM.folder]

    def all_users(self) -> Iterator[list[User]]:
        """All profiles, in the order of their ids, in batches."""
        last = ""
        while True:
            query = sa.select(_users.user_id, _users.body).where(_users.user_id > last).order_by(_users.user_id)
            with self._database.reading() as connection:
                rows = connection.execute(query.limit(_READ)).all()
            if not rows:
                return
            yield [msgspec.json.decode(row.body, type=User) for row in rows]
            last = rows[-1].user_id
