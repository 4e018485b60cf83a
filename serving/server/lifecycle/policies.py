"""Policies: which versions to serve, and in which order to load and unload them."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.protos import file_system_storage_path_source_pb2
from serving.server.options import Policy


class VersionPolicy(Protocol):
    """Chooses, among the versions that exist, those that should be served."""

    def select(self, versions: Sequence[int]) -> Sequence[int]:
        """Returns the aspired subset of ``versions``, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class Latest:
    """The ``count`` highest version numbers: TensorFlow Serving's default, with ``count = 1``."""

    count: int = 1

    def select(self, versions: Sequence[int]) -> Sequence[int]:
        """Returns the highest ``count`` of ``versions``."""
        return sorted(versions)[-self.count :]


@dataclass(frozen=True, slots=True)
class All:
    """All existing versions."""

    def select(self, versions: Sequence[int]) -> Sequence[int]:
        """Returns all ``versions``."""
        return sorted(versions)


@dataclass(frozen=True, slots=True)
class Specific:
    """The given versions, as far as they exist."""

    wanted: frozenset[int]

    def select(self, versions: Sequence[int]) -> Sequence[int]:
        """Returns those of ``versions`` that were given."""
        return sorted(self.wanted.intersection(versions))


def version_policy(
    proto: file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy,
) -> VersionPolicy:
    """The policy of a ``ServableVersionPolicy`` message; an empty one means the latest version.

    ``latest`` without a number, and ``num_versions: 0``, mean one version, as in TensorFlow Serving
    (``AspireLatestVersions`` in ``file_system_storage_path_source.cc``).
    """
    choice = proto.WhichOneof("policy_choice")
    if choice == "all":
        return All()
    if choice == "specific":
        return Specific(frozenset(proto.specific.versions))
    return Latest(max(proto.latest.num_versions, 1))


class Action(enum.Enum):
    """What the manager should do with a version."""

    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """What a transition policy needs to know about one version.

    Attributes:
        version: the number.
        is_new: nothing has been done with it yet.
        is_ready: it is loaded and answers requests.
        is_aspired: the source wants it served.
        is_done: it failed to load, or is unloaded.
        key: distinguishes versions with the same number that are loaded from different directories.
    """

    version: int
    is_new: bool
    is_ready: bool
    is_aspired: bool
    is_done: bool = False
    key: int = 0


class TransitionPolicy(Protocol):
    """Orders loads and unloads of the versions of one model."""

    def next_action(self, versions: Sequence[VersionSnapshot]) -> tuple[Action, VersionSnapshot] | None:
        """Returns the next step and its version, or None when there is nothing to do now."""
        ...


class AvailabilityPreserving:
    """Unloads an old version only once an aspired one is ready; both are in memory for a while.

    The rules are those of TensorFlow Serving's ``AvailabilityPreservingPolicy``.
    """

    def next_action(self, versions: Sequence[VersionSnapshot]) -> tuple[Action, VersionSnapshot] | None:
        """See ``TransitionPolicy.next_action``."""
        leaving = [v for v in versions if v.is_ready and not v.is_aspired]
        any_aspired = any(v.is_aspired for v in versions)
        aspired_ready = any(v.is_aspired and v.is_ready for v in versions)
        if leaving and (not any_aspired or aspired_ready or len(leaving) > 1):
            return Action.UNLOAD, min(leaving, key=_order)
        return _load_highest(versions)


class ResourcePreserving:
    """Unloads everything that is not aspired before loading anything: memory for one version, and a gap in service.

    The rules are those of TensorFlow Serving's ``ResourcePreservingPolicy``.
    """

    def next_action(self, versions: Sequence[VersionSnapshot]) -> tuple[Action, VersionSnapshot] | None:
        """See ``TransitionPolicy.next_action``."""
        leaving = [v for v in versions if v.is_ready and not v.is_aspired]
        if leaving:
            return Action.UNLOAD, min(leaving, key=_order)
        if any(not v.is_aspired and not v.is_done for v in versions):
            return None
        return _load_highest(versions)


TRANSITION_POLICIES: dict[Policy, type[AvailabilityPreserving] | type[ResourcePreserving]] = {
    "availability_preserving": AvailabilityPreserving,
    "resource_preserving": ResourcePreserving,
}


def _load_highest(versions: Sequence[VersionSnapshot]) -> tuple[Action, VersionSnapshot] | None:
    coming = [v for v in versions if v.is_new and v.is_aspired]
    return (Action.LOAD, max(coming, key=_order)) if coming else None


def _order(version: VersionSnapshot) -> tuple[int, int]:
    return version.version, version.key
