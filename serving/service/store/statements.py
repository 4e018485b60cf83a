"""Inserts of many rows that both databases do in few statements."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

_PARAMETERS: Final = 5_000
_T = TypeVar("_T")
Insert = postgresql.Insert | sqlite.Insert


def insert(connection: sa.Connection, table: sa.Table) -> Insert:
    """An insert with ``ON CONFLICT``, which the databases write alike."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def keep(statement: Insert) -> Insert:
    """What is there stays as it is."""
    return statement.on_conflict_do_nothing()


def insert_many(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    on_conflict: Callable[[Insert], Insert],
    *returning: sa.Column[Any],
) -> Sequence[sa.Row[Any]]:
    """Inserts rows in one statement or a few.

    Args:
        connection: In a transaction.
        table: Without binary columns in ``rows``.
        rows: All with the same columns; in the order of their keys, so that two transactions never wait for each other.
        on_conflict: Adds the clause.
        returning: Columns of the rows that were inserted or changed; at least one.
    """
    statement = insert(connection, table)
    if connection.dialect.name == "sqlite":
        return connection.execute(on_conflict(statement).returning(*returning), rows).all()
    # One parameter instead of ten thousand, which take PostgreSQL and its driver several times as long.
    names = list(rows[0])
    source = sa.func.json_to_recordset(sa.cast(sa.bindparam("rows"), sa.Text).cast(sa.JSON)).table_valued(
        *(sa.column(name, table.c[name].type) for name in names)
    )
    source = source.render_derived(name="source", with_types=True)
    statement = statement.from_select(names, sa.select(*(source.c[name] for name in names)))
    text = msgspec.json.encode(rows).decode()
    return connection.execute(on_conflict(statement).returning(*returning), {"rows": text}).all()


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    changes: Sequence[str],
    older: sa.Column[Any] | None = None,
) -> None:
    """Inserts rows, or sets the columns ``changes`` of those that are there.

    Rows are taken in the order of their keys, so that two transactions never wait for each other.

    Args:
        connection: In a transaction.
        table: With a primary key.
        rows: No two of the same key.
        changes: Names of columns.
        older: A row with a larger value in this column stays as it is.
    """
    if not rows:
        return
    key = [column.name for column in table.primary_key]
    statement = insert(connection, table)
    new = {name: statement.excluded[name] for name in changes}
    where = None if older is None else older <= statement.excluded[older.name]
    # RETURNING makes SQLAlchemy send many rows in a statement.
    connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_=new, where=where).returning(table.c[key[0]]),
        sorted(rows, key=lambda row: tuple(row[name] for name in key)),
    )


def parts_of(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Values in parts of which each fits into a statement."""
    for start in range(0, len(values), _PARAMETERS):
        yield values[start : start + _PARAMETERS]
