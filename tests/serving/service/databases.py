"""Databases for tests: what they have in common."""

import contextlib
import itertools
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
"""Runs a test, or all of a module, on both databases; each must use a service or a store of `database`."""
_numbers = itertools.count()


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Runs a statement of SQL past the store; returns its rows."""
    engine = sa.create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@contextlib.contextmanager
def copy_of(template: str, server: str) -> Iterator[str]:
    """The URL of a copy of a PostgreSQL database.

    Args:
        template: Its name; nobody is connected to it.
        server: The server's URL, with {} in the place of the name.
    """
    name = f"copy{next(_numbers)}"
    execute(server.format("postgres"), f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.format(name)
    execute(server.format("postgres"), f"DROP DATABASE {name} WITH (FORCE)")
