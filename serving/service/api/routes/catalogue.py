"""Items."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from anyio import from_thread
from fastapi import APIRouter, Depends, Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.bodies.answers import form_of
from serving.service.api.bodies.catalogue import (
    IdentifiedItemForm,
    ItemForm,
    ItemIdsForm,
    ItemsForm,
    changes_of,
    item_of,
)
from serving.service.api.bodies.outcomes import DeletedItems, Revisions
from serving.service.api.context import context_of
from serving.service.api.identifiers import ItemIdPath, path_id
from serving.service.api.routes.common import Requires, answer, audit
from serving.service.errors import UnknownError
from serving.service.types import Item, ItemChange

router = APIRouter(prefix="/v1/items", tags=["Items"])
_Manager = Annotated[Principal, Depends(Requires(Permission.MANAGE))]
_Reader = Annotated[Principal, Depends(Requires(Permission.READ))]
_PATCH: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}, "example": {"available": False}}},
    }
}


async def _body(request: Request) -> bytes:
    return await request.body()


def _tell(request: Request, items: Sequence[Item], revisions: Mapping[str, int]) -> None:
    """Lets changed items count in this replica at once; the others read the store's feed."""
    # Of an id that repeats, the last one counts.
    latest = {item.item_id: item for item in items}
    changes = [ItemChange(item_id=each, revision=revision, item=latest[each]) for each, revision in revisions.items()]
    from_thread.run_sync(context_of(request).recommender.items_changed, changes)


@router.put("", response_model=form_of(Revisions))
def put_items(form: ItemsForm, manager: _Manager, request: Request) -> Response:
    """Inserts up to 1,000 items or replaces them whole; answers the revisions of those that differ from before."""
    items = [item_of(each, each.item_id) for each in form.items]
    revisions = context_of(request).store.put_items(items)
    _tell(request, items, revisions)
    audit(request, manager, "put items", f"{len(form.items)} items", f"{len(revisions)} changed")
    return answer(Revisions(revisions))


@router.delete("", response_model=form_of(DeletedItems))
def delete_items(form: ItemIdsForm, manager: _Manager, request: Request) -> Response:
    """Deletes up to 1,000 items; answers which the store had. The others are in no answer from now on either."""
    there = context_of(request).store.delete_items(form.item_ids)
    audit(request, manager, "delete items", f"{len(form.item_ids)} items", f"{sum(there)} deleted")
    return answer(DeletedItems(dict(zip(form.item_ids, there, strict=True))))


@router.get("/{item_id}", response_model=IdentifiedItemForm)
def get_item(item_id: ItemIdPath, reader: _Reader, request: Request) -> Response:
    """An item as it is now."""
    found = path_id("item_id", item_id)
    item = context_of(request).store.items([found]).get(found)
    if item is None:
        raise UnknownError("There is no such item. Remedy: put it first.")
    return answer(item)


@router.put("/{item_id}", response_model=form_of(Revisions))
def put_item(item_id: ItemIdPath, form: ItemForm, manager: _Manager, request: Request) -> Response:
    """Inserts an item or replaces it whole; answers its revision if it differs from before."""
    item = item_of(form, path_id("item_id", item_id))
    revisions = context_of(request).store.put_items([item])
    _tell(request, [item], revisions)
    audit(request, manager, "put item", item.item_id)
    return answer(Revisions(revisions))


@router.patch("/{item_id}", response_model=form_of(ItemChange), openapi_extra=_PATCH)
def patch_item(
    item_id: ItemIdPath, manager: _Manager, request: Request, body: Annotated[bytes, Depends(_body)]
) -> Response:
    """Changes some fields of an item. `numbers`, `embeddings` and `attributes` are merged; null removes a key."""
    found = path_id("item_id", item_id)
    changes = changes_of(body)
    change = context_of(request).store.patch_item(found, changes)
    from_thread.run_sync(context_of(request).recommender.items_changed, [change])
    audit(request, manager, "patch item", found, ", ".join(sorted(changes))[:500])
    return answer(change)


@router.delete("/{item_id}", response_model=form_of(DeletedItems))
def delete_item(item_id: ItemIdPath, manager: _Manager, request: Request) -> Response:
    """Deletes an item; answers whether the store had it. If only the model knows it, it is in no answer from now on."""
    found = path_id("item_id", item_id)
    (there,) = context_of(request).store.delete_items([found])
    audit(request, manager, "delete item", found, "" if there else "not in the store")
    return answer(DeletedItems({found: there}))
