"""Request bodies: what they may take of memory, and gzip."""

import threading
import zlib
from collections.abc import Iterator

_GZIP = zlib.MAX_WBITS | 16
_PIECE = 1 << 20
# Each member of a gzip file leaves a copy of what comes after it in the window, so windows are small and members few.
_WINDOW = 1 << 16
_MOST_MEMBERS = 1024
# Flags that say how much bodies may have.
_ALL, _ONE = "rest_api_max_memory_bytes", "max_request_bytes"


class BodyError(Exception):
    """A request's body can't be taken.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status

    @classmethod
    def malformed(cls, why: str) -> "BodyError":
        """The body is not what its headers say."""
        return cls("400 Bad Request", f"Request body is not valid gzip data: {why}")


class Budget:
    """Bytes that bodies may have; thread-safe.

    Args:
        limit: those of all requests together.
        largest: those of one, before and after unpacking.

    Attributes:
        refused: how often there was not enough for all, and too much of one, by the flag that says how much.
    """

    def __init__(self, limit: int, largest: int) -> None:
        self.largest = largest
        self.refused = {_ALL: 0, _ONE: 0}
        self._limit = limit
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Bytes in use."""
        return self._taken

    def check(self, size: int) -> None:
        """Tells whether one body may have so many bytes.

        Raises:
            BodyError: it may not.
        """
        if size <= self.largest:
            return
        with self._lock:
            self.refused[_ONE] += 1
        raise BodyError("413 Content Too Large", f"Request body is larger than {self.largest} bytes (--{_ONE})")

    def take(self, size: int) -> None:
        """Takes some, until they are given back.

        Raises:
            BodyError: there are not so many left.
        """
        with self._lock:
            if self._taken + size <= self._limit:
                self._taken += size
                return
            self.refused[_ALL] += 1
        raise BodyError(
            "503 Service Unavailable",
            f"The bodies of requests take up their {self._limit} bytes (--{_ALL}); try again later",
        )

    def give(self, size: int) -> None:
        """Gives some back."""
        with self._lock:
            self._taken -= size


def gunzip(packed: bytes, budget: Budget) -> bytes:
    """Unpacks gzip data of up to 1,024 members.

    Args:
        packed: the data.
        budget: what its bytes are taken from as they come out; to be given back when the result is no longer needed.

    Raises:
        BodyError: it is no gzip data, or too much; nothing is taken from the budget then.
    """
    parts: list[bytes] = []
    size = 0
    try:
        for part in _unpacked(packed, budget.largest):
            budget.check(size + len(part))
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
