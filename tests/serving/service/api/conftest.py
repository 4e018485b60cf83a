"""A service in this process, on an empty store in SQLite or, in modules marked with `BOTH`, in PostgreSQL too."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from serving.service.options import SECRET_VARIABLE
from serving.service.store import open_store
from tests.serving.service.api.inside import EmptyStore, Inside, add_keys
from tests.serving.service.databases import copy_of, execute

_TEMPLATE = "store_with_keys"
MakeStore = Callable[[Path], AbstractContextManager[EmptyStore]]


@pytest.fixture(scope="session")
def database(request: pytest.FixtureRequest) -> str:
    """Which one: SQLite, if the test doesn't say."""
    name: str = getattr(request, "param", "sqlite")
    return name


@pytest.fixture(scope="session")
def sqlite_stores(tmp_path_factory: pytest.TempPathFactory) -> MakeStore:
    """Makes stores with only keys, in files of a folder."""
    template = tmp_path_factory.mktemp("api") / "empty.db"
    with open_store(f"sqlite:///{template}") as store:
        keys = add_keys(store)

    @contextlib.contextmanager
    def make(folder: Path) -> Iterator[EmptyStore]:
        shutil.copy(template, folder / "store.db")
        yield EmptyStore(f"sqlite:///{folder / 'store.db'}", keys)

    return make


@pytest.fixture(scope="session")
def postgresql_stores(postgresql_url: str) -> MakeStore:
    """Makes stores with only keys."""
    execute(postgresql_url.format("postgres"), f"CREATE DATABASE {_TEMPLATE} TEMPLATE empty_store")
    with open_store(postgresql_url.format(_TEMPLATE)) as store:
        keys = add_keys(store)

    @contextlib.contextmanager
    def make(folder: Path) -> Iterator[EmptyStore]:
        # Replicas share the secret; SQLite's is in a file next to the store.
        with pytest.MonkeyPatch.context() as patch, copy_of(_TEMPLATE, postgresql_url) as url:
            patch.setenv(SECRET_VARIABLE, "a" * 64)
            yield EmptyStore(url, keys)

    return make


@pytest.fixture(scope="session")
def stores(request: pytest.FixtureRequest, database: str) -> MakeStore:
    """Makes stores with only keys in the database."""
    found: MakeStore = request.getfixturevalue(f"{database}_stores")
    return found


@pytest.fixture
def empty_store(stores: MakeStore, tmp_path: Path) -> Iterator[EmptyStore]:
    """A store for a service of the test's own, and the keys in it."""
    with stores(tmp_path) as made:
        yield made


@pytest.fixture
def service(empty_store: EmptyStore) -> Iterator[Inside]:
    """A service with the default options."""
    with Inside(*empty_store) as inside:
        yield inside


@pytest.fixture(scope="module")
def shared(stores: MakeStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A service for tests that don't care what is in the store."""
    limit = "1000000/minute"
    with (
        stores(tmp_path_factory.mktemp("shared")) as made,
        Inside(*made, key_limit=limit, address_limit=limit) as inside,
    ):
        yield inside
