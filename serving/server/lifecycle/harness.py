"""One version on its way through life, as the manager keeps it."""

import enum
from collections.abc import Callable, Sequence
from typing import Generic, NoReturn, Protocol, TypeVar

from serving.server.errors import StatusError
from serving.server.lifecycle.source import StoragePath

S_co = TypeVar("S_co", covariant=True)
S = TypeVar("S")


class Loader(Protocol[S_co]):
    """Owns one servable: its making and its end."""

    @property
    def servable(self) -> S_co:
        """What was loaded."""
        ...

    def load(self) -> None:
        """Makes the servable ready to answer."""
        ...

    def unload(self) -> None:
        """Gives everything back; called once nothing uses the servable."""
        ...


class Outcome(enum.Enum):
    """What has become of a version directory that is aspired to."""

    PENDING = enum.auto()
    RETRYING = enum.auto()  # an attempt to load it failed, the next one is to come
    READY = enum.auto()
    FAILED = enum.auto()


OutcomeOf = Callable[[str, StoragePath], Outcome]


class Phase(enum.Enum):
    """Where the manager is with a version."""

    NEW = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()
    LEAVING = enum.auto()  # takes no new requests; running ones finish, then it is unloaded
    DONE = enum.auto()  # failed to load


class Harness(Generic[S]):
    """One version with everything the manager notes about it; guarded by the manager's lock."""

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
        self.error: StatusError | None = None  # of the last attempt

    @property
    def version(self) -> int:
        """The number."""
        return self.storage.version

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class Unloadable:
    """Stands for a loader that could not even be made."""

    def __init__(self, error: StatusError) -> None:
        self._error = error

    @property
    def servable(self) -> NoReturn:
        """Raises what went wrong."""
        raise self._error

    def load(self) -> None:
        """Raises what went wrong."""
        raise self._error

    def unload(self) -> None:
        """There is nothing to give back."""


class Serving(Generic[S]):
    """The versions of one model that answer requests. Replaced as a whole, never changed."""

    __slots__ = ("by_version", "latest")

    def __init__(self, ready: Sequence[Harness[S]]) -> None:
        # While a version is being moved to another directory both may be ready: the new one answers.
        ordered = sorted(ready, key=lambda harness: (harness.version, harness.is_aspired, harness.key))
        self.by_version = {harness.version: harness for harness in ordered}
        self.latest = ordered[-1] if ordered else None
