"""Models by configuration: config -> source -> manager -> monitor, and requests to versions.

The counterpart of TensorFlow Serving's ``ServerCore`` (``model_servers/server_core.cc``): which
configurations are accepted, with which messages they are refused, and how labels are resolved.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from serving.protos import logging_config_pb2, model_pb2, model_server_config_pb2
from serving.server.errors import StatusError, invalid_argument
from serving.server.lifecycle.arrivals import Arrivals, Check, Fate
from serving.server.lifecycle.harness import Loader, Outcome, OutcomeOf
from serving.server.lifecycle.manager import AspiredVersionsManager, Handle
from serving.server.lifecycle.model_configs import local_path, same_source, validated
from serving.server.lifecycle.policies import AvailabilityPreserving, TransitionPolicy, version_policy
from serving.server.lifecycle.source import FileSystemSource, Held, StoragePath, WatchedModel
from serving.server.lifecycle.states import ManagerState, ServableStateMonitor

_LOGGER = logging.getLogger(__name__)
S = TypeVar("S")
_LIST = "model_config_list"
_MARGIN_SHARE, _LONGEST_MARGIN_SECONDS = 0.1, 1.0
_Labels = Mapping[str, Mapping[str, int]]

# (model name, version directory, ModelConfig) -> a loader that has not loaded yet.
LoaderFactory = Callable[[str, StoragePath, Any], Loader[S]]


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """Settings that don't change while the server runs.

    Attributes:
        transition_policy: the order of loads and unloads.
        max_num_load_retries: retries after a failed load.
        load_retry_interval: seconds between them.
        num_load_threads: concurrent loads after the first configuration's; 0 means one.
        num_initial_load_threads: concurrent loads for the first configuration.
        num_unload_threads: concurrent unloads; 0 means one.
        file_system_poll_wait_seconds: pause between polls for new versions; 0 polls once for each configuration.
        servable_versions_always_present: treat an empty base path as a mistake, and change nothing.
        allow_version_labels_for_unavailable_models: let a new label point to a version that is not available.
        platforms: the ``model_platform``s that can be loaded.
        check: reports what a version directory lacks; None: every version is loaded.
    """

    transition_policy: TransitionPolicy = field(default_factory=AvailabilityPreserving)
    max_num_load_retries: int = 5
    load_retry_interval: float = 60.0
    num_load_threads: int = 0
    num_initial_load_threads: int = 4
    num_unload_threads: int = 0
    file_system_poll_wait_seconds: float = 1.0
    servable_versions_always_present: bool = False
    allow_version_labels_for_unavailable_models: bool = False
    platforms: Collection[str] = ("tensorflow",)
    check: Check | None = None


class ServerCore(Generic[S]):
    """Serves the models of its current ``ModelServerConfig``. Thread-safe.

    Args:
        make_loader: (model name, storage path, the model's ModelConfig) -> a loader that has not loaded yet.
        options: see ``CoreOptions``.
    """

    def __init__(self, make_loader: LoaderFactory[S], options: CoreOptions | None = None) -> None:
        self._options = options = options or CoreOptions()
        self._make_loader = make_loader
        self.monitor = ServableStateMonitor()
        self.manager: AspiredVersionsManager[S] = AspiredVersionsManager(
            self._new_loader,
            options.transition_policy,
            self.monitor,
            options.max_num_load_retries,
            options.load_retry_interval,
            options.num_initial_load_threads,
            options.num_unload_threads,
        )
        self._source = FileSystemSource(
            [],
            options.file_system_poll_wait_seconds,
            self._set_aspired_versions,
            servable_versions_always_present=options.servable_versions_always_present,
            complain=lambda _: self.manager.wake(),
            arrivals=Arrivals(options.check, self._fate),
            hold=self._hold,
        )
        # Model -> the versions that the source holds back.
        self._held: dict[str, Held] = {}
        # One configuration change at a time. The attributes below are replaced as a whole, never changed, so that
        # requests can read them without a lock.
        self._reloading = threading.Lock()
        self._config = model_server_config_pb2.ModelServerConfig()
        self._models: dict[str, model_server_config_pb2.ModelConfig] = {}
        self._labels: _Labels = {}
        # Of all models ever configured.
        self._base_paths: dict[str, str] = {}
        # Model -> the versions last reported by the source for its current configuration.
        self._reported: dict[str, Sequence[StoragePath]] = {}

    @property
    def config(self) -> model_server_config_pb2.ModelServerConfig:
        """The ``ModelServerConfig`` in force; not to be changed."""
        return self._config

    def acquire(self, spec: model_pb2.ModelSpec) -> Handle[S]:
        """Lends the servable that a ``ModelSpec`` selects.

        Args:
            spec: model name and, optionally, a version or a version label.

        Returns:
            A context manager yielding (version, servable). Entering it raises StatusError NOT_FOUND when the
            version, or any version of the model, is not available.

        Raises:
            StatusError: INVALID_ARGUMENT when the name is missing or the label unknown.
        """
        name = spec.name
        if not name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            return self.manager.acquire(name)
        if choice == "version":
            return self.manager.acquire(name, spec.version.value)
        return self.manager.acquire(name, self._version_of_label(name, spec.version_label))

    def logging_config(self, model_name: str) -> logging_config_pb2.LoggingConfig | None:
        """The model's ``LoggingConfig``, or None."""
        model = self._models.get(model_name)
        return model.logging_config if model is not None and model.HasField("logging_config") else None

    def model_config(self, model_name: str) -> model_server_config_pb2.ModelConfig | None:
        """The model's ``ModelConfig`` in force, or None."""
        return self._models.get(model_name)

    def without_paths(self, model_name: str, text: str) -> str:
        """A text about a model with its base path replaced by the model's name."""
        base_path = self._base_paths.get(model_name)
        return text.replace(base_path, model_name) if base_path else text

    def watch(self, serve: Callable[[str, Mapping[int, S]], None]) -> None:
        """See ``AspiredVersionsManager.watch``; configuration changes are reported too."""
        self.manager.watch(serve)

    def start(
        self, config: model_server_config_pb2.ModelServerConfig, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Applies the first configuration and waits until each model has a version available.

        Waits without limit for a model whose base path holds no version, as in TensorFlow Serving.

        Args:
            config: a ``ModelServerConfig``.
            is_stopping: polled; the wait ends when it returns True.

        Raises:
            StatusError: the configuration is refused, or a model can't be loaded.
        """
        awaited = self._apply(config)
        self._source.start()
        while not self._wait(awaited, 0.2) and not is_stopping():
            pass
        self.manager.set_num_load_threads(self._options.num_load_threads)
        if not is_stopping():
            self._raise_unavailable(awaited, "servable(s)")

    def apply(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Changes the configuration without waiting for models to be loaded.

        Raises:
            StatusError: the configuration is refused; the previous one stays in force.
        """
        self._apply(config)

    def reload(self, config: model_server_config_pb2.ModelServerConfig, timeout: float | None = None) -> None:
        """Changes the configuration and waits until its new and changed models are available.

        Models that are left out are unloaded (without waiting for that). Changed base paths and version policies
        are applied too. A missing base path ends the wait, although the model is loaded once the path exists.

        Args:
            config: a ``ModelServerConfig`` with a ``model_config_list``.
            timeout: seconds that the caller waits; the answer comes a little earlier. None waits forever.

        Raises:
            StatusError: FAILED_PRECONDITION or INVALID_ARGUMENT when the configuration is refused, and the
                previous one stays in force. When it is in force but not all models are available: UNKNOWN when a
                model can't be loaded, DEADLINE_EXCEEDED when there is no time left, ABORTED when a later
                configuration has removed a model again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._reloading.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "another configuration change is in progress")
        try:
            awaited = self._apply_locked(config)
        finally:
            self._reloading.release()
        # An answer right at the deadline would be too late.
        left = None if deadline is None else max(deadline - time.monotonic() - _margin(timeout), 0.0)

        def is_missing(name: str, model: model_server_config_pb2.ModelConfig) -> bool:
            return self._models.get(name) == model and self._source.is_missing(name)

        def is_over(outcome: OutcomeOf) -> bool:
            return self._are_settled(awaited, outcome) or any(is_missing(name, m) for name, m in awaited.items())

        in_time = self.manager.wait_until(is_over, left)
        missing = [name for name, model in awaited.items() if is_missing(name, model)]
        if missing:
            raise StatusError(
                grpc.StatusCode.UNKNOWN,
                "the configuration is in force, but there is nothing to load: "
                + "; ".join(self._source.complaint(name) for name in sorted(missing)),
            )
        if not in_time:
            waiting = sorted(name for name, model in awaited.items() if not self._wait({name: model}, 0))
            complaints = [complaint for name in waiting if (complaint := self._source.complaint(name))]
            raise StatusError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "the configuration is in force, but these models are not available yet: "
                + ", ".join(waiting)
                + ". "
                + (" ".join(complaints) or "They are still loading, see GetModelStatus"),
            )
        if any(self._models.get(name) != model for name, model in awaited.items()):
            raise StatusError(grpc.StatusCode.ABORTED, "a later configuration has replaced this one")
        self._raise_unavailable(awaited, "model(s)")
        _LOGGER.info("Finished reloading config")

    def stop_watching(self) -> None:
        """Stops polling for versions; served versions stay."""
        self._source.stop()

    def stop(self, timeout: float) -> bool:
        """Unloads everything, letting running requests finish first.

        Returns:
            Whether all was unloaded within ``timeout`` seconds.
        """
        self._source.stop()
        return self.manager.stop(timeout)

    def _apply(
        self, config: model_server_config_pb2.ModelServerConfig
    ) -> dict[str, model_server_config_pb2.ModelConfig]:
        with self._reloading:
            return self._apply_locked(config)

    def _apply_locked(
        self, config: model_server_config_pb2.ModelServerConfig
    ) -> dict[str, model_server_config_pb2.ModelConfig]:
        """Puts a configuration in force; returns the ModelConfigs, by name, of the models to wait for."""
        old, new = self._config.WhichOneof("config"), config.WhichOneof("config")
        if old is not None and not old == new == _LIST:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
                "another.",
            )
        if new is None:
            _LOGGER.info("Taking no action for empty config.")
            return {}
        if new != _LIST:
            raise invalid_argument("ModelServer does not yet support custom model config.")
        models = validated(config.model_config_list.config, self._models, self._options.platforms)
        watched = [
            WatchedModel(name, local_path(name, model.base_path), version_policy(model.model_version_policy))
            for name, model in models.items()
        ]
        labels = self._new_labels(models)

        accepted = model_server_config_pb2.ModelServerConfig()
        accepted.CopyFrom(config)
        models = {model.name: model for model in accepted.model_config_list.config}
        _LOGGER.info("Adding/updating models.")
        for name in models:
            _LOGGER.info(" (Re-)adding model: %s", name)
        changed = {name: model for name, model in models.items() if not same_source(model, self._models.get(name))}

        def take_over() -> None:
            self._config, self._models, self._labels = accepted, models, labels
            self._base_paths |= {model.name: str(model.base_path) for model in watched}
            # Versions reported for the previous configuration say nothing about this one.
            for name in [*self._reported]:
                if name in changed or name not in models:
                    self._reported.pop(name)

        self._source.update(watched, take_over)
        self.manager.notify()
        self.manager.wake()
        return changed

    def _new_labels(self, models: Mapping[str, Any]) -> _Labels:
        labels: dict[str, dict[str, int]] = {}
        for name, model in models.items():
            states = self.monitor.versions(name)
            for label, version in model.version_labels.items():
                former = self._labels.get(name, {}).get(label, version)
                is_free = self._options.allow_version_labels_for_unavailable_models and former == version
                state = states.get(version)
                if not is_free and (state is None or state.manager_state is not ManagerState.AVAILABLE):
                    remedy = (
                        "give a version that is available, or start the server with "
                        "--allow_version_labels_for_unavailable_models, which lets new labels point to others"
                        if former == version and not self._options.allow_version_labels_for_unavailable_models
                        else "load that version first; a label that is in use can't be moved to one that is not there"
                    )
                    raise StatusError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {name}, "
                        f"which is not currently available for inference (label {label!r}). Remedy: {remedy}",
                    )
                labels.setdefault(name, {})[label] = version
        return labels

    def _version_of_label(self, name: str, label: str) -> int:
        version = self._labels.get(name, {}).get(label)
        if version is None:
            raise invalid_argument(f"Unrecognized servable version label: {label}")
        return version

    def _new_loader(self, name: str, storage: StoragePath) -> Loader[S]:
        return self._make_loader(name, storage, self._models[name])

    def _fate(self, name: str, version: int, path: Path) -> Fate:
        return self.manager.fate(name, StoragePath(version, path))

    def _hold(self, name: str, held: Held) -> None:
        self._held[name] = held

    def _set_aspired_versions(self, name: str, versions: Sequence[StoragePath]) -> None:
        held = self._held.get(name, Held())
        kept = [storage for storage in held.kept if storage not in versions]
        self.manager.set_aspired_versions(name, [*versions, *kept], held.reasons)
        if name in self._models:
            self._reported[name] = versions
        self.manager.wake()

    def _wait(self, awaited: Mapping[str, Any], timeout: float | None) -> bool:
        return self.manager.wait_until(lambda outcome: self._are_settled(awaited, outcome), timeout)

    def _are_settled(self, awaited: Mapping[str, Any], outcome: OutcomeOf) -> bool:
        return all(self._models.get(n) != m or self._is_settled(n, outcome) for n, m in awaited.items())

    def _is_settled(self, name: str, outcome: OutcomeOf) -> bool:
        """Whether the versions that the source reported for a model are available, or can't be for now."""
        if self._held.get(name, Held()).is_brief:
            return False
        outcomes = {outcome(name, storage) for storage in self._reported.get(name, ())}
        if Outcome.READY in outcomes:
            # A version that is being retried must not block the others.
            return Outcome.PENDING not in outcomes
        return outcomes == {Outcome.FAILED}

    def _raise_unavailable(self, awaited: Mapping[str, Any], what: str) -> None:
        failed = []
        for name in sorted(awaited):
            errors = {storage.version: self.manager.error(name, storage) for storage in self._reported.get(name, ())}
            if None not in errors.values():
                failed += [(name, version, error) for version, error in sorted(errors.items())]
        if failed:
            reasons = "".join(f"{{{{name: {n} version: {v}}} due to error: {error}}}, " for n, v, error in failed)
            raise StatusError(grpc.StatusCode.UNKNOWN, f"{len(failed)} {what} did not become available: {{{reasons}}}")


def _margin(timeout: float | None) -> float:
    """How many seconds before a deadline to answer."""
    return 0.0 if timeout is None else min(_MARGIN_SHARE * timeout, _LONGEST_MARGIN_SECONDS)
