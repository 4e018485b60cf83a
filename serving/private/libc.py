"""Functions of the C library that Python doesn't offer."""

import ctypes
import functools
import signal
from collections.abc import Callable

from serving.private.interfaces import Interface

# prctl(2): a signal for this process when its parent ends, for any reason.
_PR_SET_PDEATHSIG = 1
# prctl(2), Linux 6.4: let the kernel's same-page merging find equal pages of this process and others.
_PR_SET_MEMORY_MERGE = 67


@functools.cache
def _function(name: str) -> Callable[..., int] | None:
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found


def signal_when_parent_ends(number: signal.Signals) -> None:
    """Makes the kernel send this process a signal when its parent has ended, on Linux."""
    prctl = _function("prctl")
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def merge_pages() -> bool:
    """Lets the kernel merge identical pages of this process and others; returns whether it accepts that."""
    prctl = _function("prctl")
    return prctl is not None and prctl(_PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0


def malloc_trim() -> Callable[[], object] | None:
    """The function that returns free memory to the system; None without glibc."""
    trim = _function("malloc_trim")
    return None if trim is None else functools.partial(trim, 0)


def _missing(name: str) -> Callable[[], list[str]]:
    return lambda: [] if _function(name) is not None else [name]


INTERFACES = (
    Interface(
        "the C library",
        "glibc 2.31 to 2.41",
        "to return memory after an unload",
        _missing("malloc_trim"),
        "Memory stays with the process",
    ),
    Interface(
        "the C library",
        "any on Linux",
        "by --workers",
        _missing("prctl"),
        "Workers outlive a killed parent, and share no pages",
    ),
)
