"""Category labels that mean "no category"."""

from collections.abc import Sequence

import polars as pl

from trainer.data.faults import Origin


def drop_placeholders(frame: pl.LazyFrame, placeholders: Sequence[str], origin: Origin) -> pl.LazyFrame:
    """Removes placeholders from the lists of ``categories``; ignoring case and surrounding blanks.

    The number of removals of each is noted.

    Args:
        frame: With a column ``categories``, List(String).
        placeholders: Labels to remove.
        origin: Name of the table in error messages.
    """
    wanted = [label.strip().lower() for label in placeholders]
    if not wanted:
        return frame
    is_placeholder = pl.element().str.strip_chars().str.to_lowercase().is_in(wanted)
    found = origin.collect(
        frame.select(pl.col("categories").list.eval(pl.element().filter(is_placeholder)))
        .explode("categories", empty_as_null=True)
        .drop_nulls()
        .group_by("categories")
        .len()
        .sort("len", "categories", descending=[True, False])
    )
    if found.is_empty():
        return frame
    shown = ", ".join(f"{label!r} {count:,}" for label, count in found.head(5).iter_rows())
    origin.note("categories", f"placeholders dropped ({shown}); `data.source.category_placeholders` lists them")
    return frame.with_columns(pl.col("categories").list.eval(pl.element().filter(~is_placeholder)))
