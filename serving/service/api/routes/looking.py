"""What somebody who administers the service looks at: the console's lists."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.bodies.answers import form_of
from serving.service.api.bodies.catalogue import IdentifiedItemForm
from serving.service.api.bodies.looking import HistoryEntry, Status
from serving.service.api.context import context_of
from serving.service.api.identifiers import UserIdPath, path_id
from serving.service.api.routes.common import Requires, anonymous, answer, audit
from serving.service.store import FoundPerson

router = APIRouter(prefix="/v1")
_Manager = Annotated[Principal, Depends(Requires(Permission.MANAGE))]
_Reader = Annotated[Principal, Depends(Requires(Permission.READ))]
_Limit = Annotated[int, Query(ge=1, le=1_000, description="Most to return.")]
_TEXT_CHARACTERS: Final = 256


@router.get("/status", response_model=form_of(Status), tags=["Operations"])
def status(reader: _Reader, request: Request) -> Response:
    """The served version, and what waits for it."""
    context = context_of(request)
    found = Status(
        model_version=context.recommender.model_version,
        degraded=not context.recommender.ready,
        waiting_items=context.recommender.waiting_items,
        items=context.store.count_items(),
    )
    return answer(found)


@router.get("/users", response_model=list[form_of(FoundPerson)], tags=["Users and sessions"])  # type: ignore[misc]
def find_users(
    manager: _Manager,
    request: Request,
    text: Annotated[str, Query(max_length=_TEXT_CHARACTERS, description="How the id starts.")] = "",
    limit: _Limit = 20,
) -> Response:
    """People whose ids start with a text, in their order; without one, those of the newest events first."""
    found = context_of(request).store.find_people(text, limit)
    audit(request, manager, "find users", f"{len(found)} users")
    return answer(found)


@router.get("/users/{user_id}/history", response_model=list[form_of(HistoryEntry)], tags=["Users and sessions"])  # type: ignore[misc]
def history(user_id: UserIdPath, manager: _Manager, request: Request, limit: _Limit = 50) -> Response:
    """A person's newest events with items, the newest first, with what the items are called now."""
    store = context_of(request).store
    found = path_id("user_id", user_id)
    events = store.history(found, limit=limit)
    items = store.items(sorted({event.item_id for event in events}))
    audit(request, manager, "read history", anonymous(found))
    entries = []
    for event in reversed(events):
        item = items.get(event.item_id)
        entries.append(
            HistoryEntry(
                item_id=event.item_id,
                event=event.event,
                timestamp=event.timestamp,
                title="" if item is None else item.title,
                language="" if item is None else item.language,
            )
        )
    return answer(entries)


@router.get("/items", response_model=list[IdentifiedItemForm], tags=["Items"])
def find_items(
    reader: _Reader,
    request: Request,
    text: Annotated[str, Query(max_length=_TEXT_CHARACTERS, description="An id, or a part of a title.")] = "",
    limit: _Limit = 20,
) -> Response:
    """Items with a text in their titles, the last changed first, and before them the one of this id."""
    return answer(context_of(request).store.find_items(text, limit))
