"""Watches model base paths and says which version directories should be served."""

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.server.policies import Specific, VersionPolicy

_LOGGER = logging.getLogger(__name__)
_VERSION_NAME = re.compile(r"[0-9]+", re.ASCII)
_LARGEST_VERSION = 2**63 - 1
# The same complaint each second would bury everything else in the log.
_REPEAT_WARNING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class StoragePath:
    """One version of a model on disk."""

    version: int
    path: Path


@dataclass(frozen=True, slots=True)
class WatchedModel:
    """A model name, where its version directories lie, and which of them to serve."""

    name: str
    base_path: Path
    policy: VersionPolicy


AspiredVersionsCallback = Callable[[str, Sequence[StoragePath]], None]


class FileSystemSource:
    """Polls base paths and reports the complete list of aspired versions of each model at every poll.

    Version directories have decimal names; all other entries (hidden and temporary ones above all) are
    ignored. A base path that is missing or unreadable is reported as a warning and changes nothing: what
    is served stays. A base path that is there and holds no version unloads the model, as in TensorFlow
    Serving, unless ``servable_versions_always_present``.

    Args:
        models: what to watch.
        poll_wait_seconds: pause between polls; 0 polls once (and once after each ``update``), a negative
            number never, which TensorFlow Serving keeps for tests.
        callback: receives (model name, aspired versions); called from the polling thread and by ``update``.
        servable_versions_always_present: take an empty base path for a mistake, and change nothing.
        complain: told the name of a model that is found to have nothing to load.
    """

    def __init__(
        self,
        models: Sequence[WatchedModel],
        poll_wait_seconds: float,
        callback: AspiredVersionsCallback,
        *,
        servable_versions_always_present: bool = False,
        complain: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._poll_wait_seconds = poll_wait_seconds
        self._callback = callback
        self._complain_of = complain
        self._always_present = servable_versions_always_present
        # Guards what follows, and is held while the callback runs: a model that was left out by `update` is
        # never reported afterwards.
        self._changed = threading.Condition(threading.RLock())
        self._models = {model.name: model for model in models}
        self._stopping = False
        self._poll_at_once = False
        self._thread = threading.Thread(target=self._run, name="file-system-source", daemon=True)
        self._warned: dict[tuple[str, str], tuple[str, float]] = {}
        # What the last look at a model's present base path found wrong with it.
        self._complaints: dict[str, str] = {}
        self._missing: set[str] = set()

    def start(self) -> None:
        """Starts polling in a thread of its own."""
        self._thread.start()

    def update(self, models: Sequence[WatchedModel], between: Callable[[], None] = lambda: None) -> None:
        """Watches these models instead; those left out are reported as having no aspired versions at once.

        Args:
            models: what to watch.
            between: called after the last report about the former models and before the first about these.
        """
        with self._changed:
            between()
            kept = {model.name: model for model in models}
            gone = [name for name in self._models if name not in kept]
            for name, model in self._models.items():
                if kept.get(name) != model:
                    self._complaints.pop(name, None)
                    self._missing.discard(name)
            self._models = kept
            for name in gone:
                self._callback(name, [])
            self._poll_at_once = True
            self._changed.notify_all()

    def is_missing(self, name: str) -> bool:
        """Whether a model's base path was not there, or unreadable, when it was last looked at."""
        return name in self._missing

    def complaint(self, name: str) -> str:
        """Why a model has nothing to load; empty when it has, or was not looked at yet."""
        return self._complaints.get(name, "")

    def stop(self) -> None:
        """Stops polling; returns when no callback is under way any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        if self._poll_wait_seconds >= 0:
            self._poll_all()
        while True:
            with self._changed:
                pause = self._poll_wait_seconds if self._poll_wait_seconds > 0 else None
                self._changed.wait_for(lambda: self._stopping or self._poll_at_once, pause)
                if self._stopping:
                    return
                self._poll_at_once = False
            if self._poll_wait_seconds >= 0:
                self._poll_all()

    def _poll_all(self) -> None:
        with self._changed:
            models = list(self._models.values())
        for model in models:
            with self._changed:
                if self._stopping:
                    return
            try:
                self._poll(model)
            except Exception:
                _LOGGER.exception("polling %s failed; trying again", model.base_path)

    def _poll(self, model: WatchedModel) -> None:
        try:
            found = find_versions(model.base_path, lambda message: self._warn(model, "duplicates", message))
        except OSError as error:
            message = (
                f"Could not find base path {model.base_path} for servable {model.name}: "
                f"{error.strerror or error}. Waiting for it to appear"
            )
            self._warn(model, "base path", message)
            self._note(model, message, is_missing=True)
            return
        self._settled(model, "base path")
        wanted = set(model.policy.select(list(found)))
        self._complain(model, found, wanted)
        if not wanted and self._always_present:
            return
        with self._changed:
            # Looking at the disk takes a while; meanwhile `update` may have changed what is watched.
            if self._models.get(model.name) == model and not self._stopping:
                self._callback(model.name, [StoragePath(v, path) for v, path in found.items() if v in wanted])

    def _complain(self, model: WatchedModel, found: Collection[int], wanted: set[int]) -> None:
        message = ""
        if not found:
            message = (
                f"No versions of servable {model.name} found under base path {model.base_path}. "
                "Did you forget to name your leaf directory as a number (eg. '/1/')?"
            )
            if (model.base_path / "saved_model.pb").exists():
                message += f" It holds a saved_model.pb itself: give the directory above it, {model.base_path.parent}."
        elif isinstance(model.policy, Specific) and wanted != model.policy.wanted:
            missing = ", ".join(str(version) for version in sorted(model.policy.wanted - wanted))
            message = (
                f"Version {missing} of servable {model.name}, which was requested to be served as a 'specific' "
                f"version in the servable's version policy, was not found under {model.base_path}."
            )
        if not wanted and self._always_present:
            message += f" Refusing to unload all versions for Servable: {model.name}"
        if message:
            self._warn(model, "versions", message)
        else:
            self._settled(model, "versions")
        self._note(model, message, is_missing=False)

    def _note(self, model: WatchedModel, message: str, *, is_missing: bool) -> None:
        with self._changed:
            if self._models.get(model.name) != model:
                return  # meanwhile it is watched elsewhere
            is_new = is_missing and model.name not in self._missing
            (self._missing.add if is_missing else self._missing.discard)(model.name)
            if message:
                self._complaints[model.name] = message
            else:
                self._complaints.pop(model.name, None)
            if is_new:
                self._complain_of(model.name)

    def _warn(self, model: WatchedModel, kind: str, message: str) -> None:
        now = time.monotonic()
        last_message, last_time = self._warned.get((model.name, kind), ("", -_REPEAT_WARNING_SECONDS))
        if message != last_message or now - last_time >= _REPEAT_WARNING_SECONDS:
            _LOGGER.warning("%s", message)
            self._warned[model.name, kind] = (message, now)

    def _settled(self, model: WatchedModel, kind: str) -> None:
        self._warned.pop((model.name, kind), None)


def find_versions(base_path: Path, warn: Callable[[str], None] = _LOGGER.warning) -> dict[int, Path]:
    """Version number -> directory for the version directories under ``base_path``, in ascending order.

    Args:
        base_path: where to look.
        warn: told of directories that name the same version (``7`` and ``007``), of which the last one counts.

    Raises:
        OSError: the base path can't be read.
    """
    found: dict[int, Path] = {}
    for entry in sorted(base_path.iterdir()):
        if not _VERSION_NAME.fullmatch(entry.name) or not entry.is_dir():
            continue
        version = int(entry.name)
        if version > _LARGEST_VERSION:
            continue
        if version in found:
            warn(
                f"duplicate version directories: version {version} is taken from {entry.name}, "
                f"{found[version].name} is ignored"
            )
        found[version] = entry
    return dict(sorted(found.items()))
