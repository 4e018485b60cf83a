"""Events."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.bodies.answers import form_of
from serving.service.api.collecting.answers import Answer, collect
from serving.service.api.collecting.events import read_events
from serving.service.api.collecting.lines import MOST_LINES, NDJSON, open_envelope
from serving.service.api.context import context_of
from serving.service.api.middleware.gate import address_of, identify_token
from serving.service.api.routes.common import answer
from serving.service.types import Event

router = APIRouter(prefix="/v1", tags=["Events"])
_EXAMPLE: Final = {
    "event_id": "0197f3d2-8c0a-7cc1-9f7e-2b8f9f0f3a11",
    "event": "click",
    "timestamp": 1796040000,
    "user_id": "大輔",
    "session_id": "visit-17",
    "item_id": "1003",
    "recommendation_id": "0197f3d2-7aa1",
    "position": 2,
}


def body_of(line: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """How /docs shows a body of lines."""
    lines = {"type": "array", "items": line, "maxItems": MOST_LINES}
    token = {"type": "string", "description": "Instead of the header `Authorization`, for navigator.sendBeacon."}
    envelope = {"type": "object", "required": ["events"], "properties": {"events": lines, "token": token}}
    content = {
        "application/json": {"schema": {"oneOf": [envelope, lines]}, "example": {"events": [example]}},
        NDJSON[0]: {"schema": line, "example": example},
    }
    return {"requestBody": {"required": True, "content": content}}


def _event_schema() -> dict[str, Any]:
    schema = form_of(Event).model_json_schema()
    schema["required"] = ["event_id", "event"]
    schema["properties"]["timestamp"]["description"] = "Unix seconds; default: now."
    return schema


async def sender_of(request: Request, token: str) -> Principal:
    """Who sends events: by the header, or by the token in the body."""
    principal = getattr(request.state, "principal", None)
    if not isinstance(principal, Principal):
        principal = await identify_token(context_of(request), token, address_of(request.scope))
        request.state.principal = principal
    principal.require(Permission.COLLECT)
    return principal


@router.post("/events", response_model=form_of(Answer), openapi_extra=body_of(_event_schema(), _EXAMPLE))
async def events(request: Request) -> Response:
    """Stores up to 1,000 events; the answer says what became of each, and comes when they are durable.

    An event whose `event_id` is known is not counted again, so a request that failed can be sent again as it was.
    503 means that none was kept: send them again later.
    """
    array, token = open_envelope(await request.body(), request.headers.get("content-type", ""))
    sender = await sender_of(request, token)
    return answer(await collect(context_of(request), read_events(array, sender)))
