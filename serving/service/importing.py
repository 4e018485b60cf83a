"""`python -m serving.service import`: takes a dataset (docs/data.md) into the store."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from serving.arguments import add_arguments, argument, options_of
from serving.service.errors import InvalidRequestError
from serving.service.options import StoreOptions, store_url
from serving.service.store import Store, StoreError, open_store
from serving.service.types import Event, Item, Scalar, User

_BATCH: Final = 1_000
_ITEM_FIELDS: Final = frozenset(field.name for field in fields(Item))
_EVENT_FIELDS: Final = frozenset(field.name for field in fields(Event)) - {"context"}
_LIST: Final = "impression_id"


@dataclass(frozen=True)
class ImportOptions(StoreOptions):
    """What to take, and where to."""

    dataset: Path = argument(
        type=Path, metavar="DATASET", help="dataset directory with items, and interactions and users"
    )


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="babelrec-service import",
        description="Takes a dataset's items, users and interactions into the store. What is there already stays once.",
    )
    add_arguments(parser, ImportOptions)
    options = options_of(ImportOptions, parser.parse_args(arguments))
    url = store_url(parser, options.store)
    try:
        with open_store(url) as store:
            report = import_dataset(options.dataset, store)
    except (InvalidRequestError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0


def import_dataset(dataset: Path, store: Store) -> str:
    """Takes a dataset into a store, in batches.

    Events get the ids of their place in the table, so that a second import of the same dataset adds nothing.

    Returns:
        What came of it, in one line.

    Raises:
        InvalidRequestError: there is no items table.
    """
    if not _files(dataset, "items"):
        raise InvalidRequestError(
            f"{dataset} has neither items.parquet nor items/. Remedy: name a directory in the dataset format; "
            "`trainer.task data` makes one and prints its path."
        )
    changed = items = users = events = new = 0
    for rows in _batches(dataset, "items"):
        batch = [_item(row) for row in rows]
        changed += len(store.put_items(batch))
        items += len(batch)
    for rows in _batches(dataset, "users"):
        store.put_users([_user(row) for row in rows])
        users += len(rows)
    for rows in _batches(dataset, "interactions"):
        stored = store.append_events([_event(row, dataset.name, events + place) for place, row in enumerate(rows)])
        events += len(rows)
        new += sum(stored)
    return (
        f"{items:,} items, {changed:,} of them new or changed; {users:,} users; {events:,} events, {new:,} of them new."
    )


def imported_event_id(dataset: str, place: int) -> str:
    """The id of an event of a dataset without ids.

    Args:
        dataset: Name of its directory.
        place: Row of the table, from 0.
    """
    return f"{dataset}-{place}"


def _files(dataset: Path, table: str) -> list[Path]:
    """A table's file, or its shards in the order of its rows; none: there is no such table."""
    file = dataset / f"{table}.parquet"
    return [file] if file.is_file() else sorted((dataset / table).glob("[!._]*.parquet"))


def _batches(dataset: Path, table: str) -> Iterator[list[dict[str, Any]]]:
    for file in _files(dataset, table):
        for batch in pq.ParquetFile(file).iter_batches(_BATCH):
            yield pa.Table.from_batches([batch]).to_pylist()


def _item(row: Mapping[str, Any]) -> Item:
    known = {name: value for name, value in row.items() if name in _ITEM_FIELDS and value is not None}
    others = {name: value for name, value in row.items() if name not in _ITEM_FIELDS and value is not None}
    numbers = {name: float(value) for name, value in others.items() if _is_number(value)}
    embeddings = {
        name: value for name, value in others.items() if isinstance(value, list) and value and _is_number(value[0])
    }
    attributes = {name: value for name, value in others.items() if isinstance(value, str | bool)}
    return Item(**known, numbers=numbers, embeddings=embeddings, attributes=attributes)


def _user(row: Mapping[str, Any]) -> User:
    known = {name: row[name] for name in ("user_id", "languages", "country") if row.get(name) is not None}
    return User(**known, attributes=_scalars(row, frozenset(known)))


def _event(row: Mapping[str, Any], dataset: str, place: int) -> Event:
    known = {name: value for name, value in row.items() if name in _EVENT_FIELDS and value is not None}
    known.setdefault("event_id", imported_event_id(dataset, place))
    # A list that was shown is an answer, whoever gave it.
    if (shown := row.get(_LIST)) is not None:
        known.setdefault("recommendation_id", shown)
    if "position" in known:
        known["position"] -= 1  # a dataset counts from 1
    return Event(**known, context=_scalars(row, _EVENT_FIELDS | {_LIST}))


def _scalars(row: Mapping[str, Any], without: frozenset[str]) -> dict[str, Scalar]:
    return {
        name: value
        for name, value in row.items()
        if name not in without and isinstance(value, str | int | float | bool)
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
