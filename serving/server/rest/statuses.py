"""Canonical status codes as HTTP statuses.

Source: ``ToHTTPStatusCode`` in ``model_servers/http_server.cc``.
"""

import grpc

from serving.server.errors import StatusError

_Code = grpc.StatusCode

HTTP_STATUS: dict[grpc.StatusCode, str] = {
    _Code.OK: "200 OK",
    _Code.CANCELLED: "499 Client Closed Request",
    _Code.UNKNOWN: "500 Internal Server Error",
    _Code.INVALID_ARGUMENT: "400 Bad Request",
    _Code.DEADLINE_EXCEEDED: "504 Gateway Timeout",
    _Code.NOT_FOUND: "404 Not Found",
    _Code.ALREADY_EXISTS: "409 Conflict",
    _Code.PERMISSION_DENIED: "403 Forbidden",
    _Code.RESOURCE_EXHAUSTED: "429 Too Many Requests",
    _Code.FAILED_PRECONDITION: "400 Bad Request",
    _Code.ABORTED: "409 Conflict",
    _Code.OUT_OF_RANGE: "400 Bad Request",
    _Code.UNIMPLEMENTED: "501 Not Implemented",
    _Code.INTERNAL: "500 Internal Server Error",
    _Code.UNAVAILABLE: "503 Service Unavailable",
    _Code.DATA_LOSS: "500 Internal Server Error",
    _Code.UNAUTHENTICATED: "401 Unauthorized",
}


def unimplemented(message: str) -> StatusError:
    """Part of the API that this server does not support."""
    return StatusError(_Code.UNIMPLEMENTED, message)


def internal(message: str) -> StatusError:
    """A server fault."""
    return StatusError(_Code.INTERNAL, message)
