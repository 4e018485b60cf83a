"""Whether the new data looks like the data before: what a metric on that very data might not notice."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset
from trainer.data.query_features import user_profiles
from trainer.evaluation.metrics.slices import UNDETERMINED
from trainer.updating.settings import GateConfig
from trainer.updating.verdict import Check

_TEXT: Final = ("title", "description", "language")
# Events that would be expected of a language; with fewer, that they are missing may be chance.
_EXPECTED: Final = 30.0
# Items don't come and go by chance: fewer of a language, and half of them may have left.
_FEW_ITEMS: Final = 5


def data_checks(before: Dataset, dataset: Dataset, since: int | None, settings: GateConfig) -> Iterator[Check]:
    """The conditions on the data: no language is lost, of items or of people, and no items are doubled.

    Args:
        before: The champion's data.
        dataset: The challenger's.
        since: Unix seconds from which on its events are new; None: events are not compared.
        settings: The limits.
    """
    yield from _item_languages(before, dataset, settings.lost)
    if since is not None:
        yield from _people_languages(dataset, since, settings.lost)
    yield _copies(before, dataset, settings.copies)


def _item_languages(before: Dataset, dataset: Dataset, lost: float) -> Iterator[Check]:
    """Items by language. A model that shows none of a language is no reason: only the catalogue counts."""
    counts = [_by_language(each.items().select("language")) for each in (before, dataset)]
    for tag in sorted(counts[0]):
        had, has = counts[0][tag], counts[1].get(tag, 0)
        if had >= _FEW_ITEMS:
            limit = (1.0 - lost) * had
            yield _check(f"items in {tag}", "number", had, has, limit, holds=has >= limit)


def _people_languages(dataset: Dataset, since: int, lost: float) -> Iterator[Check]:
    """Each language's share of people's events, before and since."""
    events = dataset.interactions().select(
        "user_id", *(["language"] if "language" in dataset.interactions().collect_schema() else []), "timestamp"
    )
    profiles = user_profiles(dataset).lazy()
    if "profile_language" in profiles.collect_schema():
        events = events.join(profiles.select("user_id", "profile_language"), on="user_id", how="left")
    columns = [name for name in ("language", "profile_language") if name in events.collect_schema()]
    if not columns:
        return
    tagged = events.select(language=pl.coalesce(columns), is_new=pl.col("timestamp") >= since).drop_nulls("language")
    counts = [_by_language(tagged.filter(pl.col("is_new") == is_new)) for is_new in (False, True)]
    totals = [sum(each.values()) for each in counts]
    if not all(totals):
        return
    for tag in sorted(counts[0]):
        had, has = counts[0][tag] / totals[0], counts[1].get(tag, 0) / totals[1]
        if had * totals[1] >= _EXPECTED:
            limit = (1.0 - lost) * had
            yield _check(f"events of people who read {tag}", "share", had, has, limit, holds=has >= limit)


def _copies(before: Dataset, dataset: Dataset, most: float) -> Check:
    """The share of items that have the text and language of another."""
    had, has = (_share_of_copies(each.items().select(_TEXT).collect(engine="streaming")) for each in (before, dataset))
    return _check("items with the text of another", "share", had, has, had + most, holds=has <= had + most)


def _share_of_copies(items: pl.DataFrame) -> float:
    # An item without a text is no copy of the others without one.
    written = items.filter(pl.any_horizontal(pl.col("title", "description").fill_null("").str.strip_chars() != ""))
    return float(written.is_duplicated().sum() / max(items.height, 1))


def _by_language(table: pl.LazyFrame) -> dict[str, int]:
    tags = table.select(pl.col("language").fill_null("").replace({"": UNDETERMINED}))
    counts = tags.group_by("language").len().collect(engine="streaming")
    return dict(zip(counts["language"], counts["len"], strict=True))


def _check(name: str, measure: str, had: float, has: float, limit: float, *, holds: bool) -> Check:
    return Check(
        kind="data",
        name=name,
        measure=measure,
        champion=float(had),
        challenger=float(has),
        limit=float(limit),
        holds=bool(holds),
    )
