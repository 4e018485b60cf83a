"""User Behavior Insights 1.3."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from serving.service.api.bodies.answers import form_of
from serving.service.api.collecting.answers import Answer, collect
from serving.service.api.collecting.lines import open_envelope
from serving.service.api.collecting.ubi import Kind, UbiEvent, UbiQuery, read_ubi
from serving.service.api.context import context_of
from serving.service.api.routes.collecting import body_of, sender_of
from serving.service.api.routes.common import answer

router = APIRouter(prefix="/v1/ubi", tags=["User Behavior Insights 1.3"])
_EVENT: Final = {
    "action_name": "click",
    "timestamp": "2026-11-30T12:00:00Z",
    "query_id": "0197f3d2-7aa1",
    "client_id": "5e3b2a1c",
    "event_attributes": {"object": {"object_id": "1003"}, "position": {"ordinal": 3}},
}
_QUERY: Final = {"user_query": "가벼운 등산 배낭", "query_id": "0197f3d2-7aa1", "client_id": "5e3b2a1c"}


def _schema(kind: type) -> dict[str, Any]:
    return form_of(kind).model_json_schema()


@router.post(
    "/events", summary="Events of UBI", response_model=form_of(Answer), openapi_extra=body_of(_schema(UbiEvent), _EVENT)
)
async def ubi_events(request: Request) -> Response:
    """Stores what people did with results; as /v1/events. A single event may be sent without a list."""
    return await _collected(request, "event")


@router.post(
    "/queries",
    summary="Queries of UBI",
    response_model=form_of(Answer),
    openapi_extra=body_of(_schema(UbiQuery), _QUERY),
)
async def ubi_queries(request: Request) -> Response:
    """Stores what people searched for, as events `search`. A single query may be sent without a list."""
    return await _collected(request, "query")


async def _collected(request: Request, kind: Kind) -> Response:
    array, token = open_envelope(await request.body(), request.headers.get("content-type", ""), lone_line=True)
    sender = await sender_of(request, token)
    return answer(await collect(context_of(request), read_ubi(array, kind, sender)))
