"""Warnings about ids spelled differently from those of the table they refer to."""

import logging
from collections.abc import Mapping

import polars as pl

from trainer.data.faults import Origin
from trainer.data.id_forms import explain, look_alikes, mismatches
from trainer.data.validation import unknown_items

_LOG = logging.getLogger(__name__)


def refuse_if_no_rows_are_left(interactions: pl.LazyFrame, items: pl.LazyFrame, lost: int, origin: Origin) -> None:
    """Checks the rows dropped because the catalogue lacks their items.

    Warns how many ids differ only in spelling.

    Raises:
        DatasetError: No rows are left.
    """
    rows = origin.collect(interactions.select(pl.len())).item()
    unknown = unknown_items(interactions, items).select(pl.col("item_id").unique(maintain_order=True))
    ids = origin.collect(unknown)["item_id"]
    known = origin.collect(items.select("item_id"))["item_id"]
    differing, cure = explain(ids, known)
    if lost == rows:
        raise origin.fault(
            "item_id",
            f"none of the {rows:,} rows has an item of the catalogue"
            + (f"; of their {len(ids):,} items {differing}" if differing else f"; the first is {ids[0]!r}"),
            cure or "check that both files use the same item ids",
        )
    if differing:
        text = f"{lost:,} rows of {len(ids):,} unknown items were dropped, though of these items {differing}: {cure}"
        origin.note("item_id", text, logging.WARNING)


def warn_about_look_alikes(frames: Mapping[str, pl.LazyFrame], origins: Mapping[str, Origin]) -> None:
    """Logs ids of one table that differ only in spelling, and users spelled differently in the users table.

    Args:
        frames: Table -> its rows; ``users`` may be missing.
        origins: Table -> its name in error messages.
    """

    def ids(table: str, column: str) -> pl.Series:
        distinct = frames[table].select(pl.col(column).unique(maintain_order=True))
        return origins[table].collect(distinct)[column]

    users = ids("interactions", "user_id")
    for table, column, values in (("interactions", "user_id", users), ("items", "item_id", ids("items", "item_id"))):
        for found in look_alikes(values):
            _LOG.warning(
                "%s, column `%s`: %s; they count as different ids. Remedy: %s.",
                origins[table].file,
                origins[table].column(column),
                found,
                found.remedy,
            )
    if "users" in frames:
        profiles = ids("users", "user_id")
        for found in mismatches(users.filter(~users.is_in(profiles.implode())), profiles):
            _LOG.warning(
                "%s, column `%s`: users without a row in %s: %s. Remedy: %s.",
                origins["interactions"].file,
                origins["interactions"].column("user_id"),
                origins["users"].file,
                found,
                found.remedy,
            )
