"""The manager's record of one version through its lifecycle."""

import enum
from collections.abc import Callable, Sequence
from typing import Generic, NoReturn, Protocol, TypeVar

from serving.server.errors import StatusError
from serving.server.lifecycle.source import StoragePath

S_co = TypeVar("S_co", covariant=True)
S = TypeVar("S")


class Loader(Protocol[S_co]):
    """Owns one servable: creates and destroys it."""

    @property
    def servable(self) -> S_co:
        """The loaded servable."""
        ...

    def load(self) -> None:
        """Makes the servable ready to answer."""
        ...

    def unload(self) -> None:
        """Releases all resources; called once nothing uses the servable."""
        ...


class Outcome(enum.Enum):
    """The outcome for an aspired version directory."""

    PENDING = enum.auto()
    RETRYING = enum.auto()  # an attempt to load it failed, another one will follow
    READY = enum.auto()
    FAILED = enum.auto()


OutcomeOf = Callable[[str, StoragePath], Outcome]


class Phase(enum.Enum):
    """The phase of a version in the manager."""

    NEW = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()
    LEAVING = enum.auto()  # takes no new requests; running ones finish, then it is unloaded
    DONE = enum.auto()  # failed to load


class Harness(Generic[S]):
    """One version with everything the manager records about it; guarded by the manager's lock."""

    __slots__ = ("cancelled", "error", "is_aspired", "key", "loader", "name", "phase", "servable", "storage", "users")

    def __init__(self, name: str, storage: StoragePath, key: int, loader: Loader[S]) -> None:
        self.name = name
        self.storage = storage
        self.key = key
        self.loader = loader
        self.servable: S | None = None
        self.phase = Phase.NEW
        self.is_aspired = True
        self.users = 0
        self.cancelled = False  # no further attempts to load
        self.error: StatusError | None = None  # from the last attempt

    @property
    def version(self) -> int:
        """The version number."""
        return self.storage.version

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class FailedLoader:
    """Replaces a loader that could not be created."""

    def __init__(self, error: StatusError) -> None:
        self._error = error

    @property
    def servable(self) -> NoReturn:
        """Raises the error."""
        raise self._error

    def load(self) -> None:
        """Raises the error."""
        raise self._error

    def unload(self) -> None:
        """Does nothing: there is nothing to release."""


class Serving(Generic[S]):
    """The versions of one model that answer requests. Replaced as a whole, never changed."""

    __slots__ = ("by_version", "latest")

    def __init__(self, ready: Sequence[Harness[S]]) -> None:
        # While a version is being moved to another directory, both may be ready: the new one answers.
        ordered = sorted(ready, key=lambda harness: (harness.version, harness.is_aspired, harness.key))
        self.by_version = {harness.version: harness for harness in ordered}
        self.latest = ordered[-1] if ordered else None
