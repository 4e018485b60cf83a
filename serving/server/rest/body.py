"""Request bodies: lengths, limits, chunks, gzip."""

import zlib
from collections.abc import Mapping
from typing import Any, Protocol

_CHUNK_LINE = 4096
_MAX_TRAILERS = 64
_PIECE = 1 << 20
_GZIP = zlib.MAX_WBITS | 16


class BodyError(Exception):
    """A request's body can't be taken.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Input(Protocol):
    """A stream of bytes."""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; less at the end only."""
        ...

    def readline(self, size: int) -> bytes:
        """A line, or its first ``size`` bytes."""
        ...


class ChunkedInput:
    """A body in HTTP/1.1's chunked transfer coding, decoded.

    Args:
        stream: the connection.

    Raises:
        BodyError: on reading, when the coding is malformed.
    """

    def __init__(self, stream: Input) -> None:
        self._stream = stream
        self._left = 0
        self._started = False
        self._ended = False

    @property
    def remaining(self) -> int:
        """0 once all of the body is read, otherwise more."""
        return 0 if self._ended else 1

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; less at the end only."""
        parts: list[bytes] = []
        while size and not self._ended:
            if not self._left:
                self._next_chunk()
                continue
            part = self._stream.read(min(size, self._left))
            if not part:
                raise _malformed("it ends early")
            parts.append(part)
            size -= len(part)
            self._left -= len(part)
        return b"".join(parts)

    def _next_chunk(self) -> None:
        if self._started and self._stream.read(2) != b"\r\n":
            raise _malformed("a chunk is longer than it says")
        self._started = True
        line = self._stream.readline(_CHUNK_LINE)
        digits = line.partition(b";")[0].strip()
        if not line.endswith(b"\n") or not digits or digits.strip(b"0123456789abcdefABCDEF") or len(digits) > 15:
            raise _malformed("a chunk's size is no hexadecimal number")
        self._left = int(digits, 16)
        if self._left:
            return
        self._ended = True
        for _ in range(_MAX_TRAILERS):
            if self._stream.readline(_CHUNK_LINE) in (b"\r\n", b"\n", b""):
                return
        raise _malformed("too many trailers")


def read_body(environ: Mapping[str, Any], limit: int) -> bytes:
    """The body of a WSGI request, unpacked when it is compressed.

    Args:
        environ: the WSGI environment.
        limit: most bytes, compressed or not.

    Raises:
        BodyError: the body is too large, incomplete, or not what its headers say.
        OSError: the connection failed or was too slow.
    """
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise _too_large(limit)
    else:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > limit:
            raise _too_large(limit)
        body = stream.read(length) if length else b""
        if len(body) < length:
            raise BodyError("400 Bad Request", f"Request body ends after {len(body)} of {length} bytes")
    # As in the real server, gzip anywhere in the header will do.
    if body and "gzip" in environ.get("HTTP_CONTENT_ENCODING", "").lower():
        return gunzip(body, limit)
    return body


def gunzip(packed: bytes, limit: int) -> bytes:
    """Unpacks gzip data of any number of members, as long as it does not grow beyond ``limit``.

    Raises:
        BodyError: it is no gzip data, or too much.
    """
    parts: list[bytes] = []
    size = 0
    while packed:
        unpacker = zlib.decompressobj(_GZIP)
        while not unpacker.eof:
            try:
                part = unpacker.decompress(packed, min(_PIECE, limit - size + 1))
            except zlib.error as error:
                raise BodyError("400 Bad Request", f"Request body is not valid gzip data: {error}") from None
            packed = unpacker.unconsumed_tail
            parts.append(part)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            if not part and not packed and not unpacker.eof:
                raise BodyError("400 Bad Request", "Request body is not valid gzip data: it ends early")
        packed = unpacker.unused_data
    return b"".join(parts)


def _too_large(limit: int) -> BodyError:
    return BodyError("413 Content Too Large", f"Request body is larger than {limit} bytes")


def _malformed(why: str) -> BodyError:
    return BodyError("400 Bad Request", f"Request body is not in chunked transfer coding: {why}")
