"""Connections to a model server: single gRPC calls and HTTP exchanges, blocking or in an event loop.

What speaks over them (``protocol``, ``rest``, ``client``) is written once, as coroutines. The blocking client runs the
same ones to their end: its connections block, so nothing in them ever waits for an event loop (``finish``).

``httpx`` is imported when the first HTTP request is sent: gRPC users do not wait for it.
"""

import asyncio
import gzip
import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from serving.client.errors import BadRequestError
from serving.client.settings import (
    Metadata,
    RetryPolicy,
    Settings,
    TlsOptions,
    check_tls,
    grpc_credentials,
    http_context,
)

if TYPE_CHECKING:
    import httpx

_UNLIMITED = -1
# gRPC does not retry requests larger than this (256 KiB by default). It keeps a reference to the request's memory,
# not a copy, so the bound is the largest value that the option accepts.
_RETRY_BUFFER_BYTES = 2**31 - 1
# Servers close idle connections after 60 s or more (here: 75 s).
_IDLE_SECONDS = 30.0
_IDLE_CONNECTIONS = 64
_GZIP_LEVEL = 1
# The shortest timeout that can be set: 0 would mean not to wait at all, and fail before a deadline does.
_LEAST_SECONDS = 0.001
M = TypeVar("M", bound=Message)
_T = TypeVar("_T")
_Options = list[tuple[str, Any]]


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
    """Options of a call: when it must be answered, and its headers."""

    deadline: Deadline
    headers: Metadata


@dataclass(frozen=True, slots=True)
class RpcMethod(Generic[M]):
    """A unary RPC: its path and the class of its response."""

    path: str
    response: type[M]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response: status, media type (without parameters) and decompressed body."""

    status: int
    media_type: str
    body: bytes


class CallFailed(Exception):  # noqa: N818  (never leaves the package)
    """A call that failed.

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


class Connections:
    """The connections of a client, opened when they are first used.

    Args:
        settings: the client's settings.

    Raises:
        BadRequestError: a TLS file can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel: Any = settings.channel
        self._methods: dict[RpcMethod[Any], Any] = {}
        self._credentials: grpc.ChannelCredentials | None = None
        is_secure = settings.grpc is not None and (settings.grpc.is_secure or settings.tls is not None)
        if is_secure and settings.channel is None:
            self._credentials = grpc_credentials(settings.tls or TlsOptions())
        if settings.rest is not None and settings.rest.is_secure and settings.tls is not None:
            check_tls(settings.tls)

    async def rpc(self, method: RpcMethod[M], request: Message, call: Call) -> M:
        """Makes a gRPC call; returns the response message.

        Raises:
            CallFailed: it failed.
        """
        raise NotImplementedError

    async def http(self, verb: str, path: str, body: bytes | None, call: Call) -> HttpResponse:
        """Sends an HTTP request; returns the response, of any status.

        The deadline bounds connecting, waiting for the response and each pause in it, by what is left when that begins.

        Args:
            verb: GET or POST.
            path: relative to the base URL, percent-encoded.
            body: a JSON document, or nothing.
            call: deadline and headers.

        Raises:
            CallFailed: no response came.
        """
        raise NotImplementedError

    async def pause(self, seconds: float) -> None:
        """Waits."""
        raise NotImplementedError

    async def close(self) -> None:
        """Closes what was opened here."""
        raise NotImplementedError

    def _open_channel(
        self,
        insecure: Callable[[str, _Options, grpc.Compression | None], _T],
        secure: Callable[[str, grpc.ChannelCredentials, _Options, grpc.Compression | None], _T],
    ) -> _T:
        """A channel, by the functions of ``grpc`` or ``grpc.aio`` that open one."""
        assert self._settings.grpc is not None
        address, options = self._settings.grpc.address, channel_options(self._settings)
        compression = grpc.Compression.Gzip if self._settings.compression == "gzip" else None
        if self._credentials is None:
            return insecure(address, options, compression)
        return secure(address, self._credentials, options, compression)

    def _start_rpc(self, method: RpcMethod[M], request: Message, call: Call) -> Any:  # noqa: ANN401
        """What the channel returns for a call: its response or, of one of ``grpc.aio``, an awaitable."""
        unary = self._methods.get(method)
        if unary is None:
            unary = self._methods[method] = self._channel.unary_unary(
                method.path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=method.response.FromString,
            )
        return unary(
            request,
            timeout=call.deadline.left(),
            metadata=(*self._settings.headers, *call.headers) or None,
            wait_for_ready=self._settings.wait_for_ready or None,
        )

    def _rpc_failed(self, error: grpc.RpcError) -> CallFailed:
        assert self._settings.grpc is not None
        return CallFailed(error.code(), error.details() or "", self._settings.grpc.text)

    def _http_client_arguments(self) -> dict[str, Any]:
        """Arguments for ``httpx.Client`` and ``httpx.AsyncClient``."""
        import httpx

        assert self._settings.rest is not None
        return {
            # True uses certifi's authorities.
            "verify": http_context(self._settings.tls or TlsOptions()) if self._settings.rest.is_secure else True,
            "headers": {
                "Accept": "application/json",
                "Accept-Encoding": self._settings.compression or "identity",
                "User-Agent": "babelrec-client",
            },
            "limits": httpx.Limits(
                max_connections=None, max_keepalive_connections=_IDLE_CONNECTIONS, keepalive_expiry=_IDLE_SECONDS
            ),
            "timeout": None,
        }

    def _http_arguments(self, verb: str, path: str, body: bytes | None, call: Call) -> dict[str, Any]:
        """Arguments for ``stream``."""
        assert self._settings.rest is not None
        headers = [
            (key, b64encode(value).decode() if isinstance(value, bytes) else value)
            for key, value in (*self._settings.headers, *call.headers)
        ]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
            if self._settings.compression is not None:
                headers.append(("Content-Encoding", "gzip"))
                body = gzip.compress(body, _GZIP_LEVEL)
        extensions: dict[str, Any] = {"timeout": _TimeLeft(call.deadline)}
        tls = self._settings.tls
        if self._settings.rest.is_secure and tls is not None and tls.server_name is not None:
            extensions["sni_hostname"] = tls.server_name
        url = self._settings.rest.address + path
        return {"method": verb, "url": url, "content": body, "headers": headers, "extensions": extensions}

    def _too_late(self) -> CallFailed:
        assert self._settings.rest is not None
        return CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "", self._settings.rest.text)

    def _http_failed(self, error: "httpx.HTTPError | OSError") -> Exception:
        """A failed exchange as gRPC would report it."""
        import httpx

        assert self._settings.rest is not None
        if isinstance(error, httpx.TimeoutException):
            return self._too_late()
        details, target = _words(error), self._settings.rest.text
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            return BadRequestError(f"a request to {target} can't be sent: {details}")
        if isinstance(error, httpx.DecodingError):
            return CallFailed(grpc.StatusCode.INTERNAL, f"the response can't be decompressed ({details})", target)
        return CallFailed(grpc.StatusCode.UNAVAILABLE, details, target)


class BlockingConnections(Connections):
    """Connections whose coroutines block and never suspend, for ``finish``. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        if settings.grpc is not None and settings.channel is None:
            self._channel = self._open_channel(grpc.insecure_channel, grpc.secure_channel)

    async def rpc(self, method: RpcMethod[M], request: Message, call: Call) -> M:
        """See ``Connections``."""
        try:
            response: M = self._start_rpc(method, request, call)
            return response
        except grpc.RpcError as error:
            raise self._rpc_failed(error) from None

    async def http(self, verb: str, path: str, body: bytes | None, call: Call) -> HttpResponse:
        """See ``Connections``."""
        import httpx

        with self._lock:
            if self._http is None:
                self._http = httpx.Client(**self._http_client_arguments())
        try:
            with self._http.stream(**self._http_arguments(verb, path, body, call)) as response:
                chunks = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    if not call.deadline.allows(0):
                        raise self._too_late()
                return _answer(response, chunks)
        except (httpx.HTTPError, OSError) as error:  # TLS alerts while reading are raised unwrapped
            raise self._http_failed(error) from None

    async def pause(self, seconds: float) -> None:
        """See ``Connections``."""
        time.sleep(seconds)

    async def close(self) -> None:
        """See ``Connections``."""
        if self._channel is not None and self._settings.channel is None:
            self._channel.close()
        if self._http is not None:
            self._http.close()


class AsyncConnections(Connections):
    """Connections of the event loop in which they are first used."""

    _http: "httpx.AsyncClient | None" = None

    async def rpc(self, method: RpcMethod[M], request: Message, call: Call) -> M:
        """See ``Connections``."""
        if self._channel is None:
            self._channel = self._open_channel(grpc.aio.insecure_channel, grpc.aio.secure_channel)
        try:
            response: M = await self._start_rpc(method, request, call)
            return response
        except grpc.RpcError as error:
            raise self._rpc_failed(error) from None

    async def http(self, verb: str, path: str, body: bytes | None, call: Call) -> HttpResponse:
        """See ``Connections``."""
        import httpx

        if self._http is None:
            self._http = httpx.AsyncClient(**self._http_client_arguments())
        try:
            async with (
                asyncio.timeout(call.deadline.left()),
                self._http.stream(**self._http_arguments(verb, path, body, call)) as response,
            ):
                return _answer(response, [chunk async for chunk in response.aiter_bytes()])
        except TimeoutError:
            raise self._too_late() from None
        except (httpx.HTTPError, OSError) as error:  # TLS alerts while reading are raised unwrapped
            raise self._http_failed(error) from None

    async def pause(self, seconds: float) -> None:
        """See ``Connections``."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """See ``Connections``."""
        if self._channel is not None and self._settings.channel is None:
            await self._channel.close(None)
        if self._http is not None:
            await self._http.aclose()


def finish(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine that only awaits ``BlockingConnections``: the first step is also the last."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("a blocking call has suspended")


def channel_options(settings: Settings) -> list[tuple[str, Any]]:
    """gRPC's options for a client's channel; the caller's own come last and win."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", _UNLIMITED),
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.service_config", json.dumps(service_config(settings))),
    ]
    if settings.retry is None:
        options.append(("grpc.enable_retries", 0))
    else:
        options.append(("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES))
    if settings.keepalive is not None:
        options += [
            ("grpc.keepalive_time_ms", round(settings.keepalive.seconds * 1000)),
            ("grpc.keepalive_timeout_ms", round(settings.keepalive.timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", int(settings.keepalive.without_calls)),
            # Otherwise pings stop after two with no data in between.
            ("grpc.http2.max_pings_without_data", 0),
        ]
    if settings.tls is not None and settings.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", settings.tls.server_name))
    own = dict(settings.channel_options)
    return [option for option in options if option[0] not in own] + list(settings.channel_options)


def service_config(settings: Settings) -> dict[str, Any]:
    """gRPC's service config (https://github.com/grpc/grpc-proto, ``service_config.proto``)."""
    config: dict[str, Any] = {}
    is_multiple = settings.grpc is not None and settings.grpc.is_multiple
    balancing = settings.load_balancing or ("round_robin" if is_multiple else None)
    if balancing is not None:
        config["loadBalancingConfig"] = [{balancing: {}}]
    if settings.retry is not None:
        # An empty name matches all methods.
        config["methodConfig"] = [{"name": [{}], "retryPolicy": _retry_policy(settings.retry)}]
        if settings.retry.max_tokens:
            config["retryThrottling"] = {
                "maxTokens": settings.retry.max_tokens,
                "tokenRatio": settings.retry.token_ratio,
            }
    return config


def _retry_policy(policy: RetryPolicy) -> dict[str, Any]:
    return {
        "maxAttempts": policy.max_attempts,
        "initialBackoff": f"{policy.initial_backoff:.3f}s",
        "maxBackoff": f"{policy.max_backoff:.3f}s",
        "backoffMultiplier": policy.backoff_multiplier,
        "retryableStatusCodes": list(policy.codes),
    }


class _TimeLeft(dict[str, float | None]):
    """httpx's timeouts for the phases of an exchange: each may take what is left when it begins."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def get(self, key: str, default: object = None) -> float | None:
        """Seconds for any phase of the exchange."""
        left = self._deadline.left()
        return None if left is None else max(left, _LEAST_SECONDS)


def _words(error: BaseException) -> str:
    """The message of an error, or else that of its cause."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return f"the connection was closed ({type(error).__name__})" if cause is None else str(cause)


def _answer(response: "httpx.Response", chunks: list[bytes]) -> HttpResponse:
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    body = b"".join(chunks)
    if response.has_redirect_location and not body:
        body = f"moved to {response.headers['Location']}".encode()
    return HttpResponse(response.status_code, media_type, body)
