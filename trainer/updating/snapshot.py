"""The present state of a recommendation service, as a dataset that a model can learn on from."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from serving.service.importing import imported_event_id
from serving.service.store import CopiedEvents, Store
from serving.service.types import User
from trainer.data.dataset import Dataset, write_dataset
from trainer.data.stored_items import items_of_store
from trainer.data.tables import TEXT, TEXTS
from trainer.errors import BabelrecError
from trainer.files import staging, write_text

_LOG = logging.getLogger(__name__)
SNAPSHOT_FILE: Final = "snapshot.json"
_DATASET: Final = "dataset"
_EVENTS: Final = "events"
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot holds; ``snapshot.json``.

    Attributes:
        mark: Of the store's feed: events after it are new to the next snapshot.
        since: Unix seconds after the newest event of the data before: what is later is new.
        fingerprint: Of the dataset.
        rows: By what became of them, for the reconciliation.
    """

    mark: str
    since: int
    fingerprint: str
    rows: Mapping[str, int]

    @classmethod
    def read(cls, folder: Path) -> "Snapshot | None":
        """That of a folder; None if there is none."""
        file = folder / SNAPSHOT_FILE
        return cls(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def take_snapshot(
    store: Store, before: Dataset, mark: str, folder: Path, *, days: int | None = None
) -> tuple[Dataset, Snapshot]:
    """Writes what a model has learned from and what the store has heard since, once; a second call reads it.

    Interactions are those of ``before`` and of the store, each once by its ``event_id``. People who have been erased
    are left out, and what a visit did before its log-in counts as the user's. Items are those that the store has now,
    and those of ``before`` that are gone but that people have interacted with: histories need them.

    Args:
        store: Of the service.
        before: The data that the model to update has learned from.
        mark: `Snapshot.mark` of that data; empty: it was made without the store.
        folder: Where it is written; complete when `SNAPSHOT_FILE` is there.
        days: Older interactions are left out; None: none are.

    Returns:
        The dataset, and what it holds.

    Raises:
        BabelrecError: the store has no items.
    """
    known = Snapshot.read(folder)
    if known is not None:
        return Dataset.load(folder / _DATASET), known
    folder.mkdir(parents=True, exist_ok=True)
    with staging(folder / _EVENTS) as temporary:
        file = temporary / "events.parquet"
        copied = store.copy_events(file, mark)
        # What has left the table since, and was never copied: all of it the first time.
        new = pl.scan_parquet(file)
        files = store.interaction_files()
        if files:
            new = pl.concat([new, *(pl.scan_parquet(each) for each in files)], how="diagonal_relaxed")
        old = _with_event_ids(before)
        rows: dict[str, int] = {"before": before.rows["interactions"], "others": copied.others}
        old = _without_erased(old, copied, rows)
        new = _unique(new, old).with_columns(pl.col("timestamp").cast(pl.Int64))
        # Read twice below: the files of the store may change in between.
        new = new.collect(engine="streaming").lazy()
        rows["new"] = new.select(pl.len()).collect().item()
        everything = _linked(pl.concat([old, new], how="diagonal_relaxed"), copied.links)
        if days is not None:
            everything = _recent(everything, days, rows)
        items = _items(store, before, everything)
        lost = everything.join(items.lazy(), on="item_id", how="anti").select(pl.len()).collect(engine="streaming")
        rows["unknown_items"] = int(lost.item())
        kept = everything.join(items.lazy().select("item_id"), on="item_id", how="semi", maintain_order="left")
        dataset = write_dataset(
            folder / _DATASET,
            name=before.name,
            description=before.description,
            licence=before.licence,
            homepage=before.homepage,
            interactions=kept.sort("timestamp", maintain_order=True),
            items=items,
            users=_users(store, before, copied),
            translations=_of_items(before.translations(), items),
            dropped={name: rows[name] for name in ("erased", "too_old", "unknown_items") if rows.get(name)},
        )
    rows["written"] = dataset.rows["interactions"]
    _reconcile(rows)
    latest = before.interactions().select(pl.col("timestamp").max()).collect(engine="streaming").item()
    found = Snapshot(copied.mark, 0 if latest is None else int(latest) + 1, dataset.fingerprint, rows)
    write_text(folder / SNAPSHOT_FILE, json.dumps(asdict(found), indent=2) + "\n")
    _LOG.info("Snapshot: %s.", ", ".join(f"{name} {count:,}" for name, count in rows.items()))
    return dataset, found


def _reconcile(rows: Mapping[str, int]) -> None:
    expected = rows["before"] + rows["new"] - sum(rows.get(each, 0) for each in ("erased", "too_old", "unknown_items"))
    if rows["written"] != expected:
        raise BabelrecError(f"The snapshot has {rows['written']:,} rows instead of {expected:,} ({dict(rows)}): a bug.")


def _with_event_ids(before: Dataset) -> pl.LazyFrame:
    """Interactions with the ids that `serving.service.importing` has given them."""
    table = before.interactions()
    if "event_id" in table.collect_schema().names():
        return table
    name = before.path.name
    ids = [imported_event_id(name, place) for place in range(before.rows["interactions"])]
    return pl.concat([table, pl.LazyFrame({"event_id": ids})], how="horizontal")


def _without_erased(table: pl.LazyFrame, copied: CopiedEvents, rows: dict[str, int]) -> pl.LazyFrame:
    if not copied.erased:
        return table
    users = table.select("user_id").unique().collect(engine="streaming")["user_id"]
    gone = [each for each in users if hashlib.sha256(each.encode()).hexdigest() in copied.erased]
    is_gone = pl.col("user_id").is_in(gone)
    rows["erased"] = int(table.filter(is_gone).select(pl.len()).collect(engine="streaming").item())
    return table.filter(~is_gone)


def _unique(new: pl.LazyFrame, old: pl.LazyFrame) -> pl.LazyFrame:
    """Those with an id of their own that ``old`` doesn't have."""
    return new.unique("event_id", keep="first", maintain_order=True).join(
        old.select("event_id"), on="event_id", how="anti", maintain_order="left"
    )


def _linked(table: pl.LazyFrame, links: Mapping[str, str]) -> pl.LazyFrame:
    if not links:
        return table
    names = {f"session:{session}": user for session, user in links.items()}
    return table.with_columns(pl.col("user_id").replace(names))


def _recent(table: pl.LazyFrame, days: int, rows: dict[str, int]) -> pl.LazyFrame:
    newest = table.select(pl.col("timestamp").max()).collect(engine="streaming").item()
    is_recent = pl.col("timestamp") > newest - days * _DAY
    rows["too_old"] = int(table.filter(~is_recent).select(pl.len()).collect(engine="streaming").item())
    return table.filter(is_recent)


def _items(store: Store, before: Dataset, interactions: pl.LazyFrame) -> pl.DataFrame:
    schema = before.items().collect_schema()
    now = items_of_store(store, schema)
    used = interactions.select("item_id").unique()
    gone = before.items().join(now.lazy(), on="item_id", how="anti", maintain_order="left")
    return pl.concat([now, gone.join(used, on="item_id", how="semi", maintain_order="left").collect()])


def _users(store: Store, before: Dataset, copied: CopiedEvents) -> pl.DataFrame | None:
    """Profiles as the store has them; of people that only ``before`` knows, theirs."""
    found = [_profile(user) for batch in store.all_users() for user in batch]
    schema: dict[str, pl.DataType] = {"user_id": TEXT, "languages": TEXTS, "country": TEXT}
    now = pl.DataFrame(found, schema=schema)
    own = before.users()
    if own is None:
        return now if found else None
    theirs = _without_erased(own, copied, {}).join(now.lazy(), on="user_id", how="anti", maintain_order="left")
    return pl.concat([now, theirs.collect()], how="diagonal_relaxed").select(own.collect_schema().names())


def _profile(user: User) -> dict[str, Any]:
    return {"user_id": user.user_id, "languages": list(user.languages), "country": user.country or None}


def _of_items(table: pl.LazyFrame | None, items: pl.DataFrame) -> pl.LazyFrame | None:
    return None if table is None else table.join(items.lazy(), on="item_id", how="semi", maintain_order="left")
