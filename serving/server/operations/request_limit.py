"""The limit on concurrent requests over all APIs: ``--max_concurrent_requests``."""

import threading
from collections.abc import Callable
from typing import Protocol

from serving.server.errors import StatusError, too_many


class Room(Protocol):
    """Counts the requests in the server; thread-safe. The native front is one: it counts its own requests as well."""

    def enter(self) -> bool:
        """Counts a request, unless there are too many already; returns whether it did."""
        ...

    def leave(self) -> None:
        """A counted request has ended."""
        ...


class LocalRoom:
    """The count of a server without the native front.

    Args:
        limit: maximum number of concurrent requests.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Counts a request, unless there are too many already; returns whether it did."""
        with self._lock:
            if self._inside >= self._limit:
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """A counted request has ended."""
        with self._lock:
            self._inside -= 1


class RequestLimit:
    """What the gRPC server and the REST API ask before they accept a request for a model.

    Args:
        limit: maximum number of concurrent requests.
        refused: called for each refusal.
        front: the native front, which must have the same limit; None: there is none.

    Attributes:
        covers_predict: whether gRPC's Predict enters here; the front has counted it already.
    """

    def __init__(self, limit: int, refused: Callable[[], None], front: Room | None = None) -> None:
        self.covers_predict = front is None
        self._limit = limit
        self._refused = refused
        self._room = front or LocalRoom(limit)

    def enter(self) -> StatusError | None:
        """Counts a request, until ``leave``; returns the refusal instead if there are too many."""
        if self._room.enter():
            return None
        self._refused()
        return too_many(self._limit)

    def leave(self) -> None:
        """A counted request has ended."""
        self._room.leave()
