"""SIGINT and SIGTERM as an exception, which training defers to the end of its step."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interruption(KeyboardInterrupt):
    """The process was asked to stop.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    received: int | None = None
    deferring = False


_state = _State()


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Raises `Interruption` for SIGINT and SIGTERM inside the block; only the main thread receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.received, _state.deferring = None, False


@contextlib.contextmanager
def fatal() -> Iterator[None]:
    """A block in a library that waits without returning to Python: a signal ends the process, with nothing to save."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def received() -> int | None:
    """The last signal received inside `raised`, whether raised, deferred, or swallowed by a library."""
    return _state.received


@contextlib.contextmanager
def deferred_to_steps() -> Iterator[None]:
    """A block in which `defer` may be called; after it signals are raised again."""
    try:
        yield
    finally:
        _state.deferring = False
    check()


def defer() -> None:
    """Defers signals until `check`, so that they arrive between steps."""
    _state.deferring = True


def check() -> None:
    """Raises the deferred signal, if any."""
    if _state.received is not None:
        raise Interruption(_state.received)


@contextlib.contextmanager
def immediate() -> Iterator[None]:
    """A long part of a deferred block that may be interrupted anywhere."""
    check()
    before, _state.deferring = _state.deferring, False
    try:
        yield
    finally:
        _state.deferring = before


def _on_signal(number: int, frame: FrameType | None) -> None:
    _state.received = number
    if not _state.deferring:
        raise Interruption(number)
