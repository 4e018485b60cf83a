"""Names every request, logs and counts it, and answers what nobody expected."""

import logging
import re
import time
import uuid
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.service.api.access.principals import Principal
from serving.service.api.context import Context
from serving.service.api.problems import instance_of, problem_response
from serving.service.api.tracing import Tracer

_LOGGER = logging.getLogger("serving.service.requests")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNKNOWN: Final = "other"


class Observing:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, context: Context, tracer: Tracer) -> None:
        self._app = app
        self._context = context
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        # What does not look like an id could be a forged line of a log.
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with self._tracer.span(scope, headers) as span:
            try:
                await self._app(scope, receive, send_named)
            except Exception:
                _LOGGER.exception("request failed", extra={"fields": {"request_id": request_id}})
                if status:
                    raise  # half an answer is out: the connection must break
                detail = (
                    "Something unexpected happened. Remedy: report it with the id of this request, which logs name."
                )
                await problem_response(500, detail, instance_of(request_id))(scope, receive, send_named)
            route = _route(scope)
            span.end(route, status)
        self._record(scope, request_id, route, status, time.perf_counter() - started)

    def _record(self, scope: Scope, request_id: str, route: str, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else _UNKNOWN
        self._context.metrics.requests.labels(route, method, status).inc()
        self._context.metrics.seconds.labels(route).observe(seconds)
        if _LOGGER.isEnabledFor(logging.INFO):
            # The route instead of the path, which has ids of people.
            fields: dict[str, Any] = {
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 2),
            }
            principal = scope["state"].get("principal")
            if isinstance(principal, Principal):
                fields |= {"key": principal.key, "token": principal.is_token}
            _LOGGER.info("request", extra={"fields": fields})


def _route(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else _UNKNOWN
