"""Headers that keep browsers from harm."""

from typing import Final

from starlette.datastructures import MutableHeaders
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
_DATA: Final = "default-src 'none'; frame-ancestors 'none'"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class SecurityHeaders:
    """Adds them to every answer."""

    def __init__(self, app: ASGIApp, is_tls: bool) -> None:
        self._app = app
        self._headers = dict(_HEADERS)
        if is_tls:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = _policy(path)
                if path.startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_safely)


def _policy(path: str) -> str:
    for start, policy in _POLICIES:
        if path == start or path.startswith(start + "/"):
            return policy
    return _DATA
