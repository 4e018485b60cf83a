"""KMRD-small: 140,710 ratings of Korean users, films titled in Korean and in English."""

import re
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError, Origin, reading
from trainer.data.settings import KmrdSource
from trainer.files import data_mirror

VERSION: Final = 1
_FILES: Final = ("rates.csv", "movies.txt", "genres.csv", "countries.csv")
_YEAR = re.compile(r"(?:^|\s,\s+)(\d{4})$")
_LATIN = re.compile(r"[A-Za-z]")
# Kana, Han and Hangul: scripts that an English title does not have.
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")


def folder_of(source: KmrdSource) -> Path:
    """The folder of the four files.

    Raises:
        DatasetError: They are nowhere.
    """
    mirror = data_mirror()
    places = [source.path] if source.path is not None else [mirror / "kmrd-small"] if mirror is not None else []
    remedy = (
        "Remedy: get kmr_dataset/datafile/kmrd-small from https://github.com/lovit/kmrd and set "
        "`data.source.path` to its folder, or put it into $BABELREC_DATA_MIRROR/kmrd-small"
    )
    for place in places:
        missing = [name for name in _FILES if not (place / name).is_file()]
        if not missing:
            return place
        raise DatasetError(f"KMRD is incomplete in {place}: {', '.join(missing)} missing. {remedy}.")
    raise DatasetError(f"KMRD is not downloaded automatically, and no folder is given. {remedy}.")


def inputs(source: KmrdSource) -> list[Path]:
    """The four files that the dataset is built from."""
    folder = folder_of(source)
    return [folder / name for name in _FILES]


def write(source: KmrdSource, path: Path) -> Dataset:
    """Creates the dataset at ``path`` with titles in the wanted language."""
    folder = folder_of(source)
    films = _films(folder)
    korean = films.select("item_id", pl.lit("ko").alias("language"), pl.col("korean").alias("title"))
    english = films.select("item_id", pl.lit("en").alias("language"), pl.col("english").alias("title"))
    first, second = (english, korean) if source.title_language == "en" else (korean, english)
    titles = _first_known(films, first, second)
    items = films.join(titles, on="item_id", how="left", maintain_order="left").select(
        "item_id",
        "language",
        "title",
        pl.lit(None, pl.String).alias("description"),
        "categories",
        "year",
        "rerelease_year",
        "grade",
        "countries",
        "original_title",
    )
    translations = None
    if source.title_language == "both":
        shown = titles.select("item_id", "language")
        translations = second.filter(pl.col("title") != "").join(shown, on=["item_id", "language"], how="anti")
        translations = translations.with_columns(pl.lit(None, pl.String).alias("description"))
    return write_dataset(
        path,
        name="kmrd-small",
        description="140,710 ratings (1-10) of 600 films by 52,028 users, titles in Korean and English.",
        licence="As published with github.com/lovit/kmrd; research use",
        homepage="https://github.com/lovit/kmrd",
        interactions=_ratings(folder),
        items=items,
        translations=translations,
        origins={"interactions": _RATING_ORIGIN},
    )


_RATING_ORIGIN: Final = Origin(
    "rates.csv", {"user_id": "user", "item_id": "movie", "value": "rate", "timestamp": "time"}
)


def _ratings(folder: Path) -> pl.DataFrame:
    with reading(str(folder / "rates.csv")):
        return pl.read_csv(
            folder / "rates.csv", schema={"user": pl.String, "movie": pl.String, "rate": pl.Float64, "time": pl.Int64}
        ).select(
            pl.col("user").alias("user_id"),
            pl.col("movie").alias("item_id"),
            pl.col("time").alias("timestamp"),
            pl.lit("rating").alias("event"),
            pl.col("rate").alias("value"),
        )


def _films(folder: Path) -> pl.DataFrame:
    with reading(str(folder / "movies.txt")):
        films = pl.read_csv(
            folder / "movies.txt",
            separator="\t",
            quote_char=None,
            schema={
                "movie": pl.String,
                "title": pl.String,
                "title_eng": pl.String,
                "year": pl.Int64,
                "grade": pl.String,
            },
        ).rename({"movie": "item_id", "title": "korean", "year": "rerelease_year"})
    parsed = [parse_english(title or "") for title in films["title_eng"]]
    films = films.with_columns(
        pl.col("korean").fill_null("").str.strip_chars(),
        pl.Series("english", [title for title, _, _ in parsed], pl.String),
        pl.Series("original_title", [original for _, original, _ in parsed], pl.String),
        pl.Series("year", [year for _, _, year in parsed], pl.Int64),
    )
    genres = _lists(folder / "genres.csv", "genre", "categories")
    countries = _lists(folder / "countries.csv", "country", "countries")
    return (
        films.join(genres, on="item_id", how="left", maintain_order="left")
        .join(countries, on="item_id", how="left", maintain_order="left")
        .with_columns(pl.col("categories", "countries").fill_null([]))
    )


def _lists(file: Path, column: str, name: str) -> pl.DataFrame:
    with reading(str(file)):
        pairs = pl.read_csv(file, schema={"movie": pl.String, column: pl.String})
    pairs = pairs.rename({"movie": "item_id", column: name})
    return pairs.drop_nulls().group_by("item_id", maintain_order=True).agg(pl.col(name).unique(maintain_order=True))


def _first_known(films: pl.DataFrame, first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """The title of ``first``, else of ``second``, each with its language; else an empty one, ``und``."""
    joined = films.select("item_id").join(first, on="item_id").join(second, on="item_id", suffix="_2")
    return joined.select(
        "item_id",
        pl.when(pl.col("title") != "")
        .then("language")
        .when(pl.col("title_2") != "")
        .then("language_2")
        .otherwise(pl.lit("und"))
        .alias("language"),
        pl.when(pl.col("title") != "").then("title").otherwise("title_2").alias("title"),
    )


def parse_english(field: str) -> tuple[str, str | None, int | None]:
    """Parses KMRD's ``title_eng``.

    The field is ``[original title , ]English title , production year``; the original title of an East Asian
    film may also come before a colon, and any part may be missing.

    Returns:
        The English title ('' if there is none), the title in another language, the production year.
    """
    field = " ".join(field.split())
    match = _YEAR.search(field)
    year = int(match[1]) if match else None
    parts = [part.strip() for part in (field[: match.start()] if match else field).split(" , ")]
    english, original = parts[-1], " , ".join(parts[:-1]) or None
    head, colon, tail = english.partition(": ")
    if original is None and colon and _EAST_ASIAN.search(head) and not _EAST_ASIAN.search(tail):
        english, original = tail.strip(), head.strip()
    if _EAST_ASIAN.search(english) and not _LATIN.search(english):
        english, original = "", english
    return english, original, year
