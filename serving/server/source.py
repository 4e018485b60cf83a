"""Watches model base paths and says which version directories should be served."""

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.server.policies import VersionPolicy

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
    Serving.

    Args:
        models: what to watch.
        poll_wait_seconds: pause between polls; 0 polls once.
        callback: receives (model name, aspired versions); called from the polling thread.
    """

    def __init__(
        self, models: Sequence[WatchedModel], poll_wait_seconds: float, callback: AspiredVersionsCallback
    ) -> None:
        self._models = list(models)
        self._poll_wait_seconds = poll_wait_seconds
        self._callback = callback
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="file-system-source", daemon=True)
        self._warned: dict[str, tuple[str, float]] = {}

    def start(self) -> None:
        """Starts polling in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stops polling; returns when no callback is under way any more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            for model in self._models:
                try:
                    self._poll(model)
                except Exception:
                    _LOGGER.exception("polling %s failed; trying again", model.base_path)
            if self._poll_wait_seconds <= 0 or self._stop.wait(self._poll_wait_seconds):
                return

    def _poll(self, model: WatchedModel) -> None:
        try:
            found = find_versions(model.base_path)
        except OSError as error:
            self._warn(
                model.name,
                f"Could not find base path {model.base_path} for servable {model.name}: "
                f"{error.strerror or error}. Waiting for it to appear",
            )
            return
        if not found:
            self._warn(
                model.name,
                f"No versions of servable {model.name} found under base path {model.base_path}. "
                "Did you forget to name your leaf directory as a number (eg. '/1/')?",
            )
        else:
            self._warned.pop(model.name, None)
        wanted = set(model.policy.select(list(found)))
        self._callback(model.name, [StoragePath(v, path) for v, path in found.items() if v in wanted])

    def _warn(self, name: str, message: str) -> None:
        now = time.monotonic()
        last_message, last_time = self._warned.get(name, ("", -_REPEAT_WARNING_SECONDS))
        if message != last_message or now - last_time >= _REPEAT_WARNING_SECONDS:
            _LOGGER.warning("%s", message)
            self._warned[name] = (message, now)


def find_versions(base_path: Path) -> dict[int, Path]:
    """Version number -> directory for the version directories under ``base_path``, in ascending order.

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
            _LOGGER.warning(
                "duplicate version directories: version %d is taken from %s, %s is ignored",
                version,
                entry.name,
                found[version].name,
            )
        found[version] = entry
    return dict(sorted(found.items()))
