"""The client's options: what it accepts and refuses, and what gRPC and TLS make of them."""

import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from serving.client import (
    AsyncRecommenderClient,
    BadRequestError,
    Keepalive,
    RecommenderClient,
    RetryPolicy,
    TlsOptions,
)
from serving.client.connections import channel_options
from serving.client.settings import http_context, parse_target


@pytest.mark.parametrize(
    ("text", "is_rest", "address", "is_secure"),
    [
        ("localhost:8500", False, "localhost:8500", False),
        (" [::1]:8500 ", False, "[::1]:8500", False),
        ("grpc://host:1", False, "host:1", False),
        ("grpcs://host:1/", False, "host:1", True),
        ("GRPCS://host:1", False, "host:1", True),
        ("unix:/run/s", False, "unix:/run/s", False),
        ("unix:///run/s", False, "unix:///run/s", False),
        ("dns:///host:1", False, "dns:///host:1", False),
        ("ipv4:1.2.3.4:5,6.7.8.9:5", False, "ipv4:1.2.3.4:5,6.7.8.9:5", False),
        ("http://host:8501", True, "http://host:8501", False),
        ("https://host/a/b/", True, "https://host/a/b", True),
    ],
)
def test_addresses(text: str, is_rest: bool, address: str, is_secure: bool) -> None:
    target = parse_target(text)
    assert (target.is_rest, target.address, target.is_secure) == (is_rest, address, is_secure)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be text like"),
        (8500, "must be text like"),
        ("localhost", "Write localhost:8500"),
        ("host:0", "no valid port"),
        ("host:99999", "no valid port"),
        ("host:port", "no valid port"),
        ("host:1/v1", "no valid port"),
        ("ftp://host:1", "unknown scheme"),
        ("http://", "not a REST API address"),
        ("http://host:x", "not a REST API address"),
        ("http://host:1?a=b", "not a REST API address"),
        ("http://host:8501/v1/models/m", "leave /v1"),
        ("grpcs://host", "no valid port"),
    ],
)
@pytest.mark.parametrize("kind", [RecommenderClient, AsyncRecommenderClient])
def test_invalid_addresses(kind: type, text: object, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        kind(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_name": ""}, "model_name"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"version": -1}, "version"),
        ({"version": "1"}, "version"),
        ({"version": 1, "version_label": "a"}, "not both"),
        ({"compression": "zstd"}, "compression"),
        ({"metadata": {"grpc-timeout": "1"}}, "grpc-timeout"),
        ({"metadata": {"a b": "1"}}, "'a b'"),
        ({"metadata": {"a": "é"}}, "printable ASCII"),
        ({"metadata": {"a": "b\nc"}}, "printable ASCII"),
        ({"metadata": {"a": b"1"}}, "-bin"),
        ({"metadata": {"a-bin": "1"}}, "must be bytes"),
        ({"fallback": "localhost:8501"}, "http://host:8501"),
        ({"target": "http://a:1", "fallback": "http://b:1"}, "REST address"),
        ({"fallback": "http://a:1", "wait_for_ready": True}, "never be used"),
        ({"fallback": "http://a:1", "fallback_seconds": -1}, "fallback_seconds"),
        ({"target": "http://a:1", "tls": TlsOptions()}, "write https://"),
        ({"target": "grpc://a:1", "tls": TlsOptions()}, "write grpcs://"),
    ],
)
def test_invalid_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        RecommenderClient(**options)


def test_secrets_are_not_shown() -> None:
    with pytest.raises(BadRequestError) as caught:
        RecommenderClient(metadata={"authorization": "Bearer sécret"})
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"max_attempts": 0},
        {"max_attempts": 6},
        {"initial_backoff": 0},
        {"max_backoff": float("inf")},
        {"codes": ()},
        {"codes": "UNAVAILABLE"},
        {"codes": ("OK",)},
        {"codes": ("BUSY",)},
        {"max_tokens": 1001},
    ],
)
def test_invalid_retry_policies(values: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match=next(iter(values))):
        RetryPolicy(**values)


def test_keepalive_is_checked() -> None:
    with pytest.raises(BadRequestError, match="seconds"):
        Keepalive(seconds=0)


def options_of(**values: Any) -> dict[str, Any]:
    with RecommenderClient(**values) as client:
        return dict(channel_options(client._settings))


def test_service_config() -> None:
    """Checked against gRPC's own ``service_config.proto``."""
    options = options_of(target="dns:///host:1")
    assert json.loads(options["grpc.service_config"]) == {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.100s",
                    "maxBackoff": "2.000s",
                    "backoffMultiplier": 2.0,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
    assert options["grpc.max_receive_message_length"] == options["grpc.max_send_message_length"] == -1
    assert "grpc.keepalive_time_ms" not in options
    options = options_of(retry=None, keepalive=Keepalive(seconds=30, timeout=5, without_calls=True))
    assert json.loads(options["grpc.service_config"]) == {}
    assert options["grpc.enable_retries"] == 0
    assert options["grpc.keepalive_time_ms"] == 30_000
    assert options["grpc.keepalive_timeout_ms"] == 5_000
    assert options["grpc.keepalive_permit_without_calls"] == 1


def test_own_channel_options_win() -> None:
    options = options_of(channel_options=[("grpc.max_receive_message_length", 7), ("grpc.x", "y")])
    assert options["grpc.max_receive_message_length"] == 7
    assert options["grpc.x"] == "y"


def test_backoff_grows_to_its_limit() -> None:
    policy = RetryPolicy(initial_backoff=1, max_backoff=4, backoff_multiplier=3)
    for attempt, pause in ((1, 1), (2, 3), (3, 4), (4, 4)):
        for _ in range(20):
            assert 0.8 * pause <= policy.backoff(attempt) <= 1.2 * pause


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ca": "none.pem"}, r"ca file .*none\.pem can't be read: No such file"),
        ({"ca": "garbage.pem"}, r"ca file .*garbage\.pem holds no PEM certificates"),
        ({"certificate": "client.pem"}, "`key` is missing"),
        ({"key": "client.key"}, "`certificate` is missing"),
        ({"certificate": "client.pem", "key": "none"}, "key file .*none can't be read"),
        ({"certificate": "client.pem", "key": "other.key"}, "is not the key of"),
        ({"certificate": "client.pem", "key": "garbage.pem"}, "can't be read: .*PEM"),
        ({"certificate": "client.pem", "key": "locked.key"}, "encrypted"),
    ],
)
@pytest.mark.parametrize("target", ["localhost:1", "https://localhost:1"])
@pytest.mark.parametrize("kind", [RecommenderClient, AsyncRecommenderClient])
def test_unusable_tls_files_are_named_before_anything_is_sent(
    pems: Path, files: dict[str, str], message: str, target: str, kind: type
) -> None:
    with pytest.raises(BadRequestError, match=message):
        kind(target, tls=TlsOptions(**{name: str(pems / file) for name, file in files.items()}))


def test_ssl_context_is_verified_by_default() -> None:
    context = http_context(TlsOptions())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
