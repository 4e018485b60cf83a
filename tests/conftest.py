"""Fixtures that the whole suite shares."""

import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from trainer.files import cache_root  # importing trainer selects Keras 2 before TensorFlow is imported

# glibc raises the size from which it maps memory apart, up to 32 MB, when such memory is freed. Models that come and go
# then leave holes in its heaps: a gigabyte after some exports. A fixed threshold gives it back.
_M_MMAP_THRESHOLD = -3
if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
    mallopt(_M_MMAP_THRESHOLD, 1 << 20)

_REPOSITORY = Path(__file__).resolve().parent.parent

# A run of the tests draws the same examples on every machine, however slow: what fails, fails again. New examples are
# sought by `make fuzz` (--hypothesis-profile=random), which keeps those that failed in .hypothesis/.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile("fixed")


# A process that only imported TensorFlow and trained a small model has about as much.
_LARGE = 1_400_000_000


@pytest.fixture(scope="module", autouse=True)
def _memory_given_back() -> Iterator[None]:
    """Frees a file's models when it ends: garbage in cycles, and what malloc would keep."""
    yield
    if psutil.Process().memory_info().rss > _LARGE:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)


@pytest.fixture(scope="session")
def data_mirror() -> Path:
    """The folder of real datasets; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("BABELREC_DATA_MIRROR", _REPOSITORY.parent / "shared" / "datasets"))
    if not path.is_dir():
        pytest.skip(f"no real datasets at {path}; set BABELREC_DATA_MIRROR to their folder")
    return path.resolve()


@pytest.fixture(scope="session")
def cache() -> Path:
    """The user's own cache, so that the encoder is built and MovieLens is fetched once and not in every run.

    What lies there is addressed by content, so a test run can't spoil it. Tests of the cache itself set
    BABELREC_CACHE to a temporary folder.
    """
    path = cache_root()
    path.mkdir(parents=True, exist_ok=True)
    return path
