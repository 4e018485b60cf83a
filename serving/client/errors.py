"""What can go wrong when a model server is asked, told so that one knows what to do."""

import re

import grpc


class ServingError(Exception):
    """Base of all failures of the client.

    Attributes:
        code: the gRPC status (a REST answer's HTTP status is translated), None when the request was refused
            before it was sent.
        exit_code: what the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class UnreachableError(ServingError):
    """No server answers at the address, or it can't answer at present."""

    exit_code = 3


class DeadlineExceededError(ServingError):
    """The answer did not come within the time-out."""

    exit_code = 4


class ModelNotFoundError(ServingError):
    """The server has no such model, or no such version of it."""

    exit_code = 5


class BadRequestError(ServingError):
    """The request does not fit: a value of a wrong type, or an input or signature the model doesn't have."""

    exit_code = 2


class OverloadedError(ServingError):
    """The server refuses work because it has too much of it."""

    exit_code = 6


class AccessDeniedError(ServingError):
    """The server, or a proxy before it, does not let this client in."""

    exit_code = 7


class ServerFaultError(ServingError):
    """The server or its model failed."""


# A full queue is UNAVAILABLE like a server that is not there; only the words differ. TensorFlow's are "The batch
# scheduling queue to which this task was submitted is full" (core/kernels/batching_util/shared_batch_scheduler.h)
# and, with large batches split, "... task size is 8 but scheduling capacity is only 2".
_OVERLOADED = re.compile(
    r"queue\b.*\bfull|scheduling (queue|capacity)|overload|too many requests|limit exceeded", re.IGNORECASE
)
_START = (
    "Start one with `python -m serving.server --port=8500 --model_name=... --model_base_path=...`, or check the address"
)
_NO_HTTP2 = (
    "That port speaks no HTTP/2: if it is the REST port write http://host:port; if a proxy stands between, "
    "give the REST address as `fallback` (--fallback)"
)
_CERTIFICATE_WANTED = "The server wants a client's certificate: give `certificate` and `key` (--tls-cert, --tls-key)"
# What gRPC and OpenSSL say when no connection comes about -> the remedy. The first that is found counts.
_CONNECTION_REMEDIES = (
    (
        r"hostname.*(mismatch|verif)|doesn't match|not valid for",
        "The server's certificate is for another name: give that name as `server_name` (--tls-server-name)",
    ),
    (
        r"certificate.?verify.?failed|self.signed|unable to get local issuer",
        "This machine does not trust the server's certificate: give that of its authority as `ca` (--tls-ca)",
    ),
    (r"certificate.?required|handshake.?failure|bad.certificate|unknown.ca", _CERTIFICATE_WANTED),
    (
        r"wrong.version.number|record.layer.failure|http.request",
        "That port speaks no TLS: leave TLS out, or give the port that has it",
    ),
    (r"http/2|http1|frame", _NO_HTTP2),
    (
        r"illegal (request|status) line|illegal header",
        "That port speaks no HTTP/1.1: if it is the gRPC port write host:port",
    ),
    (r"received http2 header with status", _NO_HTTP2),
    (
        r"socket closed|connection (was closed|reset)|disconnected|broken pipe|eof|goaway",
        "The connection was closed: if the server wants TLS write grpcs:// or https:// (--tls); "
        "if it wants a client's certificate give one (--tls-cert, --tls-key); if it is restarting, try again",
    ),
    (r"resolv|lookup|name or service|nodename|getaddrinfo", "Check the host name"),
    (r"failed to connect|connect|refused|unreachable|handshake|upstream", _START),
)


def is_overloaded(code: grpc.StatusCode, details: str) -> bool:
    """Whether the server refused because it has too much to do."""
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED or (
        code is grpc.StatusCode.UNAVAILABLE and _OVERLOADED.search(details) is not None
    )


def is_unreachable(code: grpc.StatusCode, details: str) -> bool:
    """Whether no model server was reached: nobody there, or something between that does not pass gRPC on."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return not is_overloaded(code, details)
    # What gRPC makes of the answer of a web server or proxy that knows HTTP/2 but not gRPC.
    return "http2 header with status" in details.lower()


def from_rpc_error(error: grpc.RpcError, target: str, model_name: str, timeout: float | None) -> ServingError:
    """Translates a failed gRPC call.

    Args:
        error: what gRPC raised.
        target: the server's address.
        model_name: the model asked for.
        timeout: the deadline, seconds.
    """
    return from_status(error.code(), error.details() or "", target, model_name, timeout)


def from_status(
    code: grpc.StatusCode, details: str, target: str, model_name: str, timeout: float | None
) -> ServingError:
    """Translates a status.

    Args:
        code: gRPC's code.
        details: what the server or gRPC says about it.
        target: the server's address.
        model_name: the model asked for.
        timeout: the deadline, seconds.
    """
    details = " ".join(details.split())
    status = grpc.StatusCode
    if is_overloaded(code, details):
        return OverloadedError(
            f"{target} has no capacity left: {details}. Try again later, send less at once, or start more servers", code
        )
    if code is status.UNAVAILABLE or is_unreachable(code, details):
        return _unreachable(code, details, target)
    if code is status.DEADLINE_EXCEEDED:
        limit = f"{timeout:g} s" if timeout is not None else "the deadline"
        more = "Allow more time with `timeout` (--timeout)"
        # What the server says of it, where it does, is the reason.
        said = more if details.lower() in ("", "deadline exceeded") else f"{details}. If it only needs time: {more}"
        return DeadlineExceededError(f"{target} did not answer within {limit}. {said}", code)
    if code is status.NOT_FOUND:
        return ModelNotFoundError(
            f"{target} does not serve this: {details}. Check the model name ({model_name!r} was asked for) "
            "and version; the server was started with --model_name or --model_config_file",
            code,
        )
    if code in (status.UNAUTHENTICATED, status.PERMISSION_DENIED):
        return AccessDeniedError(
            f"{target} does not let this client in: {details or code.name}. Give what it asks for, by `metadata` "
            "(-H authorization=...) or a client's certificate (--tls-cert, --tls-key)",
            code,
        )
    if code in (status.INVALID_ARGUMENT, status.FAILED_PRECONDITION, status.UNIMPLEMENTED, status.OUT_OF_RANGE):
        return BadRequestError(f"{target} refused the request: {details}", code)
    return ServerFaultError(f"{target} failed with {code.name}: {details}. Its log tells more", code)


def _unreachable(code: grpc.StatusCode, details: str, target: str) -> UnreachableError:
    for pattern, remedy in _CONNECTION_REMEDIES:
        if re.search(pattern, details, re.IGNORECASE):
            return UnreachableError(f"no model server answers at {target} ({details}). {remedy}", code)
    return UnreachableError(
        f"{target} can't answer now: {details or code.name}. It may be starting or stopping; try again shortly", code
    )
