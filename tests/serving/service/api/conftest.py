"""A service in this process, on an empty store in SQLite."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.service.store import open_store
from tests.serving.service.api.inside import Inside, add_keys


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A store that has only keys, and role -> key."""
    path = tmp_path_factory.mktemp("api") / "empty.db"
    with open_store(f"sqlite:///{path}") as store:
        return path, add_keys(store)


@pytest.fixture
def service(empty: tuple[Path, dict[str, str]], tmp_path: Path) -> Iterator[Inside]:
    """A service with the default options."""
    shutil.copy(empty[0], tmp_path / "store.db")
    with Inside(tmp_path / "store.db", empty[1]) as inside:
        yield inside


@pytest.fixture(scope="module")
def shared(empty: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A service for tests that don't care what is in the store."""
    path = tmp_path_factory.mktemp("shared") / "store.db"
    shutil.copy(empty[0], path)
    with Inside(path, empty[1], key_limit="1000000/minute", address_limit="1000000/minute") as inside:
        yield inside


@pytest.fixture
def store_file(empty: tuple[Path, dict[str, str]], tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A store for a service of the test's own, and the keys in it."""
    shutil.copy(empty[0], tmp_path / "store.db")
    return tmp_path / "store.db", empty[1]
