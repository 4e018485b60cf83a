"""The state of every version that the server has handled."""

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass

from serving.server.errors import StatusError


class ManagerState(enum.IntEnum):
    """The lifecycle states of a version; the numbers are those of ``ModelVersionStatus.State``."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class ServableState:
    """A version's lifecycle state and its last error.

    An error with END means that loading failed for good; with LOADING, that it failed and is being retried
    (TensorFlow Serving shows no error then); with AVAILABLE, that the version keeps serving from its previous
    directory because the one it was moved to can't be loaded.
    """

    manager_state: ManagerState
    error: StatusError | None = None

    @property
    def error_is_final(self) -> bool:
        """Whether loading failed and is not retried."""
        return self.manager_state is ManagerState.END and self.error is not None


StateListener = Callable[[str, int, ServableState], None]


class ServableStateMonitor:
    """Keeps the latest state of every version, including versions that have ended. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, dict[int, ServableState]] = {}
        self._listeners: list[StateListener] = []

    def publish(self, name: str, version: int, state: ServableState) -> None:
        """Records a new state."""
        with self._changed:
            self._states.setdefault(name, {})[version] = state
            for listener in self._listeners:
                listener(name, version, state)
            self._changed.notify_all()

    def subscribe(self, listener: StateListener) -> None:
        """Registers ``listener``, called with (name, version, state) at every change, in order.

        It is called by the thread that made the change, so it must be quick and must not raise.
        """
        with self._changed:
            self._listeners.append(listener)

    def versions(self, name: str) -> dict[int, ServableState]:
        """States by version, highest version first; empty when no version was ever seen."""
        with self._changed:
            return dict(sorted(self._states.get(name, {}).items(), reverse=True))

    def all(self) -> dict[str, dict[int, ServableState]]:
        """All states ever seen, by model name and version."""
        with self._changed:
            return {name: self.versions(name) for name in sorted(self._states)}
