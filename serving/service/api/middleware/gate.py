"""Lets in who has a key or a token, and counts their requests."""

import asyncio
import logging
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.service.api.access.principals import Principal
from serving.service.api.context import Context
from serving.service.api.problems import ProblemError, instance_of, problem_response
from serving.service.store import StoreError

_LOGGER = logging.getLogger(__name__)
_PUBLIC: Final = frozenset({"/v1/babelrec.js"})
TOKEN_IN_BODY: Final = frozenset({"/v1/events", "/v1/ubi/events", "/v1/ubi/queries"})
_WRONG: Final = "The key or token is wrong, expired or revoked. Remedy: get a new one."
_MISSING: Final = "There is no key. Remedy: send the header `Authorization: Bearer brk_...`."


class Gate:
    """Finds out who asks, before anything of the body is read."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] == "http":
            # Ids may contain slashes: routes match the path as it was sent, and decode its parts (`path_id`).
            scope["path"] = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
            try:
                await self._admit(scope)
            except ProblemError as error:
                instance = instance_of(scope["state"]["request_id"])
                response = problem_response(error.status, error.detail, instance, error.headers)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        path = scope["path"]
        headers = Headers(scope=scope)
        given = headers.get("authorization")
        if path in _PUBLIC or (given is None and not path.startswith("/v1/")):
            return
        address = address_of(scope)
        if given is None:
            if path in TOKEN_IN_BODY and scope["method"] == "POST":
                return
            await refuse(self._context, address, _MISSING)
        scheme, _, value = (given or "").partition(" ")
        principal = await identify(self._context, value.strip(), address) if scheme.lower() == "bearer" else None
        if principal is None:
            await refuse(self._context, address, _WRONG)
        scope["state"]["principal"] = principal


async def identify(context: Context, value: str, address: str) -> Principal | None:
    """Whose key or token it is, if it is valid.

    Raises:
        ProblemError: too many requests came from it.
    """
    if context.keys.is_stale:
        await _refresh(context, 0.5)
    principal = context.keys.find(value)
    if principal is None and value.startswith("brk_"):
        # It may be new.
        await _refresh(context, 0.5)
        principal = context.keys.find(value)
    principal = principal or context.tokens.find(value)
    if principal is None:
        return None
    try:
        # Not both: browsers must not use up what their application may send.
        if principal.is_token:
            context.rates.count_address(address)
        else:
            context.rates.count_key(principal.key)
    except ProblemError:
        context.metrics.limited.inc()
        raise
    return principal


async def identify_token(context: Context, token: str, address: str) -> Principal:
    """Whose token came in a body.

    Raises:
        ProblemError: it is not valid, is a key, or too many requests came from its address.
    """
    # A key in a page's script would be everybody's.
    principal = None if token.startswith("brk_") else await identify(context, token, address)
    if principal is None:
        await refuse(context, address, _WRONG if token else _MISSING)
    assert principal is not None
    return principal


async def refuse(context: Context, address: str, detail: str) -> None:
    """Refuses a request, which counts for its address.

    Raises:
        ProblemError: always.
    """
    try:
        context.rates.count_address(address)
    except ProblemError:
        context.metrics.limited.inc()
        raise
    raise ProblemError(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer realm="babelrec"'})


def address_of(scope: Scope) -> str:
    """The client's address."""
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _refresh(context: Context, age: float) -> None:
    try:
        await asyncio.to_thread(context.keys.refresh, age)
    except StoreError as error:
        # Recommendations are answered without the store, by the keys read earlier.
        _LOGGER.warning("keys could not be read: %s", error)
