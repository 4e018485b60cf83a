"""Drives versions through load, service and unload, and hands out counted handles to them."""

import contextlib
import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from serving.server.errors import StatusError, from_exception, not_found
from serving.server.policies import Action, TransitionPolicy, VersionSnapshot
from serving.server.source import StoragePath
from serving.server.states import ManagerState, ServableState, ServableStateMonitor

_LOGGER = logging.getLogger(__name__)
S_co = TypeVar("S_co", covariant=True)
S = TypeVar("S")


class Loader(Protocol[S_co]):
    """Owns one servable: its making and its end."""

    @property
    def servable(self) -> S_co:
        """What was loaded."""
        ...

    def load(self) -> None:
        """Makes the servable ready to answer."""
        ...

    def unload(self) -> None:
        """Gives everything back; called once nothing uses the servable."""
        ...


class _Phase(enum.Enum):
    NEW = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()
    LEAVING = enum.auto()  # takes no new requests; running ones finish, then it is unloaded
    DONE = enum.auto()  # unloaded, or failed to load


class _Harness(Generic[S]):
    """One version with everything the manager notes about it; guarded by the manager's lock."""

    def __init__(self, name: str, version: int, loader: Loader[S]) -> None:
        self.name = name
        self.version = version
        self.loader = loader
        self.phase = _Phase.NEW
        self.is_aspired = True
        self.users = 0
        self.no_retry = threading.Event()

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class AspiredVersionsManager(Generic[S]):
    """Makes the versions that a source aspires to available, in the order that a policy gives.

    Requests hold a version by ``acquire``; a version that is no longer wanted takes no new request, is
    unloaded when its last one has ended, and only then counts as gone. Thread-safe.

    Args:
        make_loader: (model name, storage path) -> a loader that has not loaded yet.
        policy: the order of loads and unloads.
        monitor: where states are published.
        max_num_load_retries: attempts after a first failed load.
        load_retry_interval: seconds between them.
    """

    def __init__(
        self,
        make_loader: Callable[[str, StoragePath], Loader[S]],
        policy: TransitionPolicy,
        monitor: ServableStateMonitor,
        max_num_load_retries: int = 5,
        load_retry_interval: float = 60.0,
    ) -> None:
        self._make_loader = make_loader
        self._policy = policy
        self._monitor = monitor
        self._max_num_load_retries = max_num_load_retries
        self._load_retry_interval = max(load_retry_interval, 0.0)
        # Also the lock of every harness; notified when a harness loses its last user or changes phase.
        self._changed = threading.Condition()
        self._harnesses: dict[str, dict[int, _Harness[S]]] = {}
        self._stopping = False

    @contextlib.contextmanager
    def acquire(self, name: str, version: int | None = None) -> Iterator[tuple[int, S]]:
        """Lends a servable, which stays loaded inside the ``with`` block.

        Args:
            name: the model.
            version: a certain version; None takes the highest that is available.

        Yields:
            (version, servable).

        Raises:
            StatusError: NOT_FOUND when there is no such model or version available.
        """
        harness = self._enter(name, version)
        try:
            yield harness.version, harness.loader.servable
        finally:
            with self._changed:
                harness.users -= 1
                if harness.users == 0 and harness.phase is _Phase.LEAVING:
                    self._changed.notify_all()

    def set_aspired_versions(self, name: str, versions: Sequence[StoragePath]) -> None:
        """Takes the complete list of versions of ``name`` that should be served.

        A version that is just being unloaded can't be aspired to again before it is gone; the source's
        next report brings it back.
        """
        with self._changed:
            if self._stopping:
                return
            harnesses = self._harnesses.setdefault(name, {})
            wanted = {storage.version: storage for storage in versions}
            for harness in list(harnesses.values()):
                harness.is_aspired = harness.version in wanted
                if harness.is_aspired:
                    continue
                harness.no_retry.set()
                if harness.phase is _Phase.NEW:
                    self._publish(harness, ManagerState.END)
                if harness.phase in (_Phase.NEW, _Phase.DONE):
                    del harnesses[harness.version]
            for version, storage in wanted.items():
                if version not in harnesses:
                    harness = _Harness(name, version, self._make_loader(name, storage))
                    harnesses[version] = harness
                    self._publish(harness, ManagerState.START)
            self._act(name)

    def stop(self, timeout: float) -> bool:
        """Unloads everything, letting running requests finish first.

        Args:
            timeout: seconds to wait for loads, requests and unloads that are under way.

        Returns:
            Whether all versions are gone.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._stopping = True
            for harnesses in self._harnesses.values():
                for harness in harnesses.values():
                    harness.is_aspired = False
                    harness.no_retry.set()
            for name in self._harnesses:
                self._act(name)
            return self._changed.wait_for(self._is_idle, max(deadline - time.monotonic(), 0.0))

    def _is_idle(self) -> bool:
        return all(
            harness.phase in (_Phase.NEW, _Phase.DONE)
            for harnesses in self._harnesses.values()
            for harness in harnesses.values()
        )

    def _enter(self, name: str, version: int | None) -> _Harness[S]:
        with self._changed:
            harnesses = self._harnesses.get(name, {})
            if version is None:
                ready = [v for v, harness in harnesses.items() if harness.phase is _Phase.READY]
                harness = harnesses[max(ready)] if ready else None
            else:
                harness = harnesses.get(version)
                harness = harness if harness is not None and harness.phase is _Phase.READY else None
            if harness is None:
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise not_found(f"Servable not found for request: {wanted}")
            harness.users += 1
            return harness

    def _act(self, name: str) -> None:
        """Starts every action that the policy wants now. The lock is held."""
        harnesses = self._harnesses[name]
        while True:
            action = self._policy.next_action(
                [
                    VersionSnapshot(h.version, h.phase is _Phase.NEW, h.phase is _Phase.READY, h.is_aspired)
                    for h in harnesses.values()
                ]
            )
            if action is None:
                return
            kind, version = action
            harness = harnesses[version]
            if kind is Action.LOAD:
                harness.phase = _Phase.LOADING
                self._publish(harness, ManagerState.LOADING)
                target = self._load
            else:
                harness.phase = _Phase.LEAVING
                self._publish(harness, ManagerState.UNLOADING)
                target = self._unload
            # A thread each: a load that waits for its next try must not hold up other models.
            threading.Thread(target=target, args=(harness,), name=f"{kind.value}-{version}", daemon=True).start()

    def _load(self, harness: _Harness[S]) -> None:
        error = self._try_load(harness)
        with self._changed:
            harness.phase = _Phase.READY if error is None else _Phase.DONE
            if error is None:
                _LOGGER.info("Successfully loaded servable version %s", harness)
                self._publish(harness, ManagerState.AVAILABLE)
            elif harness.no_retry.is_set():
                # Given up because it was not wanted any more, which is no fault. Should it be wanted again by
                # now, the source's next report makes a fresh start.
                _LOGGER.info("Load cancelled for servable version %s after: %s", harness, error)
                self._publish(harness, ManagerState.END)
                del self._harnesses[harness.name][harness.version]
            else:
                _LOGGER.error("Servable %s cannot be loaded: %s", harness, error)
                self._publish(harness, ManagerState.END, error)
            self._act(harness.name)
            self._changed.notify_all()

    def _try_load(self, harness: _Harness[S]) -> StatusError | None:
        tries = self._max_num_load_retries + 1
        for attempt in range(1, tries + 1):
            try:
                harness.loader.load()
            except Exception as exception:
                error = from_exception(exception)
            else:
                return None
            if attempt == tries or harness.no_retry.is_set():
                break
            _LOGGER.error(
                "Servable %s load failure (attempt %d of %d, next in %g s): %s",
                harness,
                attempt,
                tries,
                self._load_retry_interval,
                error,
            )
            self._publish(harness, ManagerState.LOADING, error)
            if harness.no_retry.wait(self._load_retry_interval):
                break
        return error

    def _unload(self, harness: _Harness[S]) -> None:
        with self._changed:
            _LOGGER.info("Quiescing servable version %s, %d requests in flight", harness, harness.users)
            self._changed.wait_for(lambda: harness.users == 0)
        try:
            harness.loader.unload()
        except Exception:
            _LOGGER.exception("Servable %s did not unload cleanly", harness)
        _LOGGER.info("Done unloading servable version %s", harness)
        with self._changed:
            harness.phase = _Phase.DONE
            self._publish(harness, ManagerState.END)
            del self._harnesses[harness.name][harness.version]
            self._changed.notify_all()

    def _publish(self, harness: _Harness[S], state: ManagerState, error: StatusError | None = None) -> None:
        self._monitor.publish(harness.name, harness.version, ServableState(state, error))
