"""The present catalogue of a recommendation service, as a dataset."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from serving.service.types import Item
from trainer.data.dataset import Dataset, write_dataset
from trainer.errors import BabelrecError

if TYPE_CHECKING:
    from serving.service.store import Store


def dataset_of_store(url: str, own: Dataset, folder: Path) -> Dataset:
    """Writes the present items of a store: `present_catalogue`.

    Args:
        url: Address of the store, ``sqlite:///...`` or ``postgresql://...``.
        own: The run's dataset; its item columns are kept, others are left out.
        folder: Directory to create.

    Raises:
        BabelrecError: the store can't be read, or has no items, or the service's packages are not installed.
    """
    with opened_store(url) as store:
        return present_catalogue(store, own, folder)


@contextlib.contextmanager
def opened_store(url: str) -> "Iterator[Store]":
    """A store; its errors in the block are those of a command.

    Raises:
        BabelrecError: the store can't be read, or the service's packages are not installed.
    """
    try:
        from serving.service.store import StoreError, open_store
    except ModuleNotFoundError as error:
        raise BabelrecError(f"Reading a store needs {error.name}: pip install 'babelrec[service]'") from error
    try:
        with open_store(url) as store:
            yield store
    except StoreError as error:
        raise BabelrecError(f"The store can't be read: {error}") from None


def present_catalogue(store: "Store", own: Dataset, folder: Path) -> Dataset:
    """Writes the present items of an open store, with the run's interactions with them.

    Items that are not available now are included: the service hides them, and they may come back.
    """
    items = items_of_store(store, own.items().collect_schema())
    return write_dataset(
        folder,
        name=f"{own.name}-store",
        description=f"Items of a service's store, and the interactions of {own.name} with them.",
        licence=own.licence,
        homepage=own.homepage,
        interactions=own.interactions().join(items.lazy().select("item_id"), on="item_id", how="semi"),
        items=items,
    )


def items_of_store(store: "Store", schema: pl.Schema) -> pl.DataFrame:
    """The items of a store, with the columns of a dataset's items.

    Args:
        store: An open store.
        schema: Of the dataset's items; other columns are left out.

    Raises:
        BabelrecError: it has no items.
    """
    rows = [_row(change.item, schema) for batch in store.all_items() for change in batch if change.item]
    if not rows:
        raise BabelrecError("The store has no items. Remedy: put some, or `babelrec-service import` the dataset.")
    return pl.DataFrame(rows, schema=schema, strict=False)


def _row(item: Item, schema: pl.Schema) -> dict[str, Any]:
    """Values by column; null where the item has none."""
    fields: dict[str, Any] = {
        "item_id": item.item_id,
        "language": item.language,
        "title": item.title,
        "description": item.description or None,
        "categories": list(item.categories),
    }
    columns: dict[str, Any] = {**item.numbers, **{k: list(v) for k, v in item.embeddings.items()}, **item.attributes}
    return {name: fields[name] if name in fields else columns.get(name) for name in schema}
