"""Stores."""

from collections.abc import Iterator

import pytest

from serving.service.store import Store, open_store


@pytest.fixture
def store(sqlite: str) -> Iterator[Store]:
    """An empty store of this test alone."""
    with open_store(sqlite) as opened:
        yield opened
