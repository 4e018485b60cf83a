"""XMarket: ratings of one catalogue in several markets, whose people are not shared."""

import tempfile
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import MarketsSource, TableFormat
from trainer.data.sources.numbers import to_number
from trainer.data.sources.published import QUOTED, Published, first_file, located, read_published
from trainer.data.sources.times import to_seconds

VERSION: Final = 1
_REMEDY: Final = (
    "get the markets' files (such as de_5core.txt) of XMarket (https://xmrec.github.io) or of "
    "https://github.com/hamedrab/FOREC, DATA/proc_data"
)
_SUFFIX: Final = "_5core.txt"
_COLUMNS: Final = {
    "user_id": ("user_id", "userId"),
    "item_id": ("asin", "itemId", "item_id"),
    "value": ("rating", "rate"),
    "timestamp": ("date", "timestamp"),
    "market": ("market",),
}
# Markets are named by the ending of the shop's address, countries by ISO 3166.
_COUNTRIES: Final = {"uk": "GB"}


def inputs(source: MarketsSource) -> list[Path]:
    """The table of all markets, or a file for each."""
    return list(_files(source).values())


def write(source: MarketsSource, path: Path) -> Dataset:
    """Creates the dataset at ``path``; a market's people have its name before their ids.

    Raises:
        DatasetError: A file is missing or broken, or a market has no ratings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.read.") as scratch:
        table = _read(_files(source), Path(scratch))
        table.need("user_id", "item_id", "market", "timestamp", "value")
        table.frame = table.frame.with_columns(pl.col("market").str.to_lowercase())
        wanted = [market.lower() for market in source.markets]
        found = table.origin.collect(table.frame.select(pl.col("market").unique().sort()))["market"].to_list()
        for market in [*wanted, *([source.catalogue_of.lower()] if source.catalogue_of else [])]:
            if market not in found:
                raise DatasetError(f"`data.source`: no rating is of the market {market!r}. Remedy: use {found}.")
        if source.catalogue_of:
            own = table.frame.filter(pl.col("market") == source.catalogue_of.lower()).select("item_id").unique()
            known = table.origin.collect(own)["item_id"]
            table.drop(~pl.col("item_id").is_in(known.implode()), "ratings of items that the market does not have")
        if wanted:
            table.drop(~pl.col("market").is_in(wanted), "ratings of other markets")
        table.frame = to_seconds(table.frame, "timestamp", table.origin, QUOTED, table.facts)
        table.frame = to_number(table.frame, "value", pl.Float64(), table.origin, QUOTED, ",")
        interactions = table.finish(
            pl.format("{}:{}", "market", "user_id").alias("user_id"),
            "item_id",
            "timestamp",
            pl.lit("rating").alias("event"),
            "value",
        )
        rows = table.origin.collect(interactions)
        markets = pl.col("user_id").str.extract(r"^([^:]+):")
        countries = {market: _COUNTRIES.get(market, market.upper()) for market in found}
        users = rows.select(pl.col("user_id").unique(maintain_order=True)).select(
            "user_id",
            pl.lit([], pl.List(pl.String)).alias("languages"),
            markets.replace_strict(countries, return_dtype=pl.String).alias("country"),
        )
        return write_dataset(
            path,
            name="markets",
            description="Ratings of one catalogue in several markets: items are shared, people are not.",
            licence="XMarket: research use with citation",
            homepage="https://xmrec.github.io",
            interactions=rows,
            items=rows.select(pl.col("item_id").unique().sort()).select(
                "item_id",
                pl.lit("und").alias("language"),
                pl.lit("").alias("title"),
                pl.lit(None, pl.String).alias("description"),
                pl.lit([], pl.List(pl.String)).alias("categories"),
            ),
            users=users,
            dropped=table.dropped,
            origins={"interactions": table.origin},
            read={"interactions": table.facts},
        )


def _files(source: MarketsSource) -> dict[str, Path]:
    """Market -> its file; the name '' stands for a table with a column of markets."""
    place = located(source.path, "xmarket-electronics", "XMarket's ratings", _REMEDY)
    if place.is_file():
        return {"" if not place.name.endswith(_SUFFIX) else place.name.removesuffix(_SUFFIX): place}
    whole = first_file(place, ("ratings",))
    if whole is not None:
        return {"": whole}
    found = {file.name.removesuffix(_SUFFIX).lower(): file for file in sorted(place.glob(f"*{_SUFFIX}"))}
    if not found:
        raise DatasetError(f"{place} has neither ratings.csv.gz nor a file *{_SUFFIX}. Remedy: {_REMEDY}.")
    if source.markets and not source.catalogue_of:
        found = {market: found[market.lower()] for market in source.markets if market.lower() in found} or found
    return found


def _read(files: dict[str, Path], scratch: Path) -> Published:
    if "" in files:
        return read_published([files[""]], "interactions", _COLUMNS, scratch)
    columns = {name: known for name, known in _COLUMNS.items() if name != "market"}
    parts = []
    for market, file in files.items():
        with file.open(encoding="utf-8") as opened:
            header = opened.readline()
        form = TableFormat(delimiter="\t" if "\t" in header else " ", quote="")
        part = read_published([file], f"interactions-{market}", columns, scratch, form=form)
        part.frame = part.frame.with_columns(pl.lit(market).alias("market"))
        parts.append(part)
    return Published.of(parts)
