"""Client options: retries, keepalive, headers."""

import math
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc

from serving.client.calls import Metadata
from serving.client.errors import BadRequestError

# gRPC caps the number of attempts at this.
_MAX_ATTEMPTS = 5
# gRPC's jitter: pauses vary by this fraction either way (gRFC A6).
_JITTER = 0.2
_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Which failed calls are retried, and when; the semantics are those of gRPC's service config (gRFC A6).

    All calls of this client are idempotent, so load is the only argument against a retry. RESOURCE_EXHAUSTED is not
    among the default codes: it means that the request is too big or the server is at capacity, and more requests don't
    help. UNAVAILABLE is, although TensorFlow Serving also returns it when its batching queue is full: a restart looks
    the same to gRPC. The throttle keeps retries from feeding an overload: each failure takes a token, each success
    gives ``token_ratio`` back, and nothing is retried while no more than half of the tokens are left.

    Attributes:
        max_attempts: maximum number of calls, including the first, 1 to 5; 1 never retries.
        initial_backoff: seconds before the second attempt.
        max_backoff: maximum seconds before any attempt.
        backoff_multiplier: factor by which each pause is longer than the last one.
        codes: names of the gRPC status codes that are retried.
        max_tokens: size of the throttle's bucket; 0 turns the throttle off.
        token_ratio: tokens that a success gives back.
    """

    max_attempts: int = 3
    initial_backoff: float = 0.1
    max_backoff: float = 2.0
    backoff_multiplier: float = 2.0
    codes: tuple[str, ...] = ("UNAVAILABLE",)
    max_tokens: int = 10
    token_ratio: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= _MAX_ATTEMPTS:
            raise BadRequestError(f"max_attempts must be 1 to {_MAX_ATTEMPTS}, got {self.max_attempts}")
        for name in ("initial_backoff", "max_backoff", "backoff_multiplier", "token_ratio"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise BadRequestError(f"{name} must be a positive number, got {value}")
        if not 0 <= self.max_tokens <= 1000:
            raise BadRequestError(f"max_tokens must be 0 to 1000, got {self.max_tokens}")
        known = {code.name for code in grpc.StatusCode} - {"OK"}
        if isinstance(self.codes, str) or not self.codes or not known.issuperset(self.codes):
            raise BadRequestError(f"codes must be names of gRPC status codes such as UNAVAILABLE, got {self.codes!r}")

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after ``attempt`` attempts, with random jitter."""
        pause = min(self.initial_backoff * self.backoff_multiplier ** (attempt - 1), self.max_backoff)
        return pause * random.uniform(1 - _JITTER, 1 + _JITTER)


DEFAULT_RETRY = RetryPolicy()


class RetryThrottle:
    """gRPC's retry throttle for REST, which has none. Thread-safe.

    Args:
        policy: gives size and ratio.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._tokens = float(policy.max_tokens)
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Counts a success."""
        with self._lock:
            self._tokens = min(self._tokens + self._policy.token_ratio, self._policy.max_tokens)

    def failed(self) -> bool:
        """Counts a failure; returns whether it may be retried."""
        if not self._policy.max_tokens:
            return True
        with self._lock:
            self._tokens = max(self._tokens - 1, 0.0)
            return self._tokens > self._policy.max_tokens / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """gRPC's keepalive pings, which detect dead connections and keep them open through a proxy.

    Servers close connections that ping too often: gRPC servers allow one ping in 5 minutes unless configured otherwise
    (``--grpc_channel_arguments=grpc.http2.min_ping_interval_without_data_ms=...``).

    Attributes:
        seconds: time between pings.
        timeout: seconds within which a ping must be answered.
        without_calls: ping also while there are no calls.
    """

    seconds: float = 300.0
    timeout: float = 20.0
    without_calls: bool = False

    def __post_init__(self) -> None:
        for name in ("seconds", "timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadRequestError(f"keepalive's {name} must be a positive number, got {getattr(self, name)}")


def checked_metadata(given: Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]] | None) -> Metadata:
    """Metadata in the form that gRPC and HTTP require: lower-case keys.

    Args:
        given: pairs or a mapping; values are printable ASCII, or bytes under keys that end in ``-bin``.

    Raises:
        BadRequestError: a key or value can't be sent; the message names it.
    """
    if given is None:
        return ()
    pairs = list(given.items()) if isinstance(given, Mapping) else list(given)
    return tuple(_checked(key, value) for key, value in pairs)


def _checked(key: object, value: object) -> tuple[str, str | bytes]:
    if not isinstance(key, str) or not _KEY.fullmatch(key.lower()) or key.lower().startswith("grpc-"):
        raise BadRequestError(
            f"metadata key {key!r} can't be sent: keys are letters, digits and _ . - and don't begin with grpc-"
        )
    key = key.lower()
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise BadRequestError(f"metadata {key} must be bytes, got {type(value).__name__}: its key ends in -bin")
        return key, value
    # The value may be a secret: it is not shown.
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise BadRequestError(
            f"metadata {key} must be str of printable ASCII, got {type(value).__name__}; "
            "give bytes under a key that ends in -bin"
        )
    return key, value.strip()
