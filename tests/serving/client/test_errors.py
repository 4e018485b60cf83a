"""Failures as errors that say what to do."""

import grpc
import pytest

from serving.client import (
    BadRequestError,
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    ServerFaultError,
    ServingError,
    UnreachableError,
)
from serving.client.errors import from_status, is_unreachable


def test_every_status_has_its_error() -> None:
    kinds = {
        grpc.StatusCode.UNAVAILABLE: UnreachableError,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
        grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
        grpc.StatusCode.INVALID_ARGUMENT: BadRequestError,
        grpc.StatusCode.FAILED_PRECONDITION: BadRequestError,
        grpc.StatusCode.UNIMPLEMENTED: BadRequestError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
        grpc.StatusCode.INTERNAL: ServerFaultError,
        grpc.StatusCode.UNKNOWN: ServerFaultError,
    }
    for code, kind in kinds.items():
        error = from_status(code, "why", "host:1", "m", 1.0)
        assert type(error) is kind
        assert isinstance(error, ServingError)
        assert error.code is code
        assert "host:1" in str(error)


@pytest.mark.parametrize(
    ("details", "remedy"),
    [
        # Messages observed from gRPC 1.85 and httpx 0.28 (from OpenSSL and h11).
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: "
         "Connection refused", "Start one with"),
        ("errors resolving a:1: [field:hostname lookup error:address lookup failed for a:1: Domain name not found]",
         "Check the host name"),
        ("Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.",
         "--tls-server-name"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for "
         "'localhost'. (_ssl.c:1006)", "--tls-server-name"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate",
         "--tls-ca"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "does not speak TLS"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)", "--tls-cert"),
        ("failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Failed parsing HTTP/2 "
         "(Expected SETTINGS frame as the first frame, got frame type 80)", "--fallback"),
        ("[Errno -2] Name or service not known", "Check the host name"),
        ("Server disconnected without sending a response.", "try again"),
    ],
)  # fmt: skip
def test_remedies(details: str, remedy: str) -> None:
    assert remedy in str(from_status(grpc.StatusCode.UNAVAILABLE, details, "host:1", "m", 1.0))


def test_a_web_server_in_the_way_of_grpc_counts_as_unreachable() -> None:
    details = "Received http2 header with status: 404"
    assert is_unreachable(grpc.StatusCode.UNIMPLEMENTED, details)
    assert "--fallback" in str(from_status(grpc.StatusCode.UNIMPLEMENTED, details, "host:1", "m", 1.0))
    assert not is_unreachable(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
