"""A client's settings, checked: the server's address, TLS, retries, keepalive, headers.

gRPC finds a garbled certificate only during a handshake, and then says little. So the ``ssl`` module reads all TLS
files before the first connection.
"""

import importlib.util
import math
import random
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from serving.client.errors import BadRequestError

Metadata = tuple[tuple[str, str | bytes], ...]
GivenMetadata = Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]]
_PathLike = str | PathLike[str]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# Schemes of gRPC's own name resolvers; their targets are passed through unchanged.
_RESOLVER = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds|passthrough|google-c2p):", re.IGNORECASE)
# These can resolve to several addresses.
_MULTIPLE = re.compile(r"(dns|ipv4|ipv6):", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(\[[^\]\s]+\]|[^\s:/\[\]]+):(\d{1,5})")
_MAX_PORT = 65535
# gRPC caps the number of attempts at this.
_MAX_ATTEMPTS = 5
# gRPC's jitter: pauses vary by this fraction either way (gRFC A6).
_JITTER = 0.2
_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_COMPRESSIONS = (None, "gzip")


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address.

    Attributes:
        text: as it was given.
        is_rest: the REST API's, not gRPC's.
        address: gRPC's target, or the base URL of the REST API without a slash at its end.
        is_secure: whether its scheme asks for TLS.
        is_multiple: whether it may resolve to several addresses.
    """

    text: str
    is_rest: bool
    address: str
    is_secure: bool
    is_multiple: bool = False


def parse_target(text: str) -> Target:
    """Parses an address.

    Args:
        text: gRPC: ``host:port``, ``grpc://host:port``, ``grpcs://host:port`` (TLS), ``unix:/path``,
            ``dns:///host:port`` and anything else gRPC knows; REST: ``http://host:port``, ``https://host:port``, with a
            path after it if ``/v1`` is not at the root.

    Raises:
        BadRequestError: it is none of these; the message says what to write.
    """
    if not isinstance(text, str) or not text.strip():
        raise BadRequestError(f"the server's address must be text like localhost:8500, got {text!r}")
    text = text.strip()
    scheme = _SCHEME.match(text)
    kind = scheme[1].lower() if scheme else ""
    if kind in ("http", "https"):
        return _rest_target(text, kind == "https")
    if kind in ("grpc", "grpcs"):
        address = text[len(kind) + 3 :].rstrip("/")
        _check_host_and_port(text, address)
        return Target(text, False, address, kind == "grpcs")
    if _RESOLVER.match(text):
        return Target(text, False, text, False, _MULTIPLE.match(text) is not None)
    if scheme:
        raise BadRequestError(
            f"the address {text} has an unknown scheme. Write host:port or grpcs://host:port for gRPC, "
            "http://host:port or https://host:port for REST"
        )
    _check_host_and_port(text, text)
    return Target(text, False, text, False)


def _rest_target(text: str, is_secure: bool) -> Target:
    try:
        parts = urlsplit(text)
        port_is_right = parts.port != 0
    except ValueError:
        port_is_right = False
    if not port_is_right or not parts.hostname or parts.query or parts.fragment or re.search(r"\s", text):
        raise BadRequestError(
            f"{text} is not a REST API address. Write http://host:8501, followed by a path if a proxy needs one"
        )
    base = text.rstrip("/")
    if re.search(r"/v1(/models.*)?$", parts.path.rstrip("/")):
        raise BadRequestError(f"leave /v1 and what follows out of the address {text}: the client adds it")
    return Target(text, True, base, is_secure)


def _check_host_and_port(text: str, address: str) -> None:
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or not 0 < int(found[2]) <= _MAX_PORT:
        remedy = (
            f"Write {address}:8500" if re.fullmatch(r"[\w.-]+", address) else "Write host:port, such as localhost:8500"
        )
        raise BadRequestError(f"the address {text} has no valid port. {remedy}, the value of the server's --port")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """How the server is verified, and how the client identifies itself. All files are PEM.

    Attributes:
        ca: certificates of the authorities trusted to sign the server's; None uses the public ones (those that come
            with gRPC, or certifi's for REST).
        certificate: the client's certificate, followed by any intermediate certificates, for servers that require one
            (mTLS).
        key: its private key, not encrypted.
        server_name: the name that the server's certificate is for, when it is not the one in the address.
    """

    ca: _PathLike | None = None
    certificate: _PathLike | None = None
    key: _PathLike | None = None
    server_name: str | None = None


def check_tls(options: TlsOptions) -> None:
    """Reads all files.

    Raises:
        BadRequestError: a file is missing or has the wrong content; the message names it.
    """
    if (options.certificate is None) != (options.key is None):
        missing = "key" if options.key is None else "certificate"
        raise BadRequestError(f"TLS: a client certificate needs both files, but `{missing}` is missing")
    context = ssl.create_default_context()
    if options.ca is not None:
        _read("ca", options.ca)
    _load(context, options)


def grpc_credentials(options: TlsOptions) -> grpc.ChannelCredentials:
    """Credentials of a gRPC channel.

    Raises:
        BadRequestError: see ``check_tls``.
    """
    check_tls(options)
    return grpc.ssl_channel_credentials(
        root_certificates=None if options.ca is None else _read("ca", options.ca),
        private_key=None if options.key is None else _read("key", options.key),
        certificate_chain=None if options.certificate is None else _read("certificate", options.certificate),
    )


def http_context(options: TlsOptions) -> ssl.SSLContext:
    """The context for HTTPS.

    Raises:
        BadRequestError: see ``check_tls``.
    """
    import httpx

    check_tls(options)
    context = httpx.create_ssl_context() if options.ca is None else ssl.create_default_context(cafile=options.ca)
    _load(context, options)
    return context


def _load(context: ssl.SSLContext, options: TlsOptions) -> None:
    if options.ca is not None:
        try:
            context.load_verify_locations(options.ca)
        except ssl.SSLError as error:
            raise BadRequestError(
                f"TLS: ca file {options.ca} holds no PEM certificates (-----BEGIN CERTIFICATE-----): {_reason(error)}"
            ) from None
    if options.certificate is None or options.key is None:
        return
    _read("certificate", options.certificate)
    _read("key", options.key)
    try:
        context.load_cert_chain(options.certificate, options.key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadRequestError(
                f"TLS: key file {options.key} is not the key of the first certificate of {options.certificate}"
            ) from None
        raise BadRequestError(
            f"TLS: certificate file {options.certificate} or key file {options.key} can't be read: {_reason(error)}. "
            "Both must be PEM"
        ) from None


def _read(what: str, path: _PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadRequestError(f"TLS: {what} file {path} can't be read: {error.strerror or error}") from None


def _no_password() -> str:
    raise BadRequestError("TLS: the key file is encrypted, and there is no way to ask for its password: decrypt it")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


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


@dataclass(slots=True, kw_only=True)
class Settings:
    """The arguments of a client, checked; ``serving.client.client.Client`` says what they mean.

    Attributes:
        grpc: the gRPC server's address, if there is one.
        rest: the REST API's address, if there is one: the target or the fallback.
        headers: ``metadata`` as it is sent.

    Raises:
        BadRequestError: a value is wrong or two conflict.
    """

    target: str
    model_name: str
    timeout: float | None
    version: int | None
    channel: grpc.Channel | grpc.aio.Channel | None
    version_label: str | None
    metadata: GivenMetadata | None
    tls: TlsOptions | None
    retry: RetryPolicy | None
    fallback: str | None
    fallback_seconds: float
    wait_for_ready: bool
    keepalive: Keepalive | None
    load_balancing: str | None
    compression: str | None
    channel_options: Sequence[tuple[str, Any]]
    grpc: Target | None = field(init=False)
    rest: Target | None = field(init=False)
    headers: Metadata = field(init=False)

    def __post_init__(self) -> None:
        # With the caller's own channel the address is only a name for messages.
        own = self.channel is not None
        target = Target(self.target, False, self.target, False) if own else parse_target(self.target)
        fallback = None if self.fallback is None else parse_target(self.fallback)
        self.grpc, self.rest = (None, target) if target.is_rest else (target, fallback)
        self.headers = checked_metadata(self.metadata)
        if self.retry is not None and self.retry.max_attempts == 1:
            self.retry = None
        self._check_values()
        if fallback is not None:
            self._check_fallback(target, fallback)
        if self.rest is not None and importlib.util.find_spec("httpx") is None:
            raise BadRequestError(
                f"REST ({self.rest.text}) needs a package that is not installed. Remedy: `pip install httpx`"
            )
        if self.tls is not None and not any(each is not None and each.is_secure for each in (target, fallback)):
            if own:
                raise BadRequestError("tls has no effect on a channel of your own: make that one secure")
            if target.is_rest:
                raise BadRequestError(f"TLS options are given, but {target.text} does not use TLS: write https://")
        if self.tls is not None and target.text.startswith("grpc://"):
            raise BadRequestError(f"TLS options are given, but {target.text} does not use TLS: write grpcs://")

    def _check_values(self) -> None:
        if not isinstance(self.model_name, str) or not self.model_name:
            raise BadRequestError(f"model_name must be the served model's name, got {self.model_name!r}")
        version = self.version
        if version is not None and self.version_label is not None:
            raise BadRequestError("give version or version_label, not both")
        if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
            raise BadRequestError(f"version must be an int of at least 0, got {version!r}")
        check_timeout(self.timeout)
        if self.compression not in _COMPRESSIONS:
            raise BadRequestError(f"compression must be 'gzip' or None, got {self.compression!r}")
        if not self.fallback_seconds >= 0:
            raise BadRequestError(f"fallback_seconds must be at least 0, got {self.fallback_seconds}")

    def _check_fallback(self, target: Target, fallback: Target) -> None:
        if target.is_rest or not fallback.is_rest:
            raise BadRequestError(
                "fallback is the REST address (http://host:8501) of a server whose gRPC address is the target, "
                f"got {target.text} and {fallback.text}"
            )
        if self.wait_for_ready:
            raise BadRequestError("with wait_for_ready gRPC never gives up, so a fallback would never be used")


def check_timeout(timeout: float | None) -> None:
    """Rejects an invalid timeout.

    Raises:
        BadRequestError: it is neither None nor a positive number of seconds.
    """
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise BadRequestError(f"timeout must be a positive number of seconds, or None to wait forever; got {timeout!r}")
