"""Shopping sessions: the products of a visit in order, as in Amazon-M2 (KDD Cup 2023)."""

import tempfile
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import SessionsSource
from trainer.data.sources.numbers import to_number
from trainer.data.sources.parts import part_files
from trainer.data.sources.published import QUOTED, Published, first_file, located, read_published

VERSION: Final = 1
_REMEDY: Final = "get sessions_train.csv and products_train.csv of Amazon-M2 (https://kddcup23.github.io)"
# Locale -> language and country; others are read as both in lower and upper case.
_LOCALES: Final = {"UK": ("en", "GB"), "US": ("en", "US"), "JP": ("ja", "JP")}
# The sources have an order but no times: one second lies between two products of a session.
_BEGIN: Final = 1_672_531_200
_ITEM: Final = r"[^\s\[\]'\",]+"
_SESSIONS: Final = {
    "session_id": ("session_id",),
    "locale": ("locale",),
    "items": ("items", "prev_items"),
    "next_item": ("next_item",),
}
_FURTHER: Final = ("brand", "color", "size", "model", "material", "author")
_PRODUCTS: Final = {
    "item_id": ("id", "item_id"),
    "locale": ("locale",),
    "title": ("title",),
    "price": ("price",),
    "description": ("desc", "description"),
    **{name: (name,) for name in _FURTHER},
}
# The price of a product that is not on sale.
_NO_PRICE: Final = 40_000_000.0


def inputs(source: SessionsSource) -> list[Path]:
    """The sessions' files, and that of the products if there is one."""
    products = _products_file(source)
    return [*_session_files(source), *([] if products is None else [products])]


def write(source: SessionsSource, path: Path) -> Dataset:
    """Creates the dataset at ``path``: each session is a user, each product an event.

    Raises:
        DatasetError: A file is missing or broken, or no session has one of the locales.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.read.") as scratch:
        table = read_published(
            _session_files(source), "interactions", _SESSIONS, Path(scratch), optional=("session_id", "next_item")
        )
        events, users = _events(table, source)
        products = _products_file(source)
        read = {"interactions": table.facts}
        translations = None
        if products is None:
            items = _bare_items(events)
            lost = 0
        else:
            listed = read_published([products], "items", _PRODUCTS, Path(scratch), optional=("price", *_FURTHER))
            items, translations = _items(listed, source)
            read["items"] = listed.facts
            known = events.join(items.select("item_id"), on="item_id", how="semi", maintain_order="left")
            lost, events = events.height - known.height, known
        table.dropped["products of sessions that are not in the table of products"] = lost
        return write_dataset(
            path,
            name="sessions",
            description="Sessions of unknown people: products in order, one session a user, locales as countries.",
            licence="Amazon-M2: Apache 2.0",
            homepage="https://kddcup23.github.io",
            interactions=events,
            items=items,
            users=users.join(events.select("user_id").unique(), on="user_id", how="semi", maintain_order="left"),
            translations=translations,
            dropped=table.dropped,
            read=read,
        )


def _session_files(source: SessionsSource) -> list[Path]:
    place = located(source.path, "amazon-m2-sessions", "Sessions", _REMEDY)
    if place.is_file():
        return [place]
    file = first_file(place, ("sessions", "sessions_train"))
    return part_files(place) if file is None else [file]


def _products_file(source: SessionsSource) -> Path | None:
    if source.products is not None:
        return source.products
    place = located(source.path, "amazon-m2-sessions", "Sessions", _REMEDY)
    return first_file(place if place.is_dir() else place.parent, ("products_train", "products"))


def language_and_country(locale: str) -> tuple[str, str]:
    """Of a locale such as ``UK``: ``en`` and ``GB``."""
    return _LOCALES.get(locale.upper(), (locale.lower(), locale.upper()))


def _events(table: Published, source: SessionsSource) -> tuple[pl.DataFrame, pl.DataFrame]:
    """An event for each product of a session in one of the locales, and the sessions as users."""
    columns = table.columns
    table.need("locale")
    texts = [_as_text(table, name) for name in ("items", "next_item") if name in columns]
    products = pl.concat_str(texts, separator=" ", ignore_nulls=True).str.extract_all(_ITEM)
    session = pl.col("session_id") if "session_id" in columns else pl.format("s{}", pl.int_range(pl.len()))
    sessions = table.origin.collect(
        table.frame.select(session.cast(pl.String).alias("user_id"), "locale", products.alias("item_id"))
    )
    if sessions["user_id"].is_duplicated().any():
        raise table.origin.fault("session_id", "sessions have the same id", "give each session an id of its own")
    lengths = sessions["item_id"].list.len()
    # Counted again, as the numbers of products rather than of sessions: those are the rows of the dataset.
    table.facts |= {"sessions": sessions.height, "records": int(lengths.sum())}
    wanted = [locale.upper() for locale in source.locales]
    kept = sessions if not wanted else sessions.filter(pl.col("locale").str.to_uppercase().is_in(wanted))
    if kept.is_empty():
        found = ", ".join(sessions["locale"].unique().sort())
        raise DatasetError(
            f"`data.source.locales`: no session is of {', '.join(source.locales)}. Remedy: choose from {found}."
        )
    table.dropped["products of sessions in other locales"] = int(lengths.sum()) - int(kept["item_id"].list.len().sum())
    countries = {name: language_and_country(name)[1] for name in kept["locale"].unique()}
    languages = {name: [language_and_country(name)[0]] for name in kept["locale"].unique()}
    users = kept.select(
        "user_id",
        pl.col("locale").replace_strict(languages, return_dtype=pl.List(pl.String)).alias("languages"),
        pl.col("locale").replace_strict(countries, return_dtype=pl.String).alias("country"),
    )
    events = (
        kept.filter(pl.col("item_id").list.len() > 0)
        .with_columns(pl.int_ranges(_BEGIN, _BEGIN + pl.col("item_id").list.len().cast(pl.Int64)).alias("timestamp"))
        .explode("item_id", "timestamp")
        .select(
            "user_id",
            "item_id",
            "timestamp",
            pl.lit("click").alias("event"),
            pl.lit(None, pl.Float64).alias("value"),
        )
    )
    return events, users


def _as_text(table: Published, name: str) -> pl.Expr:
    """Products as text: of a list of ids, or as it is."""
    dtype = table.frame.collect_schema()[name]
    return pl.col(name).list.join(" ") if isinstance(dtype, pl.List) else pl.col(name).cast(pl.String)


def _bare_items(events: pl.DataFrame) -> pl.DataFrame:
    """Items that are known by their ids alone."""
    return events.select(pl.col("item_id").unique().sort()).select(
        "item_id",
        pl.lit("und").alias("language"),
        pl.lit("").alias("title"),
        pl.lit(None, pl.String).alias("description"),
        pl.lit([], pl.List(pl.String)).alias("categories"),
    )


def _items(table: Published, source: SessionsSource) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A product once, in the first of its locales; its texts in other languages are translations."""
    table.need("item_id", "locale")
    wanted = [locale.upper() for locale in source.locales]
    if wanted:
        table.drop(~pl.col("locale").str.to_uppercase().is_in(wanted), "products of other locales")
    frame = table.frame
    if "price" in table.columns:
        frame = to_number(frame, "price", pl.Float64(), table.origin, QUOTED, ",")
        frame = frame.with_columns(pl.when(pl.col("price") < _NO_PRICE).then("price").alias("price"))
    rows = table.origin.collect(frame)
    tags = {name: language_and_country(name)[0] for name in rows["locale"].unique()}
    rows = rows.with_columns(
        pl.col("locale").replace_strict(tags, return_dtype=pl.String).alias("language"),
        pl.col("title").fill_null(""),
        pl.concat_list(pl.col("brand") if "brand" in rows.columns else pl.lit(None, pl.String))
        .list.drop_nulls()
        .alias("categories"),
    )
    first = rows.unique("item_id", keep="first", maintain_order=True)
    others = rows.join(first.select("item_id", "language"), on=["item_id", "language"], how="anti")
    others = others.unique(["item_id", "language"], keep="first", maintain_order=True)
    repeated = rows.height - first.height
    table.dropped["further locales of a product (other languages are kept as translations)"] = repeated
    further = [name for name in ("price", *_FURTHER) if name in rows.columns and name != "brand"]
    items = first.select("item_id", "language", "title", "description", "categories", *further)
    return items, others.select("item_id", "language", "title", "description")
