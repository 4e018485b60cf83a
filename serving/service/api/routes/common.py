"""What routes have in common."""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.context import context_of
from serving.service.api.problems import ProblemError
from serving.service.types import user_digest

JSON: Final = "application/json"


def principal_of(request: Request) -> Principal:
    """Who asks."""
    principal = getattr(request.state, "principal", None)
    if not isinstance(principal, Principal):
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED, "There is no key. Remedy: send one.", {"WWW-Authenticate": "Bearer"}
        )
    return principal


class Requires:
    """A dependency: who asks, if they may do this."""

    def __init__(self, permission: Permission) -> None:
        self._permission = permission

    async def __call__(self, request: Request) -> Principal:
        """Who asks."""
        principal = principal_of(request)
        principal.require(self._permission)
        return principal


def answer(value: Any, status: int = HTTPStatus.OK) -> Response:  # noqa: ANN401  anything that JSON can express
    """An answer in JSON; NaN is null."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def audit(request: Request, principal: Principal, action: str, target: str, detail: str = "") -> None:
    """Adds to the log what an administrator did."""
    context_of(request).store.audit(principal.key, action, target, detail)


def anonymous(user_id: str) -> str:
    """A user in the log, which must not keep ids of people who asked to be forgotten."""
    return f"sha256:{user_digest(user_id)}"
