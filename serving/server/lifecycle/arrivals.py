"""Holds back versions that are still being copied, and takes up failed ones again when they have changed."""

import enum
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.server.lifecycle.whole import Stamp, has_manifest, stamp_of

# A copy that makes no progress for so long may have come to its end.
_STILL_SECONDS = 5.0
# Files that changed so shortly ago may change again.
_FRESH_SECONDS = 1.0


class Check(Protocol):
    """What a version directory lacks; see ``WholeCheck``."""

    def lack(self, directory: Path) -> str:
        """By names and sizes."""
        ...

    def problem(self, directory: Path) -> str:
        """By contents too."""
        ...


class Arrival(enum.Enum):
    """What is to be done with a version directory."""

    HOLD = enum.auto()  # wait: it is growing
    LOAD = enum.auto()
    TRY = enum.auto()  # it lacks something and nothing has changed for a while: loading it will say so


class Fate(enum.Enum):
    """What has become of a version directory that was to be loaded."""

    READY = enum.auto()
    FAILING = enum.auto()
    OPEN = enum.auto()


@dataclass(slots=True)
class _Sight:
    stamp: Stamp
    since: float
    lack: str
    arrival: Arrival


class Arrivals:
    """Looks at version directories at each poll. Used by one thread.

    Args:
        check: tells what a directory lacks; None: whatever is there is whole.
        fate: (model name, version, directory) -> what has become of it.
    """

    def __init__(self, check: Check | None, fate: Callable[[str, int, Path], Fate]) -> None:
        self._check = check
        self._fate = fate
        self._sights: dict[tuple[str, Path], _Sight] = {}

    def look(self, name: str, version: int, path: Path) -> tuple[Arrival, str]:
        """What is to be done with a version, and what it lacks; to be held, it may just be changing."""
        sight = self._sights.get((name, path))
        fate = self._fate(name, version, path)
        if fate is Fate.READY:
            return Arrival.LOAD, ""  # it serves, whatever has become of its files since
        if sight is not None and sight.arrival is not Arrival.HOLD and fate is not Fate.FAILING:
            return sight.arrival, sight.lack  # it is being loaded
        stamp = stamp_of(path)
        if sight is None or sight.stamp != stamp:
            at_rest = sight is None and self._is_at_rest(path, stamp)
            sight = self._sights[name, path] = _Sight(stamp, time.monotonic(), "", Arrival.HOLD)
            if not at_rest:
                sight.lack = self._check.lack(path) if self._check is not None else ""
                return Arrival.HOLD, sight.lack
        elif sight.arrival is not Arrival.HOLD:
            return sight.arrival, sight.lack  # it failed, and would fail again
        if not sight.lack and self._check is not None:
            sight.lack = self._check.problem(path)
        if not sight.lack:
            sight.arrival = Arrival.LOAD
        elif time.monotonic() - sight.since >= _STILL_SECONDS:
            sight.arrival = Arrival.TRY
        return sight.arrival, sight.lack

    def forget(self, name: str, but: Collection[Path]) -> None:
        """Forgets a model's directories but these: should they be wanted again, that is a first look."""
        self._sights = {key: sight for key, sight in self._sights.items() if key[0] != name or key[1] in but}

    def retain(self, names: Collection[str]) -> None:
        """Forgets all models but these."""
        self._sights = {key: sight for key, sight in self._sights.items() if key[0] in names}

    def _is_at_rest(self, path: Path, stamp: Stamp) -> bool:
        """Whether files need not be looked at twice: a manifest tells that all are there, or none is new."""
        if self._check is None or has_manifest(path):
            return True
        newest = max((max(modified, changed) for _, _, modified, changed in stamp), default=0)
        return not 0 <= time.time() - newest / 1e9 < _FRESH_SECONDS
