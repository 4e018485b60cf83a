"""Figures of what people did with answers."""

import time
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.bodies.answers import form_of
from serving.service.api.context import context_of
from serving.service.api.routes.common import Requires, answer
from serving.service.outcomes import Drift, Report

router = APIRouter(prefix="/v1/metrics", tags=["Metrics"])
_Reader = Annotated[Principal, Depends(Requires(Permission.READ))]
_MINUTE: Final = 60
_WEEK: Final = 7 * 86_400.0
_YEAR_9999: Final = 253_402_300_799.0
_TEXT_CHARACTERS: Final = 256


def _time(description: str) -> object:
    return Query(ge=0, le=_YEAR_9999, allow_inf_nan=False, description=description)


_Since = Annotated[float | None, _time("Unix seconds; a week before `until` by default.")]
_Until = Annotated[float | None, _time("Unix seconds; now by default.")]


@router.get("", response_model=form_of(Report))
def metrics(
    reader: _Reader,
    request: Request,
    since: _Since = None,
    until: _Until = None,
    by: Annotated[
        str,
        Query(
            max_length=_TEXT_CHARACTERS,
            description="Columns whose combinations are the slices, with commas: version, variant, placement, "
            "language, country, history, day.",
        ),
    ] = "",
    complete: Annotated[
        bool, Query(description="Whether only answers count for which no more events can come.")
    ] = False,
) -> Response:
    """What people did with the answers of a period, with 95 % intervals; a figure may be a minute old."""
    start, end = _period(since, until)
    columns = [name.strip() for name in by.split(",")] if by else []
    return answer(context_of(request).outcomes.report(start, end, columns, complete=complete))


@router.get("/drift", response_model=form_of(Drift))
def drift(
    reader: _Reader,
    request: Request,
    since: _Since = None,
    until: _Until = None,
    reference_since: Annotated[float | None, _time("Unix seconds; as long before by default.")] = None,
    reference_until: Annotated[float | None, _time("Unix seconds; `since` by default.")] = None,
) -> Response:
    """How requests, shown items and scores of a period differ from those of a reference period."""
    start, end = _period(since, until)
    reference_end = start if reference_until is None else reference_until
    reference_start = reference_end - (end - start) if reference_since is None else reference_since
    return answer(context_of(request).outcomes.drift(start, end, reference_start, reference_end))


def _period(since: float | None, until: float | None) -> tuple[float, float]:
    # A whole minute, so that the same question has an answer already.
    end = float((int(time.time()) // _MINUTE + 1) * _MINUTE) if until is None else until
    return end - _WEEK if since is None else since, end
