"""Watches model base paths and reports which version directories should be served."""

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.server.lifecycle.arrivals import Arrival, Arrivals, Fate
from serving.server.lifecycle.policies import Specific, VersionPolicy

_LOGGER = logging.getLogger(__name__)
_VERSION_NAME = re.compile(r"[0-9]+", re.ASCII)
_LARGEST_VERSION = 2**63 - 1
# The same warning every second would bury everything else in the log.
_REPEAT_WARNING_SECONDS = 30.0
# Pause between checks of a version that is still growing, if polls are less frequent.
_HOLD_SECONDS = 1.0
# How long a request for a version waits for its files to stop changing.
_BRIEF_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class StoragePath:
    """One version of a model on disk."""

    version: int
    path: Path


@dataclass(frozen=True, slots=True)
class WatchedModel:
    """A model name, the location of its version directories, and which of them to serve."""

    name: str
    base_path: Path
    policy: VersionPolicy


@dataclass(frozen=True, slots=True)
class Held:
    """Versions that are not aspired yet.

    Attributes:
        reasons: version -> what it waits for.
        kept: the previously aspired version, which must keep serving until one of these can replace it.
        is_brief: one of them lacks nothing, and is held only until a second check finds it unchanged.
    """

    reasons: Mapping[int, str] = field(default_factory=dict)
    kept: Sequence[StoragePath] = ()
    is_brief: bool = False


AspiredVersionsCallback = Callable[[str, Sequence[StoragePath]], None]


class FileSystemSource:
    """Polls base paths and reports the complete list of aspired versions of each model at every poll.

    Version directories have decimal names; all other entries (especially hidden and temporary ones) are
    ignored. A missing or unreadable base path is reported as a warning and changes nothing: served
    versions stay. A base path that exists but holds no version unloads the model, as in TensorFlow
    Serving, unless ``servable_versions_always_present``.

    To the version policy, an incomplete version does not exist: it is checked again until it is complete
    (``Arrivals``). One that has stopped growing is reported along with the others, so that the attempt to load it
    reports what is wrong.

    Args:
        models: what to watch.
        poll_wait_seconds: pause between polls; 0 polls once (and once after each ``update``), a negative
            number never, which TensorFlow Serving reserves for tests.
        callback: receives (model name, aspired versions); called from the polling thread and by ``update``.
        servable_versions_always_present: treat an empty base path as a mistake, and change nothing.
        complain: called with the name of a model that has nothing to load.
        arrivals: determines which version directories are complete.
        hold: receives (model name, held versions), before the callback.
    """

    def __init__(
        self,
        models: Sequence[WatchedModel],
        poll_wait_seconds: float,
        callback: AspiredVersionsCallback,
        *,
        servable_versions_always_present: bool = False,
        complain: Callable[[str], None] = lambda name: None,
        arrivals: Arrivals | None = None,
        hold: Callable[[str, Held], None] = lambda name, held: None,
    ) -> None:
        self._poll_wait_seconds = poll_wait_seconds
        self._callback = callback
        self._complain_of = complain
        self._arrivals = arrivals or Arrivals(None, lambda name, version, path: Fate.OPEN)
        self._hold = hold
        self._always_present = servable_versions_always_present
        # Guards the attributes below, and is held while the callback runs: a model that `update` left out is
        # never reported afterwards.
        self._changed = threading.Condition(threading.RLock())
        self._models = {model.name: model for model in models}
        self._stopping = False
        self._poll_at_once = False
        self._thread = threading.Thread(target=self._run, name="file-system-source", daemon=True)
        self._warned: dict[tuple[str, str], tuple[str, float]] = {}
        # What the last poll of a model's current base path found wrong with it.
        self._complaints: dict[str, str] = {}
        self._missing: set[str] = set()
        # Models with versions that are held back; since when a version of a model has only been changing; and the
        # versions last found complete.
        self._holding: set[str] = set()
        self._changing: dict[str, float] = {}
        self._complete: dict[str, Sequence[StoragePath]] = {}

    def start(self) -> None:
        """Starts polling in a separate thread."""
        self._thread.start()

    def update(self, models: Sequence[WatchedModel], between: Callable[[], None] = lambda: None) -> None:
        """Watches these models instead; those left out are reported as having no aspired versions at once.

        Args:
            models: what to watch.
            between: called after the last report about the previous models and before the first about these.
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
                self._holding.discard(name)
                self._changing.pop(name, None)
                self._complete.pop(name, None)
                self._hold(name, Held())
                self._callback(name, [])
            self._poll_at_once = True
            self._changed.notify_all()

    def is_missing(self, name: str) -> bool:
        """Whether a model's base path was missing or unreadable at the last poll."""
        return name in self._missing

    def complaint(self, name: str) -> str:
        """Why a model has nothing to load; empty when it has, or was not polled yet."""
        return self._complaints.get(name, "")

    def stop(self) -> None:
        """Stops polling; returns once no callback is running."""
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
                if self._holding:
                    pause = min(pause or _HOLD_SECONDS, _HOLD_SECONDS)
                self._changed.wait_for(lambda: self._stopping or self._poll_at_once, pause)
                if self._stopping:
                    return
                self._poll_at_once = False
            if self._poll_wait_seconds >= 0:
                self._poll_all()

    def _poll_all(self) -> None:
        with self._changed:
            models = list(self._models.values())
        self._arrivals.retain([model.name for model in models])
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
        self._resolved(model, "base path")
        wanted, tried, held, is_changing = self._classify(model, found)
        self._complain(model, found, wanted | tried, held)
        if not wanted and not tried and not held and self._always_present:
            return
        with self._changed:
            # Reading the disk takes a while; `update` may have changed the watched models in the meantime.
            if self._models.get(model.name) != model or self._stopping:
                return
            complete = [StoragePath(version, found[version]) for version in sorted(wanted)]
            is_waiting = not wanted and (tried or held)
            waiting = {StoragePath(version, found[version]) for version in held}
            kept = [storage for storage in self._complete.get(model.name, ()) if storage not in waiting]
            (self._holding.add if held else self._holding.discard)(model.name)
            self._hold(model.name, Held(held, kept if is_waiting else (), self._is_brief(model.name, is_changing)))
            if not is_waiting:
                self._complete[model.name] = complete
            self._callback(model.name, [StoragePath(version, found[version]) for version in sorted(wanted | tried)])

    def _is_brief(self, name: str, is_changing: bool) -> bool:
        """Whether a model's version is only changing, and has been for just a short while."""
        if not is_changing:
            self._changing.pop(name, None)
            return False
        now = time.monotonic()
        return now - self._changing.setdefault(name, now) < _BRIEF_SECONDS

    def _classify(
        self, model: WatchedModel, found: Mapping[int, Path]
    ) -> tuple[set[int], set[int], dict[int, str], bool]:
        """Classifies versions.

        Returns:
            The complete and wanted ones, those to try as they are, what the others lack, and whether one of these
            lacks nothing and is only changing.
        """
        complete: set[int] = set()
        tried: set[int] = set()
        held: dict[int, str] = {}
        is_changing = False

        def wanted() -> set[int]:
            return set(
                model.policy.select([version for version in found if version not in tried and version not in held])
            )

        while unseen := wanted() - complete:
            for version in unseen:
                arrival, lack = self._arrivals.look(model.name, version, found[version])
                kind = f"version {version}"
                if arrival is Arrival.LOAD:
                    complete.add(version)
                    if self._warned_of(model, kind):
                        _LOGGER.info("Version %d of servable %s is complete now", version, model.name)
                    self._resolved(model, kind)
                elif arrival is Arrival.TRY:
                    tried.add(version)
                    self._resolved(model, kind)
                else:
                    held[version] = (
                        f"Version {version} of servable {model.name} is not complete yet: "
                        f"{lack or 'its files are changing'} (in {found[version]}). Waiting for the copy to end"
                    )
                    # What is missing changes from poll to poll; a growing version is not an error.
                    if lack:
                        self._warn(model, kind, held[version], "what it lacks")
                    else:
                        is_changing = True
                        self._warn(model, kind, held[version], "its growth", logging.INFO)
        self._arrivals.forget(model.name, [found[version] for version in {*complete, *tried, *held}])
        return wanted(), tried, held, is_changing

    def _complain(self, model: WatchedModel, found: Collection[int], wanted: set[int], held: Mapping[int, str]) -> None:
        if held and not wanted:
            self._note(model, ". ".join(held[version] for version in sorted(held)), is_missing=False)
            return
        message = ""
        if not found:
            message = (
                f"No versions of servable {model.name} found under base path {model.base_path}. "
                "Did you forget to name your leaf directory as a number (eg. '/1/')?"
            )
            if (model.base_path / "saved_model.pb").exists():
                message += f" It holds a saved_model.pb itself: give the directory above it, {model.base_path.parent}."
        elif isinstance(model.policy, Specific) and not model.policy.wanted <= set(found):
            missing = ", ".join(str(version) for version in sorted(model.policy.wanted - set(found)))
            message = (
                f"Version {missing} of servable {model.name}, which was requested to be served as a 'specific' "
                f"version in the servable's version policy, was not found under {model.base_path}."
            )
        if not wanted and self._always_present:
            message += f" Refusing to unload all versions for Servable: {model.name}"
        if message:
            self._warn(model, "versions", message)
        else:
            self._resolved(model, "versions")
        self._note(model, message, is_missing=False)

    def _note(self, model: WatchedModel, message: str, *, is_missing: bool) -> None:
        with self._changed:
            if self._models.get(model.name) != model:
                return  # by now it is watched elsewhere
            is_new = is_missing and model.name not in self._missing
            (self._missing.add if is_missing else self._missing.discard)(model.name)
            if message:
                self._complaints[model.name] = message
            else:
                self._complaints.pop(model.name, None)
            if is_new:
                self._complain_of(model.name)

    def _warn(
        self, model: WatchedModel, kind: str, message: str, about: str = "", level: int = logging.WARNING
    ) -> None:
        """Logs a message, unless it or another one ``about`` the same thing was logged recently."""
        now = time.monotonic()
        last, last_time = self._warned.get((model.name, kind), ("", -_REPEAT_WARNING_SECONDS))
        if (about or message) != last or now - last_time >= _REPEAT_WARNING_SECONDS:
            _LOGGER.log(level, "%s", message)
            self._warned[model.name, kind] = (about or message, now)

    def _warned_of(self, model: WatchedModel, kind: str) -> bool:
        return (model.name, kind) in self._warned

    def _resolved(self, model: WatchedModel, kind: str) -> None:
        self._warned.pop((model.name, kind), None)


def find_versions(base_path: Path, warn: Callable[[str], None] = _LOGGER.warning) -> dict[int, Path]:
    """Version number -> directory for the version directories under ``base_path``, in ascending order.

    Args:
        base_path: where to look.
        warn: called for directories that name the same version (``7`` and ``007``), of which the last one counts.

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
