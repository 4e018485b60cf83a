"""Client errors, with messages that say how to fix the problem."""

import re

import grpc


class ServingError(Exception):
    """Base of all client errors.

    Attributes:
        code: the gRPC status (a REST response's HTTP status is translated), None when the request was rejected
            before it was sent.
        exit_code: the exit status of the command line.
    """

    exit_code = 1

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class UnreachableError(ServingError):
    """No server responds at the address, or it can't respond at the moment."""

    exit_code = 3


class DeadlineExceededError(ServingError):
    """The server did not respond within the timeout."""

    exit_code = 4


class ModelNotFoundError(ServingError):
    """The server has no such model, or no such version of it."""

    exit_code = 5


class BadRequestError(ServingError):
    """The request is invalid: a value has the wrong type, or the model lacks that input or signature."""

    exit_code = 2


class OverloadedError(ServingError):
    """The server rejects requests because it is overloaded."""

    exit_code = 6


class AccessDeniedError(ServingError):
    """The server, or a proxy in front of it, denies access to this client."""

    exit_code = 7


class ServerFaultError(ServingError):
    """The server or its model failed."""


# A full queue is UNAVAILABLE, just like a missing server; only the messages differ. TensorFlow's are "The batch
# scheduling queue to which this task was submitted is full" (core/kernels/batching_util/shared_batch_scheduler.h)
# and, with large batches split, "... task size is 8 but scheduling capacity is only 2".
_OVERLOADED = re.compile(
    r"queue\b.*\bfull|scheduling (queue|capacity)|overload|too many requests|limit exceeded", re.IGNORECASE
)
# TensorFlow Serving's message for a label that no version has (`model_servers/server_core.cc`), with INVALID_ARGUMENT.
_NO_LABEL = re.compile(r"unrecognized servable version label", re.IGNORECASE)
_START = (
    "Start one with `python -m serving.server --port=8500 --model_name=... --model_base_path=...`, or check the address"
)
_NO_HTTP2 = (
    "That port does not speak HTTP/2: if it is the REST port write http://host:port; if there is a proxy in between, "
    "give the REST address as `fallback` (--fallback)"
)
_CERTIFICATE_WANTED = "The server requires a client certificate: give `certificate` and `key` (--tls-cert, --tls-key)"
# gRPC's and OpenSSL's messages for failed connections -> the remedy. The first match wins.
_CONNECTION_REMEDIES = (
    (
        r"hostname.*(mismatch|verif)|doesn't match|not valid for",
        "The server's certificate is for another name: give that name as `server_name` (--tls-server-name)",
    ),
    (
        r"certificate.?verify.?failed|self.signed|unable to get local issuer",
        "This machine does not trust the server's certificate: give the certificate of its CA as `ca` (--tls-ca)",
    ),
    (r"certificate.?required|handshake.?failure|bad.certificate|unknown.ca", _CERTIFICATE_WANTED),
    (
        r"wrong.version.number|record.layer.failure|http.request",
        "That port does not speak TLS: turn TLS off, or give the TLS port",
    ),
    (r"http/2|http1|frame", _NO_HTTP2),
    (
        r"illegal (request|status) line|illegal header",
        "That port does not speak HTTP/1.1: if it is the gRPC port write host:port",
    ),
    (r"received http2 header with status", _NO_HTTP2),
    (
        r"socket closed|connection (was closed|reset)|disconnected|broken pipe|eof|goaway",
        "The connection was closed: if the server requires TLS write grpcs:// or https:// (--tls); "
        "if it requires a client certificate give one (--tls-cert, --tls-key); if it is restarting, try again",
    ),
    (r"resolv|lookup|name or service|nodename|getaddrinfo", "Check the host name"),
    (r"failed to connect|connect|refused|unreachable|handshake|upstream", _START),
)


def is_overloaded(code: grpc.StatusCode, details: str) -> bool:
    """Whether the server rejected the request because it is overloaded."""
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED or (
        code is grpc.StatusCode.UNAVAILABLE and _OVERLOADED.search(details) is not None
    )


def is_unreachable(code: grpc.StatusCode, details: str) -> bool:
    """Whether no model server was reached: none is running, or something in between does not forward gRPC."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return not is_overloaded(code, details)
    # gRPC's message for a response from a web server or proxy that knows HTTP/2 but not gRPC.
    return "http2 header with status" in details.lower()


def from_status(
    code: grpc.StatusCode, details: str, target: str, model_name: str, timeout: float | None
) -> ServingError:
    """Translates a status code.

    Args:
        code: gRPC's code.
        details: what the server or gRPC says about it.
        target: the server's address.
        model_name: the requested model.
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
        # The server's message, if any, is the reason.
        advice = more if details.lower() in ("", "deadline exceeded") else f"{details}. If it only needs time: {more}"
        return DeadlineExceededError(f"{target} did not answer within {limit}. {advice}", code)
    if code is status.NOT_FOUND or (code is status.INVALID_ARGUMENT and _NO_LABEL.search(details)):
        return ModelNotFoundError(
            f"{target} does not serve this: {details}. Check the model name (requested: {model_name!r}) "
            "and the version or its label; the server was started with --model_name or --model_config_file",
            code,
        )
    if code in (status.UNAUTHENTICATED, status.PERMISSION_DENIED):
        return AccessDeniedError(
            f"{target} denied access to this client: {details or code.name}. Give credentials as `metadata` "
            "(-H authorization=...) or a client certificate (--tls-cert, --tls-key)",
            code,
        )
    if code in (status.INVALID_ARGUMENT, status.FAILED_PRECONDITION, status.UNIMPLEMENTED, status.OUT_OF_RANGE):
        return BadRequestError(f"{target} refused the request: {details}", code)
    return ServerFaultError(f"{target} failed with {code.name}: {details}. See its log", code)


def _unreachable(code: grpc.StatusCode, details: str, target: str) -> UnreachableError:
    for pattern, remedy in _CONNECTION_REMEDIES:
        if re.search(pattern, details, re.IGNORECASE):
            return UnreachableError(f"no model server responds at {target} ({details}). {remedy}", code)
    return UnreachableError(
        f"{target} can't respond now: {details or code.name}. It may be starting or stopping; try again shortly", code
    )
