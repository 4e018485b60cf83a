"""Which versions to serve, and in which order to load and unload them."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class VersionPolicy(Protocol):
    """Chooses, among the versions that exist, those that should be served."""

    def select(self, versions: Sequence[int]) -> Sequence[int]:
        """Returns the aspired subset of ``versions``."""
        ...


@dataclass(frozen=True, slots=True)
class Latest:
    """The ``count`` highest version numbers: TensorFlow Serving's default, with ``count = 1``."""

    count: int = 1

    def select(self, versions: Sequence[int]) -> Sequence[int]:
        """Returns the highest ``count`` of ``versions``."""
        return sorted(versions)[-self.count :]


class Action(enum.Enum):
    """What the manager is to do with a version."""

    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """What a transition policy needs to know of one version.

    Attributes:
        version: the number.
        is_new: nothing has been done with it yet.
        is_ready: it is loaded and answers requests.
        is_aspired: the source wants it served.
    """

    version: int
    is_new: bool
    is_ready: bool
    is_aspired: bool


class TransitionPolicy(Protocol):
    """Orders loads and unloads of the versions of one model."""

    def next_action(self, versions: Sequence[VersionSnapshot]) -> tuple[Action, int] | None:
        """Returns the next step and its version number, or None when there is nothing to do now."""
        ...


class AvailabilityPreserving:
    """Unloads an old version only once an aspired one is ready; both are in memory for a while.

    The rules are those of TensorFlow Serving's ``AvailabilityPreservingPolicy``.
    """

    def next_action(self, versions: Sequence[VersionSnapshot]) -> tuple[Action, int] | None:
        """See ``TransitionPolicy.next_action``."""
        leaving = [v.version for v in versions if v.is_ready and not v.is_aspired]
        any_aspired = any(v.is_aspired for v in versions)
        aspired_ready = any(v.is_aspired and v.is_ready for v in versions)
        if leaving and (not any_aspired or aspired_ready or len(leaving) > 1):
            return Action.UNLOAD, min(leaving)
        coming = [v.version for v in versions if v.is_new and v.is_aspired]
        if coming:
            return Action.LOAD, max(coming)
        return None
