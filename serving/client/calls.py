"""The steps of each client call, independent of how they are executed.

Everything between a method of the API and the network is written once, as generators that yield steps (``Rpc``,
``HttpRequest``, ``Pause``) and are sent their results. ``drivers`` executes the steps, blocking or in an event loop.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

Metadata = tuple[tuple[str, str | bytes], ...]


class Deadline:
    """The time by which a call must be answered, including all its attempts.

    Args:
        seconds: from now; None for never.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds left, never less than 0; None for no limit."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def allows(self, seconds: float) -> bool:
        """Whether more than ``seconds`` are left."""
        left = self.left()
        return left is None or left > seconds


@dataclass(frozen=True, slots=True)
class Call:
    """Per-call options.

    Attributes:
        deadline: when the call must be answered.
        metadata: extra headers for this call.
    """

    deadline: Deadline
    metadata: Metadata = ()


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """A unary RPC: its path and the class of its response."""

    path: str
    response: Any


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC; its result is the response message."""

    method: RpcMethod
    request: Any
    call: Call


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP exchange; its result is an ``HttpResponse`` of any status.

    Attributes:
        verb: GET or POST.
        path: relative to the base URL, percent-encoded.
        body: a JSON document, or nothing.
        call: deadline and headers.
    """

    verb: str
    path: str
    body: bytes | None
    call: Call


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response: status, media type (without parameters) and decompressed body."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait of some seconds."""

    seconds: float


Step = Rpc | HttpRequest | Pause
_T = TypeVar("_T")
Steps = Generator[Step, Any, _T]


class CallFailed(Exception):  # noqa: N818  (never leaves the package)
    """A step that failed.

    Attributes:
        code: the gRPC code, or the equivalent of the HTTP status.
        details: the message of the server or the library.
        target: the server's address.
    """

    def __init__(self, code: grpc.StatusCode, details: str, target: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.target = target


def next_step(steps: Steps[Any], reply: Any, failure: CallFailed | None) -> Step:
    """Sends a generator the result of its last step and returns the next one.

    Raises:
        StopIteration: it is done; its ``value`` is the result.
    """
    return steps.send(reply) if failure is None else steps.throw(failure)


def joined(*parts: Sequence[tuple[str, str | bytes]]) -> Metadata:
    """Concatenates metadata."""
    return tuple(pair for part in parts for pair in part)
