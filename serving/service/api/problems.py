"""Errors as problem documents (RFC 9457)."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from serving.service import errors
from serving.service.rules import RulesError
from serving.service.store import ConflictError, InvalidError, NotFoundError, SegmentError, StoreError, UnavailableError

_LOGGER = logging.getLogger(__name__)
MEDIA_TYPE: Final = "application/problem+json"
_MOST_MISTAKES: Final = 20
_RETRY_SECONDS: Final = 1
# The first class that fits counts.
_STATUS: Final[tuple[tuple[type[Exception], HTTPStatus], ...]] = (
    (errors.InvalidRequestError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.UnknownError, HTTPStatus.NOT_FOUND),
    (errors.ForbiddenError, HTTPStatus.FORBIDDEN),
    (errors.UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (InvalidError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (SegmentError, HTTPStatus.SERVICE_UNAVAILABLE),
    (RulesError, HTTPStatus.UNPROCESSABLE_ENTITY),
)


class ProblemError(HTTPException):
    """An answer that is an error.

    Of this base, so that it passes through FastAPI's reading of bodies.

    Attributes:
        status: Of HTTP.
        detail: The problem and the remedy.
        headers: Further ones.
    """

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.status = status


def problem_response(
    status: int,
    detail: str,
    instance: str,
    headers: Mapping[str, str] | None = None,
    mistakes: list[dict[str, str]] | None = None,
) -> Response:
    """A problem document.

    Args:
        status: Of HTTP.
        detail: The problem and the remedy.
        instance: ``urn:babelrec:request:`` and the id by which logs name the request.
        headers: Further ones.
        mistakes: Places in the body and what is wrong there.
    """
    document: dict[str, object] = {
        "type": "about:blank",  # the status says all that a program needs
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
    }
    if mistakes:
        document["errors"] = mistakes
    return Response(msgspec.json.encode(document), status, headers, MEDIA_TYPE)


def instance_of(request_id: str) -> str:
    """The URI of a request."""
    return f"urn:babelrec:request:{request_id}"


def add_problem_handlers(app: FastAPI) -> None:
    """Lets all errors of an application be problem documents."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ProblemError, _problem)
    for kind in (errors.ServiceError, StoreError, RulesError):
        app.add_exception_handler(kind, _domain)


def status_of(error: Exception) -> HTTPStatus:
    """The status for an error of the service's parts."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def printable(text: str, most: int = 300) -> str:
    """A text that can be encoded and read, however odd it came in."""
    return text[:most].encode("utf-8", "backslashreplace").decode()


def _instance(request: Request) -> str:
    return instance_of(getattr(request.state, "request_id", ""))


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error.status, error.detail, _instance(request), error.headers)


def _domain(request: Request, error: Exception) -> Response:
    status = status_of(error)
    detail = str(error)
    if isinstance(error, UnavailableError | SegmentError) or (isinstance(error, StoreError) and status >= 500):
        # A database's messages have its address, user and paths.
        _LOGGER.warning("The store failed: %s", error, extra={"request_id": getattr(request.state, "request_id", "")})
        detail = "The store can't do this now. Remedy: try again."
    headers = {"Retry-After": str(_RETRY_SECONDS)} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem_response(status, printable(detail, 2_000), _instance(request), headers)


_DETAILS: Final = {
    HTTPStatus.NOT_FOUND: "There is no such address. Remedy: see /docs.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address has no such method. Remedy: use one of the header `Allow`.",
}


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = _DETAILS.get(status, printable(str(error.detail)))
    return problem_response(status, detail, _instance(request), error.headers)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The values themselves stay out: they may be personal, and of any size.
    mistakes = [
        {"place": printable(".".join(str(part) for part in each["loc"])), "problem": printable(each["msg"])}
        for each in error.errors()[:_MOST_MISTAKES]
    ]
    first = mistakes[0] if mistakes else {"place": "body", "problem": "is malformed"}
    detail = f"{first['place']}: {first['problem']}. Remedy: see /docs for the form of this request."
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, detail, _instance(request), mistakes=mistakes)
