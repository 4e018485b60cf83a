"""Request bodies: memory limits and gzip."""

import threading
import zlib
from collections.abc import Iterator

_GZIP = zlib.MAX_WBITS | 16
_PIECE = 1 << 20
# Each gzip member leaves a copy of what follows it in the window, so windows are small and members few.
_WINDOW = 1 << 16
_MAX_MEMBERS = 1024
# Flags that limit bodies.
_ALL, _ONE = "rest_api_max_memory_bytes", "max_request_bytes"


class BodyError(Exception):
    """A request body is refused.

    Attributes:
        status: the HTTP status of the response.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status

    @classmethod
    def malformed(cls, why: str) -> "BodyError":
        """The body does not match its headers."""
        return cls("400 Bad Request", f"Request body is not valid gzip data: {why}")


class Budget:
    """Memory budget for request bodies; thread-safe.

    Args:
        limit: bytes of all requests together.
        largest: bytes of a single one, before and after decompression.

    Attributes:
        refused: number of refusals, by the flag whose limit was exceeded.
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
        """Checks the size of a single body.

        Raises:
            BodyError: it is too large.
        """
        if size <= self.largest:
            return
        with self._lock:
            self.refused[_ONE] += 1
        raise BodyError("413 Content Too Large", f"Request body is larger than {self.largest} bytes (--{_ONE})")

    def take(self, size: int) -> None:
        """Takes bytes from the budget, until they are given back.

        Raises:
            BodyError: not enough are left.
        """
        with self._lock:
            if self._taken + size <= self._limit:
                self._taken += size
                return
            self.refused[_ALL] += 1
        raise BodyError(
            "503 Service Unavailable",
            f"Request bodies have reached the limit of {self._limit} bytes (--{_ALL}); try again later",
        )

    def give(self, size: int) -> None:
        """Gives bytes back."""
        with self._lock:
            self._taken -= size


def gunzip(packed: bytes, budget: Budget) -> bytes:
    """Decompresses gzip data of up to 1,024 members.

    Args:
        packed: the data.
        budget: the decompressed bytes are taken from it; to be given back when the result is no longer needed.

    Raises:
        BodyError: it is not gzip data, or too large; nothing is taken from the budget then.
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
    """Yields pieces of the content as they are decompressed."""
    view = memoryview(packed)
    members, place, window = 0, 0, b""
    while window or place < len(view):
        members += 1
        if members > _MAX_MEMBERS:
            raise BodyError.malformed(f"it has more than {_MAX_MEMBERS} members")
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
