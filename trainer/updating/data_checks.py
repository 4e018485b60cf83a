"""Whether the new data looks like the data before: what a metric on that very data might not notice."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset
from trainer.evaluation.metrics.slices import UNDETERMINED
from trainer.updating.settings import GateConfig
from trainer.updating.verdict import Check

_TEXT: Final = ("title", "description", "language")
# Events of a language that would be expected in the new data; with fewer a missing one may be chance.
_EXPECTED: Final = 30.0


def data_checks(dataset: Dataset, since: int | None, settings: GateConfig) -> Iterator[Check]:
    """The conditions on the data.

    Args:
        dataset: The newest data.
        since: Unix seconds from which on it is new; None: all of it was there before, and nothing is compared.
        settings: The limits.
    """
    if since is None:
        return
    yield from _languages(dataset, since, settings.lost)
    yield _copies(dataset, since, settings.copies)


def _languages(dataset: Dataset, since: int, lost: float) -> Iterator[Check]:
    """Each language's share of the events, before and since."""
    language = pl.col("language").fill_null("").replace({"": UNDETERMINED})
    items = dataset.items().select("item_id", language.alias("of_item"))
    counts = (
        dataset.interactions()
        .select("item_id", is_new=pl.col("timestamp") >= since)
        .join(items, on="item_id", how="inner")
        .group_by("of_item", "is_new")
        .len()
        .collect(engine="streaming")
    )
    totals = {is_new: int(counts.filter(pl.col("is_new") == is_new)["len"].sum()) for is_new in (False, True)}
    if not all(totals.values()):
        return
    found = {(row["of_item"], row["is_new"]): row["len"] for row in counts.iter_rows(named=True)}
    for tag in sorted({tag for tag, is_new in found if not is_new}):
        before, after = (found.get((tag, is_new), 0) / totals[is_new] for is_new in (False, True))
        if before * totals[True] < _EXPECTED:
            continue
        limit = (1.0 - lost) * before
        yield Check(
            kind="data",
            name=f"events with items in {tag}",
            measure="share",
            champion=before,
            challenger=after,
            limit=limit,
            holds=after >= limit,
        )


def _copies(dataset: Dataset, since: int, most: float) -> Check:
    """Items that have the text and language of another, among those that were known before and among all."""
    known = dataset.interactions().filter(pl.col("timestamp") < since).select("item_id").unique()
    texts = dataset.items().select("item_id", *_TEXT)
    before, after = (
        _share_of_copies(frame.collect(engine="streaming"))
        for frame in (texts.join(known, on="item_id", how="semi"), texts)
    )
    return Check(
        kind="data",
        name="items with the text of another",
        measure="share",
        champion=before,
        challenger=after,
        limit=before + most,
        holds=after <= before + most,
    )


def _share_of_copies(items: pl.DataFrame) -> float:
    # An item without a text is no copy of the others without one.
    written = items.filter(pl.any_horizontal(pl.col("title", "description").fill_null("").str.strip_chars() != ""))
    return float(written.select(_TEXT).is_duplicated().sum() / max(items.height, 1))
