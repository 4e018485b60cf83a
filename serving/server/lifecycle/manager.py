"""Drives versions through load, service and unload, and hands out counted handles to them."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Generic, TypeVar

import grpc

from serving.server.errors import StatusError, from_exception, not_found
from serving.server.lifecycle.arrivals import Fate
from serving.server.lifecycle.harness import FailedLoader, Harness, Loader, Outcome, OutcomeOf, Phase, Serving
from serving.server.lifecycle.policies import Action, TransitionPolicy, VersionSnapshot
from serving.server.lifecycle.source import StoragePath
from serving.server.lifecycle.states import ManagerState, ServableState, ServableStateMonitor

_LOGGER = logging.getLogger(__name__)
S = TypeVar("S")


class Handle(Generic[S]):
    """Lends a servable inside a ``with`` block, yielding (version, servable); it stays loaded that long.

    Entering raises StatusError NOT_FOUND when the model or version is not available.
    """

    __slots__ = ("_harness", "_manager", "_name", "_version")

    def __init__(self, manager: "AspiredVersionsManager[S]", name: str, version: int | None) -> None:
        self._manager = manager
        self._name = name
        self._version = version

    def __enter__(self) -> tuple[int, S]:
        harness = self._harness = self._manager._enter(self._name, self._version)
        return harness.storage.version, harness.servable  # type: ignore[return-value]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager._leave(self._harness)


class AspiredVersionsManager(Generic[S]):
    """Makes a source's aspired versions available, in the order that a policy determines.

    Requests hold a version by ``acquire``; a version that is no longer wanted takes no new requests, is
    unloaded when its last one has ended, and only then counts as gone. Thread-safe.

    A version is identified by its number and directory: when the same number is aspired in another directory,
    the new one is loaded while the old one serves and replaces it without a gap (TensorFlow Serving keeps the
    old one).

    Args:
        make_loader: (model name, storage path) -> a loader that has not loaded yet.
        policy: the order of loads and unloads.
        monitor: where states are published.
        max_num_load_retries: retries after a failed load.
        load_retry_interval: seconds between them; a load that waits for its next attempt occupies no load thread.
        num_load_threads: concurrent loads; 0 means one, like TensorFlow Serving's manager thread.
        num_unload_threads: concurrent unloads, not counting versions that wait for their requests; 0 means one.
    """

    def __init__(
        self,
        make_loader: Callable[[str, StoragePath], Loader[S]],
        policy: TransitionPolicy,
        monitor: ServableStateMonitor,
        max_num_load_retries: int = 5,
        load_retry_interval: float = 60.0,
        num_load_threads: int = 0,
        num_unload_threads: int = 0,
    ) -> None:
        self._make_loader = make_loader
        self._policy = policy
        self._monitor = monitor
        self._max_num_load_retries = max_num_load_retries
        self._load_retry_interval = max(load_retry_interval, 0.0)
        # Guards everything below; `_changed` is notified when a harness changes phase or loses its last user.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._harnesses: dict[str, list[Harness[S]]] = {}
        self._aspired: dict[str, list[StoragePath]] = {}
        self._held: dict[str, Mapping[int, str]] = {}
        self._serving: dict[str, Serving[S]] = {}
        self._max_loading = max(num_load_threads, 1)
        self._max_unloading = max(num_unload_threads, 1)
        self._loading = 0
        self._unloading = 0
        self._watcher: Callable[[str, Mapping[int, S]], None] | None = None
        self._next_key = 0
        self._stopping = False

    def acquire(self, name: str, version: int | None = None) -> Handle[S]:
        """Lends a servable, which stays loaded inside the ``with`` block.

        Args:
            name: the model.
            version: a specific version; None takes the highest available one.

        Returns:
            A context manager yielding (version, servable); entering it raises StatusError NOT_FOUND when there
            is no such model or version available.
        """
        return Handle(self, name, version)

    def watch(self, serve: Callable[[str, Mapping[int, S]], None]) -> None:
        """Registers a watcher of the versions that answer requests: called now for all models, then for each change.

        The removal of a version is reported before it is unloaded.

        Args:
            serve: called with a model and its versions by number, ascending; must not call the manager.
        """
        with self._lock:
            self._watcher = serve
        self.notify()

    def notify(self) -> None:
        """Notifies the watcher of all models again."""
        with self._lock:
            for name in self._serving:
                self._notify(name)

    def available(self) -> dict[str, list[int]]:
        """The versions that answer requests, ascending, by model."""
        with self._lock:
            return {name: list(serving.by_version) for name, serving in self._serving.items() if serving.by_version}

    def wait_until(self, condition: Callable[[OutcomeOf], bool], timeout: float | None) -> bool:
        """Waits until ``condition`` holds, checking it after every change; returns its last value.

        Args:
            condition: called with a function (model name, storage path) -> ``Outcome``; must not call the manager.
            timeout: seconds; None waits forever.
        """
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._outcome), timeout)

    def wake(self) -> None:
        """Makes every ``wait_until`` check its condition again."""
        with self._changed:
            self._changed.notify_all()

    def error(self, name: str, storage: StoragePath) -> StatusError | None:
        """Why the last attempt to load a version directory failed, or None."""
        with self._lock:
            harness = self._find(name, storage)
            return harness.error if harness is not None else None

    def fate(self, name: str, storage: StoragePath) -> Fate:
        """The outcome for an aspired version directory."""
        with self._lock:
            harness = self._find(name, storage)
            if harness is None:
                return Fate.OPEN
            return Fate.READY if harness.phase is Phase.READY else Fate.FAILING if harness.error else Fate.OPEN

    def set_num_load_threads(self, count: int) -> None:
        """Sets the number of concurrent loads; 0 means one."""
        with self._changed:
            self._max_loading = max(count, 1)
            self._changed.notify_all()

    def set_aspired_versions(
        self, name: str, versions: Sequence[StoragePath], held: Mapping[int, str] | None = None
    ) -> None:
        """Sets the complete list of versions of ``name`` that should be served.

        A version that is being unloaded is loaded again once it is gone.

        Args:
            name: the model.
            versions: what to serve.
            held: other versions that are not ready to load, and what they wait for.
        """
        with self._changed:
            if self._stopping:
                return
            self._aspired[name] = list(versions)
            self._reconcile(name)
            self._show_held(name, held or {})

    def stop(self, timeout: float) -> bool:
        """Unloads everything, letting running requests finish first.

        Args:
            timeout: seconds to wait for loads, requests and unloads in progress.

        Returns:
            Whether all versions are gone.
        """
        with self._changed:
            self._stopping = True
            for name in self._harnesses:
                self._aspired[name] = []
                self._reconcile(name)
            return self._changed.wait_for(lambda: not any(self._harnesses.values()), max(timeout, 0.0))

    def _find(self, name: str, storage: StoragePath) -> Harness[S] | None:
        return next((h for h in self._harnesses.get(name, ()) if h.storage == storage), None)

    def _outcome(self, name: str, storage: StoragePath) -> Outcome:
        harness = self._find(name, storage)
        if harness is None:
            return Outcome.PENDING
        if harness.phase is Phase.READY:
            return Outcome.READY
        if harness.phase is Phase.DONE:
            return Outcome.FAILED
        return Outcome.RETRYING if harness.error is not None else Outcome.PENDING

    def _enter(self, name: str, version: int | None) -> Harness[S]:
        with self._lock:
            serving = self._serving.get(name)
            if serving is not None:
                harness = serving.latest if version is None else serving.by_version.get(version)
                if harness is not None:
                    harness.users += 1
                    return harness
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise not_found(f"Servable not found for request: {wanted}")

    def _leave(self, harness: Harness[S]) -> None:
        with self._lock:
            harness.users -= 1
            if harness.users == 0 and harness.phase is Phase.LEAVING:
                self._changed.notify_all()

    def _reconcile(self, name: str) -> None:
        """Brings the versions of a model in line with the aspired ones. The lock is held."""
        harnesses = self._harnesses.setdefault(name, [])
        wanted = self._aspired.get(name, [])
        for harness in list(harnesses):
            harness.is_aspired = harness.storage in wanted
            if harness.is_aspired:
                continue
            harness.cancelled = True
            if harness.phase is Phase.NEW:
                self._publish(harness, ManagerState.END)
            if harness.phase in (Phase.NEW, Phase.DONE):
                harnesses.remove(harness)
                self._republish_twin(harness)
        present = {harness.storage for harness in harnesses}
        for storage in wanted:
            if storage not in present:
                self._add(name, storage)
        self._act(name)
        self._changed.notify_all()

    def _add(self, name: str, storage: StoragePath) -> None:
        try:
            loader: Loader[S] = self._make_loader(name, storage)
        except Exception as exception:
            error = from_exception(exception)
            loader = FailedLoader(error)
        self._next_key += 1
        harness = Harness(name, storage, self._next_key, loader)
        self._harnesses[name].append(harness)
        self._publish(harness, ManagerState.START)

    def _act(self, name: str) -> None:
        """Starts every action that the policy requests now. The lock is held."""
        harnesses = {harness.key: harness for harness in self._harnesses[name]}
        while True:
            step = self._policy.next_action(
                [
                    VersionSnapshot(
                        h.version,
                        is_new=h.phase is Phase.NEW,
                        is_ready=h.phase is Phase.READY,
                        is_aspired=h.is_aspired,
                        is_done=h.phase is Phase.DONE,
                        key=h.key,
                    )
                    for h in harnesses.values()
                ]
            )
            if step is None:
                return
            action, snapshot = step
            harness = harnesses[snapshot.key]
            if action is Action.LOAD:
                harness.phase = Phase.LOADING
                self._publish(harness, ManagerState.LOADING)
                target = self._load
            else:
                self._begin_unload(harness)
                target = self._unload
            # A thread each, mostly asleep; how many work concurrently is limited separately. So a load that
            # waits for its next attempt, or an unload that waits for its last request, blocks nothing.
            threading.Thread(target=target, args=(harness,), name=f"{action.value}-{harness}", daemon=True).start()

    def _load(self, harness: Harness[S]) -> None:
        error = self._try_load(harness)
        with self._changed:
            if error is None and harness.is_aspired:
                harness.servable = harness.loader.servable
                harness.phase = Phase.READY
                harness.error = None
                self._update_serving(harness.name)
                _LOGGER.info("Successfully loaded servable version %s", harness)
                self._publish(harness, ManagerState.AVAILABLE)
                self._reconcile(harness.name)
                return
            if error is not None:
                if harness.cancelled:
                    # Given up because it was no longer wanted, which is not an error. If it is wanted again
                    # by now, start afresh.
                    _LOGGER.info("Load cancelled for servable version %s after: %s", harness, error)
                    self._publish(harness, ManagerState.END)
                    self._harnesses[harness.name].remove(harness)
                else:
                    _LOGGER.error("Servable %s cannot be loaded: %s", harness, error)
                    harness.phase = Phase.DONE
                    harness.error = error
                    self._publish(harness, ManagerState.END, error)
                self._reconcile(harness.name)
                return
            # Loaded in vain: it must not answer even one request, as it may have been removed for being faulty.
            _LOGGER.info("Load cancelled for servable version %s", harness)
            self._begin_unload(harness)
        self._unload(harness)

    def _try_load(self, harness: Harness[S]) -> StatusError | None:
        tries = self._max_num_load_retries + 1
        error: StatusError | None = None
        for attempt in range(1, tries + 1):
            with self._changed:
                self._changed.wait_for(lambda: harness.cancelled or self._loading < self._max_loading)
                if harness.cancelled:
                    return error or StatusError(grpc.StatusCode.CANCELLED, "no longer wanted")
                self._loading += 1
            try:
                _LOGGER.info("Loading servable version %s", harness)
                harness.loader.load()
            except Exception as exception:
                error = from_exception(exception)
            else:
                return None
            finally:
                with self._changed:
                    self._loading -= 1
                    self._changed.notify_all()
            if attempt == tries:
                break
            with self._changed:
                if harness.cancelled:
                    break
                _LOGGER.error(
                    "Servable %s load failure (attempt %d of %d, next in %g s): %s",
                    harness,
                    attempt,
                    tries,
                    self._load_retry_interval,
                    error,
                )
                harness.error = error
                self._publish(harness, ManagerState.LOADING, error)
                self._changed.notify_all()
                if self._changed.wait_for(lambda: harness.cancelled, self._load_retry_interval):
                    break
        return error

    def _begin_unload(self, harness: Harness[S]) -> None:
        harness.phase = Phase.LEAVING
        self._update_serving(harness.name)
        self._publish(harness, ManagerState.UNLOADING)

    def _unload(self, harness: Harness[S]) -> None:
        with self._changed:
            _LOGGER.info("Quiescing servable version %s, %d requests in flight", harness, harness.users)
            self._changed.wait_for(lambda: harness.users == 0)
            _LOGGER.info("Done quiescing servable version %s", harness)
            self._changed.wait_for(lambda: self._unloading < self._max_unloading)
            self._unloading += 1
            harness.servable = None
        try:
            harness.loader.unload()
        except Exception:
            _LOGGER.exception("Servable %s did not unload cleanly", harness)
        _LOGGER.info("Done unloading servable version %s", harness)
        with self._changed:
            self._unloading -= 1
            self._publish(harness, ManagerState.END)
            self._harnesses[harness.name].remove(harness)
            self._reconcile(harness.name)

    def _update_serving(self, name: str) -> None:
        self._serving[name] = Serving([h for h in self._harnesses[name] if h.phase is Phase.READY])
        self._notify(name)

    def _notify(self, name: str) -> None:
        if self._watcher is not None:
            versions = self._serving[name].by_version
            self._watcher(name, {version: h.servable for version, h in versions.items() if h.servable is not None})

    def _show_held(self, name: str, held: Mapping[int, str]) -> None:
        """Publishes what versions that are not aspired yet wait for. The lock is held."""
        present = {harness.version for harness in self._harnesses[name]}
        known = self._monitor.versions(name)
        for version in (self._held.get(name, {}).keys() - held.keys()) - present:
            self._monitor.publish(name, version, ServableState(ManagerState.END))
        for version in held.keys() - present:
            state = known.get(version)
            error = StatusError(grpc.StatusCode.UNAVAILABLE, held[version])
            if state is None or state.manager_state is not ManagerState.START or str(state.error) != str(error):
                self._monitor.publish(name, version, ServableState(ManagerState.START, error))
        self._held[name] = held

    def _republish_twin(self, harness: Harness[S]) -> None:
        """Clears the error that a failed move to another directory left on the version that answers."""
        for twin in self._harnesses[harness.name]:
            if twin.version == harness.version and twin.phase is Phase.READY:
                self._publish(twin, ManagerState.AVAILABLE)

    def _publish(self, harness: Harness[S], state: ManagerState, error: StatusError | None = None) -> None:
        twins = [h for h in self._harnesses[harness.name] if h.version == harness.version and h is not harness]
        if any(twin.phase is Phase.READY for twin in twins):
            # The version is being moved to another directory and keeps answering.
            state = ManagerState.AVAILABLE
        elif not harness.is_aspired and any(twin.is_aspired and twin.phase is not Phase.NEW for twin in twins):
            return  # the twin's state is that of the version
        self._monitor.publish(harness.name, harness.version, ServableState(state, error))
