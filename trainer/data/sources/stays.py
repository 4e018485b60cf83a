"""Inside Airbnb: listings with places and prices, and reviews as stays of guests."""

import tempfile
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError
from trainer.data.languages import UNDETERMINED, detect, detect_with_confidence
from trainer.data.settings import StaysSource, TableFormat
from trainer.data.sources.numbers import to_number
from trainer.data.sources.published import QUOTED, Published, first_file, located, read_published
from trainer.data.sources.times import to_seconds
from trainer.data.sources.unknown_items import drop_unknown

VERSION: Final = 1
_REMEDY: Final = (
    "get listings.csv.gz and reviews.csv.gz of a city (https://insideairbnb.com/get-the-data), each city in a folder "
    "of its name"
)
_LISTINGS: Final = {
    "item_id": ("listing_id", "id"),
    "city": ("city",),
    "title": ("name",),
    "description": ("description",),
    "neighbourhood": ("neighbourhood_cleansed", "neighbourhood"),
    "room_type": ("room_type",),
    "property_type": ("property_type",),
    "accommodates": ("accommodates",),
    "price": ("price",),
    "minimum_nights": ("minimum_nights",),
    "rating": ("rating", "review_scores_rating"),
    "latitude": ("lat", "latitude"),
    "longitude": ("lon", "longitude"),
    "language": ("text_lang",),
}
_NUMBERS: Final = ("accommodates", "minimum_nights", "rating", "latitude", "longitude")
_STAYS: Final = {
    "user_id": ("user_id", "reviewer_id"),
    "item_id": ("listing_id",),
    "timestamp": ("date",),
    "event": ("event",),
    "language": ("review_lang",),
    "comments": ("comments",),
}
_AUTOMATIC: Final = r"^The (?:host|reservation was) cancell?ed"
_MONEY: Final = TableFormat(quote='"', decimal=".")
UNKNOWN: Final = "stays at listings that are not in the table of listings"


def inputs(source: StaysSource) -> list[Path]:
    """The two files of each city."""
    return [file for _, listings, stays in _places(source) for file in (listings, stays)]


def write(source: StaysSource, path: Path) -> Dataset:
    """Creates the dataset at ``path``: a review is a `purchase`, since only guests can write one.

    Raises:
        DatasetError: A file is missing or broken, or there is no such city.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.read.") as scratch:
        listings, stays = (Published.of(parts) for parts in _read(source, Path(scratch)))
        items = _items(listings, source)
        _convert(stays, source)
        if source.cities:
            known = listings.origin.collect(listings.frame.select("item_id"))["item_id"]
            stays.drop(~pl.col("item_id").is_in(known.implode()), "stays in other cities, or at unknown listings")
        events = stays.finish(
            "user_id",
            "item_id",
            "timestamp",
            pl.lit("purchase").alias("event"),
            pl.lit(None, pl.Float64).alias("value"),
            "language",
        )
        events, lost = drop_unknown(events, items.lazy())
        stays.dropped[UNKNOWN] = lost
        rows = stays.origin.collect(events)
        return write_dataset(
            path,
            name="stays",
            description="Stays at listings: places, prices, texts in several languages, languages of the guests.",
            licence="Inside Airbnb: CC BY 4.0",
            homepage="https://insideairbnb.com",
            interactions=rows,
            items=items,
            users=_users(rows),
            dropped=stays.dropped,
            read={"interactions": stays.facts, "items": listings.facts},
        )


def _places(source: StaysSource) -> list[tuple[str, Path, Path]]:
    """City (the folder's name), listings and stays."""
    folder = located(source.path, "airbnb-stays-zh-en", "Listings and reviews", _REMEDY)
    wanted = [city.lower() for city in source.cities]
    found = []
    for place in (folder, *sorted(path for path in folder.glob("*") if path.is_dir())):
        listings, stays = first_file(place, ("listings",)), first_file(place, ("stays", "reviews"))
        if listings is not None and stays is not None:
            found.append((place.name, listings, stays))
    if not found:
        raise DatasetError(
            f"{folder} has no listings with reviews (or stays), nor has a folder in it. Remedy: {_REMEDY}."
        )
    if len(found) > 1 and wanted:
        found = [each for each in found if each[0].lower() in wanted] or found
    return found


def _read(source: StaysSource, scratch: Path) -> tuple[list[Published], list[Published]]:
    listings, stays = [], []
    further = ("city", "description", "property_type", "price", "language", *_NUMBERS)
    for number, (city, of_city, of_guests) in enumerate(_places(source)):
        table = read_published([of_city], f"items-{number}", _LISTINGS, scratch, optional=further)
        missing = [name for name in _LISTINGS if name not in table.columns and name != "city"]
        table.frame = table.frame.with_columns(pl.lit(None, pl.String).alias(name) for name in missing)
        if "city" not in table.columns:
            table.frame = table.frame.with_columns(pl.lit(city).alias("city"))
        listings.append(table)
        table = read_published([of_guests], f"interactions-{number}", _STAYS, scratch, optional=_OPTIONAL)
        missing = [name for name in _OPTIONAL if name not in table.columns]
        table.frame = table.frame.with_columns(pl.lit(None, pl.String).alias(name) for name in missing)
        stays.append(table)
    return listings, stays


_OPTIONAL: Final = ("event", "language", "comments")


def _items(table: Published, source: StaysSource) -> pl.DataFrame:
    table.need("item_id", "city")
    wanted = [city.lower() for city in source.cities]
    if wanted:
        cities = table.origin.collect(table.frame.select(pl.col("city").unique().sort()))["city"]
        if not set(wanted) & set(cities.str.to_lowercase()):
            raise DatasetError(f"`data.source.cities`: none of {wanted} is there. Remedy: use {', '.join(cities)}.")
        table.drop(~pl.col("city").str.to_lowercase().is_in(wanted), "listings in other cities")
    table.drop(pl.col("item_id").is_duplicated() & ~pl.col("item_id").is_first_distinct(), "repeated listings")
    frame = table.frame
    for name in _NUMBERS:
        frame = to_number(frame, name, pl.Float64(), table.origin, QUOTED, ",")
    frame = to_number(frame, "price", pl.Float64(), table.origin, _MONEY, ",")
    rows = table.origin.collect(frame)
    title, description = pl.col("title").fill_null(""), pl.col("description")
    texts = rows.select(pl.concat_str(title, description, separator="\n", ignore_nulls=True))[:, 0]
    given = rows["language"]
    language = given if given.null_count() < given.len() else pl.Series(detect(texts.to_list()), dtype=pl.String)
    return rows.select(
        "item_id",
        language.fill_null(UNDETERMINED).alias("language"),
        title.alias("title"),
        "description",
        # The place first: guests look in one city.
        pl.concat_list("city", "neighbourhood", "room_type")
        .list.drop_nulls()
        .list.unique(maintain_order=True)
        .alias("categories"),
        # Nightly prices are in the city's currency.
        (pl.col("price") / pl.col("price").median().over("city")).alias("price_level"),
        *_NUMBERS,
        "city",
        "neighbourhood",
        "property_type",
    )


def _convert(table: Published, source: StaysSource) -> None:
    table.need("user_id", "item_id", "timestamp")
    automatic = (pl.col("event") == "host_cancel") | pl.col("comments").str.contains(_AUTOMATIC)
    table.drop(automatic, "automatic notes that the host cancelled")
    table.frame = to_seconds(table.frame, "timestamp", table.origin, QUOTED, table.facts)
    if source.guest_languages:
        comments = table.origin.collect(table.frame.select("comments"))["comments"].fill_null("")
        detection = detect_with_confidence(comments.to_list())
        tags = pl.Series("detected", detection.tags, pl.String)
        sure = pl.Series(~detection.doubtful)
        found = tags.to_frame().select(pl.when(sure).then("detected"))["detected"]
        table.frame = pl.concat(
            [table.frame.drop("language"), found.alias("language").to_frame().lazy()], how="horizontal"
        )
    known = pl.col("language") != UNDETERMINED
    table.frame = table.frame.with_columns(pl.when(known).then("language").alias("language"))


def _users(rows: pl.DataFrame) -> pl.DataFrame:
    """The languages of each guest, the most frequent first."""
    counts = rows.filter(pl.col("language").is_not_null()).group_by("user_id", "language").len()
    ordered = counts.sort("user_id", "len", "language", descending=[False, True, False])
    languages = ordered.group_by("user_id", maintain_order=True).agg(pl.col("language").alias("languages"))
    return (
        rows.select(pl.col("user_id").unique(maintain_order=True))
        .join(languages, on="user_id", how="left", maintain_order="left")
        .select("user_id", pl.col("languages").fill_null([]), pl.lit(None, pl.String).alias("country"))
    )
