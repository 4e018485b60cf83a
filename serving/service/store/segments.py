"""Moves old events and answers to Parquet files, which the trainer reads."""

import datetime
from collections.abc import Callable, MutableSequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from serving.service.store import limits, schema, segment_files
from serving.service.store.errors import SegmentError
from serving.service.store.part import Part
from serving.service.store.popularity import DAY_SECONDS, forget_counts
from serving.service.store.segment_sources import (
    ANSWERS,
    EMPTY_ANSWERS,
    EVENTS_WITH_ITEM,
    OTHER_EVENTS,
    Source,
    times_of,
)
from serving.service.store.statements import insert, parts_of, upsert
from serving.service.store.steps import step
from serving.service.store.types import Segmented, SegmentedAnswers, SegmentedDay, SegmentReport

SEGMENTS_LOCK: Final = 1
"""Held while files of moved events change."""
# Rows of a part of a file, and rows of the table that are read at a time.
_CHUNK: Final = 50_000
_READ: Final = 1_000
_segments = schema.segments.c


class _Moved(NamedTuple):
    """What became of one day's rows of a source.

    Attributes:
        moved: How many have left the table.
        known: Rows of them that the file had already.
        rows: Those that it has now.
    """

    moved: int
    known: int
    rows: int


class Segments(Part):
    """Files of moved events and answers."""

    def segment_events(self, older_than: float, folder: Path) -> SegmentReport[SegmentedDay]:
        """Moves the events of whole UTC days that end at or before a time to ``folder``.

        ``interactions/2026-11-29.parquet`` has the day's events with an item in the dataset format (docs/data.md),
        ``other_events/`` those without, and those of kinds that the format does not have. A file is complete and on
        disk before its events leave the table, and an event that the file holds already is not written again: a run
        that was killed anywhere is completed by the next one.

        The user of an event without one is the session's, or else ``session:`` and its id; places count from 1.

        Args:
            older_than: Unix seconds.
            folder: The same one in every run: an event that is sent again is looked for there.

        Raises:
            SegmentError: a file is damaged, or does not hold what was written; its events stay in the table.
        """

        def describe(day: str, with_item: _Moved, others: _Moved) -> SegmentedDay:
            return SegmentedDay(
                day=day,
                moved=with_item.moved + others.moved,
                known=with_item.known + others.known,
                interactions=with_item.rows,
                other_events=others.rows,
            )

        report = self._segment((EVENTS_WITH_ITEM, OTHER_EVENTS), older_than, folder, describe)
        with self._database.writing() as connection:
            forget_counts(connection, older_than, self._settings.popularity_days)
        return report

    def segment_recommendations(self, older_than: float, folder: Path) -> SegmentReport[SegmentedAnswers]:
        """Moves the answers of whole UTC days as `segment_events` does events, and as safely.

        ``recommendations/2026-11-29.parquet`` has a row for each item that was shown, with its place and propensity, in
        the dataset format as an event ``impression``; ``other_recommendations/`` has a row for each answer without
        items. The rest of an answer is in further columns: ``shown_at`` (with fractions), ``score``, ``source``,
        ``model_version``, ``variant``, ``degraded``.

        Args:
            older_than: Unix seconds.
            folder: The same one in every run.

        Raises:
            SegmentError: a file is damaged, or does not hold what was written; its answers stay in the table.
        """

        def describe(day: str, with_items: _Moved, empty: _Moved) -> SegmentedAnswers:
            return SegmentedAnswers(day=day, moved=with_items.moved + empty.moved, recommendations=with_items.rows)

        return self._segment((ANSWERS, EMPTY_ANSWERS), older_than, folder, describe)

    def _segment(
        self,
        sources: tuple[Source, Source],
        older_than: float,
        folder: Path,
        describe: Callable[[str, _Moved, _Moved], Segmented],
    ) -> SegmentReport[Segmented]:
        """Moves old rows of a table, which both sources are parts of."""
        limits.check_time("older_than", older_than)
        folder = folder.absolute()
        table = sources[0].key.table
        with self._database.locking(SEGMENTS_LOCK), segment_files.using_files():
            for source in sources:
                (folder / source.folder).mkdir(parents=True, exist_ok=True)
                segment_files.sweep(folder / source.folder)
            before = self._count(table)
            days = []
            for day in self._days(sources[0], int(older_than) // DAY_SECONDS):
                first, second = (self._move(source, day, folder) for source in sources)
                days.append(describe(_name(day), first, second))
            after = self._count(table)
        moved = sum(day.moved for day in days)
        return SegmentReport(days=days, before=before, after=after, appended=after - before + moved)

    def _count(self, table: sa.Table) -> int:
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()

    def _days(self, source: Source, end: int) -> list[int]:
        """Days before ``end`` that have rows in the source's table; each is found in the index of times."""
        found: list[int] = []
        times = times_of(source.key)
        with self._database.reading() as connection:
            while True:
                query = sa.select(sa.func.min(times))
                if found:
                    query = query.where(times >= (found[-1] + 1) * DAY_SECONDS)
                first = connection.execute(query).scalar_one()
                if first is None or first // DAY_SECONDS >= end:
                    return found
                found.append(int(first // DAY_SECONDS))

    def _move(self, source: Source, day: int, folder: Path) -> _Moved:
        path = folder / source.folder / f"{_name(day)}.parquet"
        keys, known = self._write(source, day, path)
        rows = segment_files.rows_in(path)
        if keys:
            self._forget(source, keys, path, rows)
        return _Moved(len(keys), known, rows)

    def _write(self, source: Source, day: int, path: Path) -> tuple[MutableSequence[Any], int]:
        """Brings a day's file up to date; returns the keys of what it holds, and how many rows of them it had."""
        keys = source.keys()
        with self._database.reading() as connection:
            if connection.execute(source.query(day).order_by(None).limit(1)).first() is None:
                return keys, 0
        # Before anything is written: whoever erases a person must know of it, and of what a killed run has left.
        with self._database.writing() as connection:
            connection.execute(insert(connection, schema.segments).on_conflict_do_nothing(), {"path": str(path)})
        step("announced")
        parts = [path] if path.exists() else []
        known, before = segment_files.known_events(path), segment_files.rows_in(path)
        found = new = 0

        def write(rows: list[Any]) -> None:
            nonlocal found, new
            table = segment_files.without_known(segment_files.table_of(rows), known)
            found, new = found + len(rows), new + table.num_rows
            if table.num_rows:
                parts.append(segment_files.temporary_of(path, len(parts)))
                segment_files.write_part(table, parts[-1])

        with self._database.reading() as connection:
            streaming = connection.execution_options(stream_results=True)
            waiting: list[Any] = []
            for chunk in streaming.execute(source.query(day)).partitions(_READ):
                for row in chunk:
                    keys.append(row[0])
                    waiting += source.rows(row[1:])
                    if len(waiting) >= _CHUNK:
                        write(waiting)
                        waiting = []
            if waiting:
                write(waiting)
        step("parts")
        if new:
            temporary = segment_files.temporary_of(path)
            segment_files.merge(parts, temporary)
            if (written := segment_files.rows_in(temporary)) != before + new:
                raise SegmentError(
                    f"{temporary} has {written:,} rows instead of {before + new:,}. Remedy: nothing was deleted; check "
                    "the disk and run it again."
                )
            step("written")
            segment_files.publish(temporary, path)
            step("renamed")
            segment_files.sweep(path.parent)
        return keys, found - new

    def _forget(self, source: Source, keys: MutableSequence[Any], path: Path, rows: int) -> None:
        """Deletes what is in a file from its table, in parts between which others can write."""
        with self._database.writing() as connection:
            upsert(connection, schema.segments, [{"path": str(path), "rows": rows}], ["rows"])
        step("recorded")
        for part in parts_of(keys):
            with self._database.writing() as connection:
                delete = sa.delete(source.key.table).where(source.key.in_(list(part)))
                deleted = connection.execute(delete).rowcount
                if deleted != len(part):
                    raise SegmentError(
                        f"{len(part) - deleted:,} rows left the table while {path} was written. Remedy: run it again."
                    )
            step("deleted")


def segment_paths(connection: sa.Connection, *, sweep: bool = False) -> list[Path]:
    """Files of moved events and answers that are there.

    Args:
        connection: In a transaction.
        sweep: Whether to remove what a killed run has left next to them; only under `SEGMENTS_LOCK`.

    Raises:
        SegmentError: A folder is missing, so that its files are out of reach.
    """
    found: list[Path] = []
    folders: set[Path] = set()
    for text in connection.execute(sa.select(_segments.path).order_by(_segments.path)).scalars():
        path = Path(text)
        if not path.parent.is_dir():
            raise SegmentError(
                f"{path} is out of reach, and may hold events of the person. Remedy: do it on the machine that moved "
                "the events, or mount the folder at the same path."
            )
        # A file that its owner has removed has nothing to erase.
        if path.exists():
            found.append(path)
        folders.add(path.parent)
    if sweep:
        for folder in folders:
            segment_files.sweep(folder)
    return found


def _name(day: int) -> str:
    return str(datetime.date(1970, 1, 1) + datetime.timedelta(days=day))
