"""Fixtures of the tests of sources."""

from pathlib import Path

import pytest


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for prepared datasets."""
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
