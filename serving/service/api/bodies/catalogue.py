"""Forms of items."""

from typing import Annotated, Any

import msgspec
from pydantic import ConfigDict, Field

from serving.service.api.bodies.recommending import Form, Language
from serving.service.api.identifiers import Id
from serving.service.errors import InvalidRequestError
from serving.service.types import Item

_MOST = 1_000
_Number = float
Name = Annotated[str, Field(min_length=1, max_length=256)]
Scalar = str | bool | int | float
_EXAMPLE: dict[str, Any] = {
    "language": "ja",
    "title": "南部鉄器の急須",
    "description": "伝統的な鋳鉄製。",
    "categories": ["Kitchen"],
    "numbers": {"price": 8900},
    "attributes": {"seller": "岩手商店", "margin": 0.3},
}


class ItemForm(Form):
    """An item without its id."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    language: Language = Field(..., min_length=1, description="BCP 47.")
    title: str = Field("", description="In the item's language.")
    description: str = Field("", description="In the item's language.")
    categories: list[str] = Field([], description="Its labels.")
    numbers: dict[Name, _Number] = Field({}, description="Numeric columns by name.")
    embeddings: dict[Name, list[_Number]] = Field({}, description="Embedding columns by name.")
    attributes: dict[Name, Scalar] = Field({}, description="Columns that only rules read, such as a seller.")
    available: bool = Field(True, description="False: in no answer, for instance sold out.")
    valid_from: int | None = Field(None, description="Unix seconds from which it may be in an answer.")
    valid_until: int | None = Field(None, description="Unix seconds before which it may be in an answer.")


class IdentifiedItemForm(ItemForm):
    """An item."""

    model_config = ConfigDict(json_schema_extra={"example": {"item_id": "1003"} | _EXAMPLE})

    item_id: Id = Field(..., description="Its id.")


class ItemsForm(Form):
    """Items to be inserted, or to be replaced whole."""

    items: list[IdentifiedItemForm] = Field(..., min_length=1, max_length=_MOST)


class ItemIdsForm(Form):
    """Items to be deleted."""

    item_ids: list[Id] = Field(..., min_length=1, max_length=_MOST)


def item_of(form: ItemForm, item_id: str) -> Item:
    """The item of a body."""
    return Item(**(form.__dict__ | {"item_id": item_id}))


def changes_of(body: bytes) -> dict[str, object]:
    """The fields that a merge patch changes; the store checks their types.

    Raises:
        InvalidRequestError: it is no JSON object.
    """
    try:
        changes: dict[str, object] = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"The body is no JSON object: {error}. Remedy: send the changed fields.") from None
    return changes
