"""Stores and recommenders."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.service.store import Store, open_store


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recommender") / "empty.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(empty_file: Path, tmp_path: Path) -> Iterator[Store]:
    """An empty store of this test alone."""
    shutil.copy(empty_file, tmp_path / "store.db")
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened
