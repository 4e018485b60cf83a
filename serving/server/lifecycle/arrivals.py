"""Holds back versions that are still being copied, and retries failed ones when they have changed."""

import enum
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.server.lifecycle.completeness import Stamp, has_manifest, stamp_of

# A copy that makes no progress for this long may have ended.
_STILL_SECONDS = 5.0
# Files that changed this recently may change again.
_FRESH_SECONDS = 1.0


class Check(Protocol):
    """Reports what a version directory lacks; see ``CompletenessCheck``."""

    def lack(self, directory: Path) -> str:
        """Checks names and sizes."""
        ...

    def problem(self, directory: Path) -> str:
        """Checks contents too."""
        ...


class Arrival(enum.Enum):
    """What to do with a version directory."""

    HOLD = enum.auto()  # wait: it is growing
    LOAD = enum.auto()
    TRY = enum.auto()  # it lacks something and nothing has changed for a while: let the load fail and report it


class Fate(enum.Enum):
    """The outcome for a version directory that was to be loaded."""

    READY = enum.auto()
    FAILING = enum.auto()
    OPEN = enum.auto()


@dataclass(slots=True)
class _Observation:
    stamp: Stamp
    since: float
    lack: str
    arrival: Arrival


class Arrivals:
    """Looks at version directories at each poll. Used by one thread.

    Args:
        check: reports what a directory lacks; None: every version counts as complete.
        fate: (model name, version, directory) -> its outcome.
    """

    def __init__(self, check: Check | None, fate: Callable[[str, int, Path], Fate]) -> None:
        self._check = check
        self._fate = fate
        self._observations: dict[tuple[str, Path], _Observation] = {}

    def look(self, name: str, version: int, path: Path) -> tuple[Arrival, str]:
        """What to do with a version, and what it lacks; a held version may lack nothing and just be changing."""
        observation = self._observations.get((name, path))
        fate = self._fate(name, version, path)
        if fate is Fate.READY:
            return Arrival.LOAD, ""  # it is serving, no matter what happened to its files since
        if observation is not None and observation.arrival is not Arrival.HOLD and fate is not Fate.FAILING:
            return observation.arrival, observation.lack  # it is being loaded
        stamp = stamp_of(path)
        if observation is None or observation.stamp != stamp:
            at_rest = observation is None and self._is_at_rest(path, stamp)
            observation = self._observations[name, path] = _Observation(stamp, time.monotonic(), "", Arrival.HOLD)
            if not at_rest:
                observation.lack = self._check.lack(path) if self._check is not None else ""
                return Arrival.HOLD, observation.lack
        elif observation.arrival is not Arrival.HOLD:
            return observation.arrival, observation.lack  # it failed, and would fail again
        if not observation.lack and self._check is not None:
            observation.lack = self._check.problem(path)
        if not observation.lack:
            observation.arrival = Arrival.LOAD
        elif time.monotonic() - observation.since >= _STILL_SECONDS:
            observation.arrival = Arrival.TRY
        return observation.arrival, observation.lack

    def forget(self, name: str, but: Collection[Path]) -> None:
        """Forgets a model's directories except these: if they are wanted again, they are new."""
        self._observations = {
            key: observation for key, observation in self._observations.items() if key[0] != name or key[1] in but
        }

    def retain(self, names: Collection[str]) -> None:
        """Forgets all models except these."""
        self._observations = {key: observation for key, observation in self._observations.items() if key[0] in names}

    def _is_at_rest(self, path: Path, stamp: Stamp) -> bool:
        """Whether files need no second look: a manifest shows that all are there, or none is recent."""
        if self._check is None or has_manifest(path):
            return True
        newest = max((max(modified, changed) for _, _, modified, changed in stamp), default=0)
        return not 0 <= time.time() - newest / 1e9 < _FRESH_SECONDS
