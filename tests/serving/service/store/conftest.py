"""Empty stores in both databases."""

import importlib
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.harness.postgresql import postgresql_programs, postgresql_server
from serving.service.store import Store, open_store

_names = (f"store{number}" for number in itertools.count())
_TEMPLATE = "empty_store"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server's database, with {} in the place of its name; there is an empty store in it."""
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine: neither initdb in the path nor /usr/lib/postgresql")
    # What is tested are our processes' deaths, not the server's.
    with postgresql_server(programs, {"fsync": "off", "max_connections": "60"}) as url:
        pattern = url.replace("/postgres?", "/{}?")
        execute(url, f"CREATE DATABASE {_TEMPLATE}")
        open_store(pattern.format(_TEMPLATE)).close()
        yield pattern


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store."""
    path = tmp_path_factory.mktemp("sqlite") / "empty.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def postgresql(server: str) -> Iterator[str]:
    """The URL of an empty store."""
    name = next(_names)
    execute(server.format("postgres"), f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield server.format(name)
    execute(server.format("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite(sqlite_file: Path, tmp_path: Path) -> str:
    """The URL of an empty store."""
    shutil.copy(sqlite_file, tmp_path / "store.db")
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The URLs of empty stores in both."""
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Runs a statement of SQL past the store; returns its rows."""
    engine = sa.create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[threading.Event, threading.Event]]:
    """Makes the next call of a function wait: returns events of its being reached and of being let go."""

    def patch(name: str) -> tuple[threading.Event, threading.Event]:
        reached, go_on, first = threading.Event(), threading.Event(), threading.Lock()
        module, _, function = name.rpartition(".")
        usual = getattr(importlib.import_module(module), function)

        def waiting(*arguments: object) -> object:
            if first.acquire(blocking=False):
                reached.set()
                assert go_on.wait(60)
            return usual(*arguments)

        monkeypatch.setattr(name, waiting)
        return reached, go_on

    return patch
