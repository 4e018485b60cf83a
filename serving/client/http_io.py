"""HTTP connections and requests, blocking or in an event loop, using ``httpx``.

``httpx`` is imported when the first request is sent: gRPC users do not wait for it.
"""

import asyncio
import gzip
import threading
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import grpc

from serving.client import tls
from serving.client.calls import CallFailed, Deadline, HttpRequest, HttpResponse, joined
from serving.client.errors import BadRequestError
from serving.client.settings import Settings
from serving.client.targets import Target
from serving.client.tls import TlsOptions

if TYPE_CHECKING:
    import httpx

# Servers close idle connections after 60 s or more (here: 75 s).
_IDLE_SECONDS = 30.0
_IDLE_CONNECTIONS = 64
_GZIP_LEVEL = 1
# The shortest timeout that can be set: 0 would mean not to wait at all, and fail before a deadline does.
_LEAST_SECONDS = 0.001


class HttpConnection:
    """Connections for blocking requests. Thread-safe.

    The deadline bounds connecting, waiting for the response and each pause in it, by what is left when that begins.

    Args:
        target: base URL.
        settings: the client's settings.

    Raises:
        BadRequestError: a TLS file can't be used.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._http = _Http(target, settings)
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def perform(self, request: HttpRequest) -> HttpResponse:
        """Sends a request.

        Raises:
            CallFailed: no response came.
        """
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(**self._http.client_arguments())
        deadline = request.call.deadline
        try:
            with self._client.stream(**self._http.arguments(request)) as response:
                chunks = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    if not deadline.allows(0):
                        raise self._http.too_late()
                return _answer(response, chunks)
        except (httpx.HTTPError, OSError) as error:  # TLS alerts while reading are raised unwrapped
            raise self._http.failure(error) from None

    def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            self._client.close()


class AioHttpConnection:
    """Connections of the event loop in which they are first used.

    Args:
        target: base URL.
        settings: the client's settings.

    Raises:
        BadRequestError: a TLS file can't be used.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._http = _Http(target, settings)
        self._client: httpx.AsyncClient | None = None

    async def perform(self, request: HttpRequest) -> HttpResponse:
        """Sends a request.

        Raises:
            CallFailed: no response came.
        """
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(**self._http.client_arguments())
        try:
            async with (
                asyncio.timeout(request.call.deadline.left()),
                self._client.stream(**self._http.arguments(request)) as response,
            ):
                return _answer(response, [chunk async for chunk in response.aiter_bytes()])
        except TimeoutError:
            raise self._http.too_late() from None
        except (httpx.HTTPError, OSError) as error:  # TLS alerts while reading are raised unwrapped
            raise self._http.failure(error) from None

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()


class _Http:
    """Shared code of both kinds of connection."""

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        self._tls = settings.tls if target.is_secure else None
        if self._tls is not None:
            tls.check(self._tls)

    def client_arguments(self) -> dict[str, Any]:
        """Arguments for ``httpx.Client`` and ``httpx.AsyncClient``."""
        import httpx

        return {
            # None uses certifi's authorities.
            "verify": tls.http_context(self._tls or TlsOptions()) if self._target.is_secure else True,
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

    def arguments(self, request: HttpRequest) -> dict[str, Any]:
        """Arguments for ``stream``."""
        headers = [
            (key, b64encode(value).decode() if isinstance(value, bytes) else value)
            for key, value in joined(self._settings.metadata, request.call.metadata)
        ]
        body = request.body
        if body is not None:
            headers.append(("Content-Type", "application/json"))
            if self._settings.compression is not None:
                headers.append(("Content-Encoding", "gzip"))
                body = gzip.compress(body, _GZIP_LEVEL)
        extensions: dict[str, Any] = {"timeout": _TimeLeft(request.call.deadline)}
        if self._tls is not None and self._tls.server_name is not None:
            extensions["sni_hostname"] = self._tls.server_name
        return {
            "method": request.verb,
            "url": self._target.address + request.path,
            "content": body,
            "headers": headers,
            "extensions": extensions,
        }

    def too_late(self) -> CallFailed:
        """The error for a deadline that has passed."""
        return CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "", self._target.text)

    def failure(self, error: "httpx.HTTPError | OSError") -> Exception:
        """A failed exchange as gRPC would report it."""
        import httpx

        if isinstance(error, httpx.TimeoutException):
            return self.too_late()
        details = _words(error)
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            return BadRequestError(f"a request to {self._target.text} can't be sent: {details}")
        if isinstance(error, httpx.DecodingError):
            return CallFailed(
                grpc.StatusCode.INTERNAL, f"the response can't be decompressed ({details})", self._target.text
            )
        return CallFailed(grpc.StatusCode.UNAVAILABLE, details, self._target.text)


class _TimeLeft(dict[str, float | None]):
    """httpx's timeouts for the phases of an exchange: each may take what is left when it begins."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def get(self, key: str, default: Any = None) -> float | None:  # type: ignore[override]
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
