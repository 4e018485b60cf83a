"""Removal of interactions whose item is not in the catalogue, with their count."""

import polars as pl

from trainer.data.validation import unknown_items


def drop_unknown(interactions: pl.LazyFrame, items: pl.LazyFrame) -> tuple[pl.LazyFrame, int]:
    """Keeps the interactions with known items, in order, and counts the others."""
    lost = unknown_items(interactions, items).select(pl.len()).collect(engine="streaming").item()
    kept = interactions.join(items.select("item_id"), on="item_id", how="semi", maintain_order="left")
    return kept, int(lost)
