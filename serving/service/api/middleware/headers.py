"""Headers that keep browsers from harm."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PAGE: Final = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; connect-src 'self'; "
# Swagger UI and ReDoc write styles into elements; ReDoc searches in a worker.
_DOCS: Final = _PAGE + (
    "script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; worker-src blob:"
)
_POLICIES: Final = (
    ("/console", _PAGE + "script-src 'self'; style-src 'self'; img-src 'self' data: https:; font-src 'self'"),
    ("/docs", _DOCS),
    ("/redoc", _DOCS),
)
_DATA: Final = b"default-src 'none'; frame-ancestors 'none'"
_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_TLS: Final = [(b"strict-transport-security", b"max-age=31536000")]


class SecurityHeaders:
    """Adds them to every answer."""

    def __init__(self, app: ASGIApp, is_tls: bool) -> None:
        self._app = app
        self._headers = [*_HEADERS, *_TLS] if is_tls else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *self._headers, (b"content-security-policy", _policy(path))]
                if path.startswith("/v1/") and not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_safely)


def _policy(path: str) -> bytes:
    for start, policy in _POLICIES:
        if path == start or path.startswith(start + "/"):
            return policy.encode()
    return _DATA
