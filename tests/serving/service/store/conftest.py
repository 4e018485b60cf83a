"""Open stores, and calls that wait."""

import importlib
import threading
from collections.abc import Callable, Iterator

import pytest

from serving.service.store import Store, open_store, segments
from tests.serving.service.store.stopping import KillAt, Killed


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> KillAt:
    """Lets moving rows to files fail with `Killed` at a step, when it is reached for the given time."""

    def patch(step: str, place: int) -> None:
        reached = 0

        def stop(name: str) -> None:
            nonlocal reached
            reached += name == step
            if name == step and reached == place:
                raise Killed

        monkeypatch.setattr(segments, "step", stop)

    return patch


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[threading.Event, threading.Event]]:
    """Makes the next call of a function wait: returns events of its being reached and of being let go."""

    def patch(name: str) -> tuple[threading.Event, threading.Event]:
        reached, go_on, first = threading.Event(), threading.Event(), threading.Lock()
        module, _, function = name.rpartition(".")
        usual = getattr(importlib.import_module(module), function)

        def waiting(*arguments: object) -> object:
            if first.acquire(blocking=False):
                reached.set()
                assert go_on.wait(60)
            return usual(*arguments)

        monkeypatch.setattr(name, waiting)
        return reached, go_on

    return patch
