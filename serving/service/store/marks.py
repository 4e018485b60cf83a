"""Change feeds: numbers of changes, and marks up to which a replica has read.

SQLite has one writer at a time, so numbers are in the order of commits. PostgreSQL has many: a change with a smaller
number may become visible after one with a larger number, and a replica that has read the larger one would miss it.
There each row keeps the id of the transaction that wrote it, and a feed ends before the oldest transaction that is
still open: nothing can appear below that any more. Rows are ordered by (transaction, number).
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from serving.service.store import schema
from serving.service.store.database import Database
from serving.service.store.errors import InvalidError

# A call takes one number of the sequence, and counts its rows within it.
_ROWS = 1 << 16
_FEEDS = (schema.events, schema.items, schema.users, schema.deleted_users)
ROWS: Final = _ROWS - 1
"""Most changes of one transaction."""
_PATTERN = re.compile(r"([0-9a-f]{12})-(\d{1,19})-(\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where the changes of one transaction are in the feeds.

    Attributes:
        xid: The transaction; 0 in SQLite.
        first: Number before that of its first change.
    """

    xid: int
    first: int

    def number(self, place: int) -> int:
        """Of a change, by its place in the transaction from 0."""
        assert 0 <= place < ROWS
        return self.first + 1 + place


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the feeds: all before it, itself included, has been read."""

    xid: int
    number: int


def stamp(database: Database, connection: sa.Connection) -> Stamp:
    """Of a transaction that writes; each has one at most, and takes it before its first change."""
    if database.is_sqlite:
        counters = schema.counters
        statement = (
            sa.update(counters)
            .where(counters.c.name == "changes")
            .values(value=counters.c.value + 1)
            .returning(counters.c.value)
        )
        return Stamp(0, connection.execute(statement).scalar_one() * _ROWS)
    row = connection.execute(sa.select(_bigint(sa.func.pg_current_xact_id()), schema.change_numbers.next_value())).one()
    return Stamp(row[0], row[1] * _ROWS)


def latest(database: Database) -> str:
    """The mark of now."""
    with database.reading() as connection:
        if database.is_sqlite:
            # The last number that the last transaction may have used.
            mark = Mark(0, connection.execute(sa.select(schema.counters.c.value)).scalar_one() * _ROWS + _ROWS - 1)
        else:
            mark = Mark(connection.execute(sa.select(_oldest_open())).scalar_one(), 0)
        return _text(_store_id(connection), mark)


def rows_after(
    database: Database, table: sa.Table, text: str, limit: int, *conditions: sa.ColumnElement[bool]
) -> tuple[list[sa.Row[Any]], str]:
    """Rows of a table after a mark, and the mark of the last one."""
    with database.reading() as connection:
        store_id = _store_id(connection)
        mark = _parse(store_id, text)
        query = sa.select(table).where(*conditions).limit(limit)
        if database.is_sqlite and table is schema.events:
            query = query.where(table.c.number > mark.number).order_by(table.c.number)
        else:
            query = query.where(_is_after(table, mark)).order_by(table.c.xid, table.c.number)
        if not database.is_sqlite:
            query = query.where(table.c.xid < _oldest_open())
        rows = list(connection.execute(query))
        return rows, _text(store_id, Mark(rows[-1].xid, rows[-1].number) if rows else mark)


def is_after(connection: sa.Connection, table: sa.Table, text: str) -> sa.ColumnElement[bool]:
    """A condition for the rows of a table that a reader who has come to a mark has not seen."""
    return _is_after(table, _parse(_store_id(connection), text))


def renumber_restored(database: Database, connection: sa.Connection) -> bool:
    """In a database that was restored into a server whose transaction ids are lower, begins the feeds anew.

    Its rows seem to come from transactions of the future, and no feed would show them for a long time. Marks of
    before are void.

    Returns:
        Whether it was so.
    """
    if database.is_sqlite or not is_from_another_server(connection):
        return False
    for table in _FEEDS:
        connection.execute(sa.update(table).values(xid=0))
    connection.execute(
        sa.update(schema.meta)
        .where(schema.meta.c.name == "store_id")
        .values(value=sa.func.substr(sa.func.md5(sa.cast(sa.func.gen_random_uuid(), sa.Text)), 1, 12))
    )
    return True


def is_from_another_server(connection: sa.Connection) -> bool:
    """Whether PostgreSQL has rows of transactions that are yet to come."""
    end = _bigint(sa.func.pg_snapshot_xmax(sa.func.pg_current_snapshot()))
    # A transaction that began after this snapshot can't have shown it a row.
    found = [sa.exists().where(table.c.xid >= end) for table in _FEEDS]
    return bool(connection.execute(sa.select(sa.or_(*found))).scalar_one())


def _is_after(table: sa.Table, mark: Mark) -> sa.ColumnElement[bool]:
    return sa.tuple_(table.c.xid, table.c.number) > sa.tuple_(mark.xid, mark.number)


def _oldest_open() -> sa.ColumnElement[int]:
    return _bigint(sa.func.pg_snapshot_xmin(sa.func.pg_current_snapshot()))


def _bigint(xid: "sa.ColumnElement[Any]") -> sa.ColumnElement[int]:
    # PostgreSQL casts xid8 to text only.
    return sa.cast(sa.cast(xid, sa.Text), sa.BigInteger)


def _text(store_id: str, mark: Mark) -> str:
    return f"{store_id}-{mark.xid}-{mark.number}"


def _parse(store_id: str, text: str) -> Mark:
    if not text:
        return Mark(0, 0)
    found = _PATTERN.fullmatch(text)
    if found is None or found[1] != store_id:
        raise InvalidError(
            f"{text[:80]!r} is no mark of this store. Remedy: begin with `latest_mark()`, or with an empty one for "
            "everything."
        )
    return Mark(int(found[2]), int(found[3]))


def _store_id(connection: sa.Connection) -> str:
    meta = schema.meta
    return str(connection.execute(sa.select(meta.c.value).where(meta.c.name == "store_id")).scalar_one())
