"""The user's own tables: CSV, TSV, JSONL or Parquet files with a column mapping."""

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from trainer.config import TabularSource
from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError, Origin, reading
from trainer.data.languages import detect, normalise
from trainer.data.sources import conversion
from trainer.data.sources.unknown_items import drop_unknown
from trainer.data.tables import OPTIONAL, REQUIRED

VERSION: Final = 1
_ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_COMPRESSIBLE: Final = _ENDINGS[:-1]
# What no default can stand in for.
_INDISPENSABLE: Final = {
    "interactions": ("user_id", "item_id", "timestamp"),
    "items": ("item_id", "title"),
    "users": ("user_id",),
}
_LOG = logging.getLogger(__name__)


def inputs(source: TabularSource) -> list[Path]:
    """The user's files."""
    return [file for file in (source.interactions, source.items, source.users) if file is not None]


def write(source: TabularSource, path: Path) -> Dataset:
    """Makes the dataset at ``path`` from the user's files.

    Args:
        source: Files and mapping.
        path: Directory to make.

    Raises:
        DatasetError: Names the user's file, column and row.
    """
    interactions, interactions_origin = _interactions(source)
    items, items_origin = _items(source)
    origins = {"interactions": interactions_origin, "items": items_origin}
    users = None
    if source.users is not None:
        users, origins["users"] = _users(source, source.users)
    dropped = {}
    if source.drop_unknown_items:
        with reading(interactions_origin.file):
            interactions, lost = drop_unknown(interactions, items)
        dropped["interactions with items that are not in the catalogue"] = lost
    return write_dataset(
        path,
        name=source.interactions.name.split(".")[0],
        description=f"Made from {', '.join(file.name for file in inputs(source))}.",
        licence="",
        homepage="",
        interactions=interactions,
        items=items,
        users=users,
        dropped=dropped,
        origins=origins,
    )


def _interactions(source: TabularSource) -> tuple[pl.LazyFrame, Origin]:
    frame, origin = _open(source.interactions, "interactions", source.columns.interactions)
    schema = frame.collect_schema()
    for name in ("user_id", "item_id"):
        frame = conversion.to_id(frame, name, origin)
    frame = conversion.to_seconds(frame, "timestamp", origin)
    if "event" in schema:
        frame = frame.with_columns(conversion.text("event"))
    if source.default_event is not None:
        given = pl.col("event") if "event" in schema else pl.lit(None, pl.String)
        frame = frame.with_columns(given.fill_null(pl.lit(source.default_event)).alias("event"))
    elif "event" not in schema:
        raise DatasetError(
            f"{origin.file} has no column `{origin.column('event')}`. Remedy: name its column in "
            "`data.source.columns.interactions.event`, or set `data.source.default_event`."
        )
    frame = conversion.to_number(frame, "value", pl.Float64(), origin)
    if "position" in schema:
        frame = conversion.to_number(frame, "position", pl.Int32(), origin)
    if "impression_id" in schema:
        frame = conversion.to_id(frame, "impression_id", origin)
    if "language" in schema:
        frame = conversion.to_tag(frame, "language", origin)
    return _further_columns(frame, "interactions", source, origin), origin


def _items(source: TabularSource) -> tuple[pl.LazyFrame, Origin]:
    frame, origin = _open(source.items, "items", source.columns.items)
    frame = conversion.to_id(frame, "item_id", origin)
    frame = frame.with_columns(conversion.text("title").fill_null(""))
    frame = _text_or_null(frame, "description")
    frame = conversion.to_list(frame, "categories", source.list_separator, origin)
    if "entities" in frame.collect_schema():
        frame = conversion.to_list(frame, "entities", source.list_separator, origin)
    frame = _with_language(frame, source.language, origin)
    return _further_columns(frame, "items", source, origin), origin


def _users(source: TabularSource, file: Path) -> tuple[pl.LazyFrame, Origin]:
    frame, origin = _open(file, "users", source.columns.users)
    frame = conversion.to_id(frame, "user_id", origin)
    frame = conversion.to_list(frame, "languages", source.list_separator, origin)
    frame = conversion.to_tags(frame, "languages", origin)
    frame = _text_or_null(frame, "country")
    return _further_columns(frame, "users", source, origin), origin


def _open(file: Path, table: str, mapping: Mapping[str, str]) -> tuple[pl.LazyFrame, Origin]:
    """Scans a file; its columns get the dataset format's names."""
    origin = Origin(str(file), dict(mapping))
    with reading(origin.file):
        try:
            frame = _scan(file)
            names = frame.collect_schema().names()
        except pl.exceptions.NoDataError as error:
            raise DatasetError(
                f"{file}: the table `{table}` is empty. Remedy: give a header and at least one row."
            ) from error
    for name, column in mapping.items():
        if column not in names:
            near = difflib.get_close_matches(column, names, n=1)
            hint = f"did you mean `{near[0]}`? " if near else ""
            raise DatasetError(
                f"{file} has no column `{column}`, which `data.source.columns.{table}.{name}` names; {hint}"
                f"it has {', '.join(names)}. Remedy: correct the mapping or the file's header."
            )
    known = {*REQUIRED[table], *OPTIONAL[table]}
    used = set(mapping.values())
    same = (name for name in names if name in known and name not in mapping and name not in used)
    chosen = dict(mapping) | {name: name for name in same}
    for name in _INDISPENSABLE[table]:
        if name not in chosen:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" (`{near[0]}`?)" if near else ""
            raise DatasetError(
                f"{file}: column `{name}` is missing; there are {', '.join(names)}. Remedy: name the file's "
                f"column for it{hint} in `data.source.columns.{table}.{name}`."
            )
    left_out = [name for name in names if name not in chosen.values()]
    if left_out:
        _LOG.info(
            "%s: left out %s (to keep them, name them in `data.source.columns.%s`)",
            file,
            ", ".join(left_out),
            table,
        )
    return frame.select(pl.col(column).alias(name) for name, column in chosen.items()), origin


def _scan(file: Path) -> pl.LazyFrame:
    name = file.name.lower()
    ending = next((ending for ending in _COMPRESSIBLE if name.endswith((ending, ending + ".gz"))), None)
    if ending in (".csv", ".tsv"):
        # Read as text, so that an id `007` stays one and a broken number can be named with its row.
        return pl.scan_csv(file, separator="," if ending == ".csv" else "\t", infer_schema=False, glob=False)
    if ending is not None:
        return pl.scan_ndjson(file, infer_schema_length=None)
    if name.endswith(".parquet"):
        return pl.scan_parquet(file, glob=False)
    raise DatasetError(
        f"{file}: its ending tells no format. Remedy: give a file that ends in {', '.join(_ENDINGS)} (all "
        "but Parquet also with .gz)."
    )


def _text_or_null(frame: pl.LazyFrame, name: str) -> pl.LazyFrame:
    if name not in frame.collect_schema():
        return frame.with_columns(pl.lit(None, pl.String).alias(name))
    text = conversion.text(name)
    return frame.with_columns(pl.when(text != "").then(text).alias(name))


def _with_language(frame: pl.LazyFrame, given: str | None, origin: Origin) -> pl.LazyFrame:
    """Fills the languages: from the column, else the setting, else detected from title and description."""
    if "language" in frame.collect_schema():
        frame = conversion.to_tag(frame, "language", origin)
    else:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("language"))
    if given is not None:
        return frame.with_columns(pl.col("language").fill_null(normalise(given)))
    with reading(origin.file):
        told_by = pl.concat_str("title", "description", separator="\n", ignore_nulls=True)
        unknown = frame.filter(pl.col("language").is_null()).select("item_id", told_by.alias("text"))
        texts = unknown.unique("item_id", keep="first", maintain_order=True).collect(engine="streaming")
    if texts.is_empty():
        return frame
    detected = texts.select("item_id", pl.Series("detected", detect(texts["text"].to_list()), pl.String))
    counts = detected["detected"].value_counts(sort=True).head(5).rows()
    shown = ", ".join(f"{language} {count:,}" for language, count in counts)
    _LOG.info("%s: language of %s items detected (%s)", origin.file, f"{texts.height:,}", shown)
    return (
        frame.join(detected.lazy(), on="item_id", how="left", maintain_order="left")
        .with_columns(pl.col("language").fill_null(pl.col("detected")).fill_null("und"))
        .drop("detected")
    )


def _further_columns(frame: pl.LazyFrame, table: str, source: TabularSource, origin: Origin) -> pl.LazyFrame:
    """Gives the columns beyond the format their types, and puts the format's own first."""
    known = [*REQUIRED[table], *OPTIONAL[table]]
    names = frame.collect_schema().names()
    further = [name for name in names if name not in known]
    for name in further:
        frame = conversion.to_natural(frame, name, source.list_separator, origin)
    return frame.select(*(name for name in known if name in names), *further)
