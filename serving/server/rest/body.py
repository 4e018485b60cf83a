"""Request bodies: what they may take of memory, and gzip."""

import threading
import zlib
from collections.abc import Iterator

_GZIP = zlib.MAX_WBITS | 16
_PIECE = 1 << 20
# Each member of a gzip file leaves a copy of what comes after it in the window, so windows are small and members few.
_WINDOW = 1 << 16
_MOST_MEMBERS = 1024


class BodyError(Exception):
    """A request's body can't be taken.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status

    @classmethod
    def too_large(cls, limit: int) -> "BodyError":
        """The body has more bytes than it may have."""
        return cls("413 Content Too Large", f"Request body is larger than {limit} bytes")

    @classmethod
    def malformed(cls, why: str) -> "BodyError":
        """The body is not what its headers say."""
        return cls("400 Bad Request", f"Request body is not valid gzip data: {why}")


class Budget:
    """Bytes that the bodies of all requests may have together; thread-safe.

    Args:
        limit: that many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._refused = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Bytes in use."""
        return self._taken

    @property
    def refused(self) -> int:
        """How often there was not enough."""
        return self._refused

    def take(self, size: int) -> None:
        """Takes some, until they are given back.

        Raises:
            BodyError: there are not so many left.
        """
        with self._lock:
            if self._taken + size <= self._limit:
                self._taken += size
                return
            self._refused += 1
        raise BodyError(
            "503 Service Unavailable",
            f"The bodies of requests take up their {self._limit} bytes (--rest_api_max_memory_bytes); try again later",
        )

    def give(self, size: int) -> None:
        """Gives some back."""
        with self._lock:
            self._taken -= size


def gunzip(packed: bytes, limit: int, budget: Budget) -> bytes:
    """Unpacks gzip data of up to 1,024 members.

    Args:
        packed: the data.
        limit: most bytes that may come out.
        budget: what they are taken from as they come out; to be given back when the result is no longer needed.

    Raises:
        BodyError: it is no gzip data, or too much; nothing is taken from the budget then.
    """
    parts: list[bytes] = []
    size = 0
    try:
        for part in _unpacked(packed, limit):
            if size + len(part) > limit:
                raise BodyError.too_large(limit)
            budget.take(len(part))
            size += len(part)
            parts.append(part)
    except BaseException as error:
        budget.give(size)
        if isinstance(error, zlib.error):
            raise BodyError.malformed(str(error)) from None
        raise
    return b"".join(parts)


def _unpacked(packed: bytes, limit: int) -> Iterator[bytes]:
    """Pieces of the content, as soon as they are unpacked."""
    view = memoryview(packed)
    members, place, window = 0, 0, b""
    while window or place < len(view):
        members += 1
        if members > _MOST_MEMBERS:
            raise BodyError.malformed(f"it has more than {_MOST_MEMBERS} members")
        unpacker = zlib.decompressobj(_GZIP)
        while not unpacker.eof:
            if not window:
                if place >= len(view):
                    raise BodyError.malformed("it ends early")
                window = bytes(view[place : place + _WINDOW])
                place += len(window)
            yield unpacker.decompress(window, min(_PIECE, limit + 1))
            window = unpacker.unconsumed_tail
        window = unpacker.unused_data
