"""Fixtures that the whole suite shares."""

import os
from pathlib import Path

import pytest

import trainer  # noqa: F401  (selects Keras 2 before any test imports TensorFlow)

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_mirror() -> Path:
    """The folder of real datasets; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("BABELREC_DATA_MIRROR", _REPOSITORY.parent / "shared" / "datasets"))
    if not path.is_dir():
        pytest.skip(f"no real datasets at {path}; set BABELREC_DATA_MIRROR to their folder")
    return path.resolve()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that the code under test uses.

    It is the user's own when $BABELREC_CACHE names one, so that the encoder is built and MovieLens is fetched
    once and not in every run of the suite.
    """
    path = Path(os.environ.setdefault("BABELREC_CACHE", str(_REPOSITORY / ".cache")))
    path.mkdir(parents=True, exist_ok=True)
    return path
