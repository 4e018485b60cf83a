"""Bounds of a request: its size and its time."""

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.service.api.problems import ProblemError, instance_of, problem_response

# As much as a browser's sendBeacon takes.
_BODY_WITHOUT_HEADER: Final = 65_536
# The rest of the body is not read.
_CLOSE: Final = {"Connection": "close"}


class Bounds:
    """Refuses bodies that are too large, and ends requests that take too long."""

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # Nobody is known by a header: what is read before the token in the body is found must be small.
        most = self._most_bytes if "authorization" in headers else min(self._most_bytes, _BODY_WITHOUT_HEADER)
        declared = headers.get("content-length", "")
        began = complete = False
        size = 0

        async def receive_bounded() -> Message:
            nonlocal size, complete
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if size > most:
                    raise _too_large(most)
            return message

        async def send_noted(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        async def answer(status: HTTPStatus, detail: str) -> None:
            if not began:
                instance = instance_of(scope["state"]["request_id"])
                await problem_response(status, detail, instance, _CLOSE)(scope, receive, send)

        try:
            if declared.isdecimal() and int(declared[:20]) > most:
                raise _too_large(most)
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive_bounded, send_noted)
        except ProblemError as error:
            await answer(error.status, error.detail)
        except TimeoutError:
            if complete:
                detail = f"It took more than {self._seconds:g} s. Remedy: try again later, or ask for less at once."
                await answer(HTTPStatus.GATEWAY_TIMEOUT, detail)
            else:
                detail = f"The body did not arrive within {self._seconds:g} s. Remedy: send it faster."
                await answer(HTTPStatus.REQUEST_TIMEOUT, detail)


def _too_large(most: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has more than {most:,} bytes. Remedy: send it in parts.", _CLOSE
    )
