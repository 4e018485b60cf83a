"""Empty stores in both databases."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness.postgresql import postgresql_programs, postgresql_server
from serving.service.store import open_store
from tests.serving.service.databases import copy_of, execute

_TEMPLATE = "empty_store"


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a PostgreSQL server, with {} in the place of a database's name; one has an empty store."""
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
def postgresql(postgresql_url: str) -> Iterator[str]:
    """The URL of an empty store."""
    with copy_of(_TEMPLATE, postgresql_url) as url:
        yield url


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
