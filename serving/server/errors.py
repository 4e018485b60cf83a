"""Errors with a gRPC status code, worded like TensorFlow Serving's."""

import grpc

# TensorFlow Serving truncates messages to this many bytes (``ToGRPCStatus`` in ``model_servers/grpc_status_util.cc``):
# they are sent in HTTP/2 headers of limited size.
_MESSAGE_LIMIT = 1024

_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

# Errors of a batched run that no single request caused.
NOBODYS_FAULT = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)


class StatusError(Exception):
    """An error that a client sees as a gRPC status.

    Attributes:
        code: the canonical status code.
        message: the text for the client.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """The code's name and the message."""
        return f"{self.code.name}: {self.message}"

    @property
    def number(self) -> int:
        """The code's number, which is the same in gRPC and in ``tensorflow.error.Code``."""
        return int(self.code.value[0])

    @property
    def grpc_details(self) -> str:
        """The message, truncated to fit into a response header."""
        text = self.message.encode(errors="replace")
        if len(text) <= _MESSAGE_LIMIT:
            return self.message
        return text[:_MESSAGE_LIMIT].decode(errors="ignore") + "...TRUNCATED"


def invalid_argument(message: str) -> StatusError:
    """The request is invalid regardless of the server's state."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    """No such model or version."""
    return StatusError(grpc.StatusCode.NOT_FOUND, message)


def too_late() -> StatusError:
    """The client gave up while the request was waiting: nobody needs the result."""
    return StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before the request was started")


def too_many(limit: int) -> StatusError:
    """The server is already processing the maximum number of inference requests."""
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"{limit} requests are in the server already (--max_concurrent_requests); try again later",
    )


def from_exception(error: BaseException) -> StatusError:
    """Translates any exception; TensorFlow's own have a code."""
    if isinstance(error, StatusError):
        return error
    number = getattr(error, "error_code", None)
    message = getattr(error, "message", None)
    if isinstance(number, int) and isinstance(message, str):
        return StatusError(_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN), message)
    if isinstance(error, MemoryError):
        return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "out of memory")
    text = str(error)
    name = type(error).__name__
    return StatusError(grpc.StatusCode.INTERNAL, f"{name}: {text}" if text else name)
