"""NeMig: news impressions of two user studies, German and English, with Wikidata entities."""

import tempfile
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import NemigSource
from trainer.data.sources.mind import interactions_of
from trainer.data.sources.published import Published, first_file, located, read_published
from trainer.data.sources.unknown_items import drop_unknown

VERSION: Final = 1
_REMEDY: Final = (
    "make news_de.csv and behaviors_de.csv (and _en) of NeMig (https://github.com/andreeaiana/nemig; the columns are "
    "in docs/data.md)"
)
_NEWS: Final = {
    "item_id": ("news_id",),
    "language": ("lang",),
    "title": ("title",),
    "description": ("abstract",),
    "date": ("date",),
    "publisher": ("publisher",),
    "subtopic": ("subtopic",),
    "sentiment": ("sentiment",),
    "entities": ("entities",),
}
_BEHAVIORS: Final = {
    "impression_id": ("impression_id",),
    "user_id": ("user_id",),
    "history": ("history",),
    "candidates": ("impressions",),
}

_REPEATED: Final = "clicks of histories that further impressions of the user repeat"
_HISTORY: Final = "clicks of histories on unknown articles"
_SHOWN: Final = "candidates of impressions that are unknown articles"
# The studies have no times. A user's n-th list is at the n-th second, so that a split by time cuts every user alike.
_BEGIN: Final = 1_650_000_000


def inputs(source: NemigSource) -> list[Path]:
    """The two files of each language."""
    return [file for pair in _files(source) for file in pair]


def write(source: NemigSource, path: Path) -> Dataset:
    """Creates the dataset at ``path``; entities are the same ids in both languages.

    Raises:
        DatasetError: A file is missing or broken.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.read.") as folder:
        scratch, files = Path(folder), _files(source)
        news = Published.of([read_published([pair[0]], f"items-{n}", _NEWS, scratch) for n, pair in enumerate(files)])
        log = Published.of(
            [read_published([pair[1]], f"interactions-{n}", _BEHAVIORS, scratch) for n, pair in enumerate(files)]
        )
        items = _items(news)
        log.need("impression_id", "user_id", "candidates")
        order = pl.int_range(pl.len(), dtype=pl.Int64).over("user_id")
        lists = log.origin.collect(log.frame.with_columns((_BEGIN + order).alias("timestamp")))
        history, shown = interactions_of(lists.lazy(), _BEGIN)
        # Counted as ids rather than as impressions: those are the rows of the dataset.
        ids = pl.col("history", "candidates").fill_null("").str.count_matches(r"\S+").sum()
        listed, candidates = lists.select(ids).row(0)
        last = history.select(pl.len()).collect().item()
        log.facts |= {"impressions": lists.height, "records": listed + candidates}
        history, history_lost = drop_unknown(history, items)
        shown, shown_lost = drop_unknown(shown, items)
        log.dropped[_REPEATED] = listed - last
        log.dropped[_HISTORY] = history_lost
        log.dropped[_SHOWN] = shown_lost
        return write_dataset(
            path,
            name="nemig",
            description="News impressions of two user studies, German and English, with Wikidata entities.",
            licence="CC BY-NC-SA 4.0",
            homepage="https://github.com/andreeaiana/nemig",
            interactions=pl.concat([history, shown]),
            items=items,
            dropped=log.dropped,
            origins={"items": news.origin},
            read={"interactions": log.facts, "items": news.facts},
        )


def _files(source: NemigSource) -> list[tuple[Path, Path]]:
    folder = located(source.path, "nemig-news-de-en", "NeMig's files", _REMEDY)
    found = []
    for language in source.languages:
        news, log = (first_file(folder, (f"{name}_{language}",)) for name in ("news", "behaviors"))
        if news is None or log is None:
            raise DatasetError(f"{folder} lacks news_{language} or behaviors_{language}. Remedy: {_REMEDY}.")
        found.append((news, log))
    return found


def _items(table: Published) -> pl.LazyFrame:
    table.need("item_id", "language")
    topic = pl.when(pl.col("subtopic") != "-1").then(pl.format("topic {}", "subtopic"))
    day = pl.col("date").str.to_date("%Y-%m-%d", strict=False)
    frame = table.finish(
        "item_id",
        "language",
        pl.col("title").fill_null(""),
        "description",
        pl.concat_list("publisher", topic).list.drop_nulls().alias("categories"),
        pl.col("entities").fill_null("").str.extract_all(r"Q\d+").list.unique(maintain_order=True),
        # Its age tells how fresh an article is.
        (day - pl.date(2019, 1, 1)).dt.total_days().alias("published_day"),
        "sentiment",
    )
    return table.origin.collect(frame).lazy()
