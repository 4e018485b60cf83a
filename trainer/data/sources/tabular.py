"""The user's own tables: CSV, TSV, JSONL or Parquet files with a column mapping."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError, Origin, reading
from trainer.data.query_features import QUERY_FEATURES
from trainer.data.settings import TableFormat, TabularSource
from trainer.data.sources import conversion, delimited, jsonl, numbers, parquet
from trainer.data.sources.columns import choose_columns
from trainer.data.sources.id_checks import refuse_if_no_rows_are_left, warn_about_look_alikes
from trainer.data.sources.item_languages import fill_languages
from trainer.data.sources.lists import to_list
from trainer.data.sources.opening import ending
from trainer.data.sources.parts import part_files, read_parts
from trainer.data.sources.placeholders import drop_placeholders
from trainer.data.sources.times import to_seconds
from trainer.data.sources.titles import apply_pattern
from trainer.data.sources.unknown_items import drop_unknown
from trainer.data.tables import OPTIONAL, REQUIRED

VERSION: Final = 3
_ROW: Final = "__row_of_file"
UNKNOWN_ITEMS: Final = "interactions with items that are not in the catalogue"
_READERS: Final = {
    ".csv": delimited.read,
    ".tsv": delimited.read,
    ".jsonl": jsonl.read,
    ".ndjson": jsonl.read,
    ".parquet": parquet.read,
}
_LOG = logging.getLogger(__name__)
TableName = Literal["interactions", "items", "users"]


@dataclass(slots=True)
class Table:
    """A table being converted from the user's file to the dataset's columns."""

    name: TableName
    frame: pl.LazyFrame
    origin: Origin
    form: TableFormat
    delimiter: str | None
    mixed: frozenset[str] = frozenset()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The current columns."""
        return self.frame.collect_schema().names()


def inputs(source: TabularSource) -> list[Path]:
    """The user's files; for a directory, every part."""
    named = (file for file in (source.interactions, source.items, source.users) if file is not None)
    return [part for file in named for part in part_files(file)]


def write(source: TabularSource, path: Path) -> Dataset:
    """Creates the dataset at ``path`` from the user's files.

    Text files are copied to Parquet first, column by column, next to ``path``. The rows that arrive in the dataset
    are compared with the records that were counted in the files.

    Args:
        source: Files and mapping.
        path: Directory to create.

    Raises:
        DatasetError: Gives the user's file, column and row.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f".{path.name}.read.", ignore_cleanup_errors=True
    ) as folder:
        tables = [convert(source, name, Path(folder)) for name in named(source)]
        interactions = tables[0]
        if source.drop_unknown_items:
            with reading(interactions.origin.file):
                _drop_unknown_items(interactions, tables[1].frame)
        frames: dict[str, pl.LazyFrame] = {table.name: table.frame for table in tables}
        warn_about_look_alikes(frames, {table.name: table.origin for table in tables})
        return write_dataset(
            path,
            name=source.interactions.name.split(".")[0],
            description=f"Made from {', '.join(table.facts['file'] for table in tables)}.",
            licence="",
            homepage="",
            interactions=frames["interactions"],
            items=frames["items"],
            users=frames.get("users"),
            dropped=interactions.facts["dropped"],
            origins={table.name: table.origin for table in tables},
            read={table.name: table.facts | {"notes": table.origin.notes} for table in tables},
        )


def named(source: TabularSource) -> list[TableName]:
    """The tables that a source has: interactions, items, and perhaps users."""
    return ["interactions", "items", *(("users",) if source.users is not None else ())]


def convert(source: TabularSource, name: TableName, folder: Path) -> Table:
    """Reads one table of a source and converts it to the dataset format; its values are not validated.

    Args:
        source: Files and mapping.
        name: One of `named`.
        folder: For Parquet copies of text files, which the table's frame reads.

    Raises:
        DatasetError: Gives the user's file, column and row.
    """
    file = getattr(source, name)
    return _CONVERTERS[name](source, _open(source, file, name, folder))


def _drop_unknown_items(interactions: Table, items: pl.LazyFrame) -> None:
    numbered, place = interactions.frame.with_row_index(_ROW), interactions.origin.place
    kept, lost = drop_unknown(numbered, items)
    if lost:
        refuse_if_no_rows_are_left(interactions.frame, items, lost, interactions.origin)
    interactions.facts["dropped"] = {UNKNOWN_ITEMS: lost}
    interactions.frame = kept.drop(_ROW)
    if lost:
        # Faults are found later, among the remaining rows, but must report the file's row numbers.
        interactions.origin = replace(
            interactions.origin,
            place=lambda row: place(int(kept.select(_ROW).slice(row, 1).collect(engine="streaming").item())),
        )


def _interactions(source: TabularSource, table: Table) -> Table:
    origin = table.origin
    for name in ("user_id", "item_id"):
        table.frame = conversion.to_id(table.frame, name, origin)
    table.frame = to_seconds(table.frame, "timestamp", origin, table.form, table.facts)
    given = table.columns
    if "event" in given:
        table.frame = conversion.to_text(table.frame, "event", origin)
    if source.default_event is not None:
        event = pl.col("event") if "event" in given else pl.lit(None, pl.String)
        table.frame = table.frame.with_columns(event.fill_null(pl.lit(source.default_event)).alias("event"))
    elif "event" not in given:
        raise DatasetError(
            f"{origin.file} has no column `{origin.column('event')}`. Remedy: give its column in "
            "`data.source.columns.interactions.event`, or set `data.source.default_event`."
        )
    for name, dtype in (("value", pl.Float64()), ("position", pl.Int32())):
        if name == "value" or name in given:
            table.frame = numbers.to_number(table.frame, name, dtype, origin, table.form, table.delimiter)
    if "impression_id" in given:
        table.frame = conversion.to_id(table.frame, "impression_id", origin)
    for feature in QUERY_FEATURES:
        if feature.is_language and feature.name in given:
            table.frame = conversion.to_tag(table.frame, feature.name, origin)
        elif feature.name in given:
            _text_or_null(table, feature.name)
    conversion.note_odd_texts(table.frame, ["user_id", "item_id"], origin)
    return _further_columns(table)


def _items(source: TabularSource, table: Table) -> Table:
    origin = table.origin
    table.frame = conversion.to_id(table.frame, "item_id", origin)
    table.frame = conversion.to_text(table.frame, "title", origin, mixed="title" in table.mixed)
    table.frame = table.frame.with_columns(pl.col("title").fill_null(""))
    _text_or_null(table, "description", join=True)
    table.frame = to_list(table.frame, "categories", source.list_separator, origin)
    if "entities" in table.columns:
        table.frame = to_list(table.frame, "entities", source.list_separator, origin)
    conversion.note_odd_texts(table.frame, ["item_id", "title", "description"], origin)
    table.frame = drop_placeholders(table.frame, source.category_placeholders, origin)
    table.frame = apply_pattern(table.frame, source.title_pattern, origin)
    table.frame, table.facts["languages"] = fill_languages(table.frame, source.language, origin)
    return _further_columns(table)


def _users(source: TabularSource, table: Table) -> Table:
    table.frame = conversion.to_id(table.frame, "user_id", table.origin)
    table.frame = to_list(table.frame, "languages", source.list_separator, table.origin)
    table.frame = conversion.to_tags(table.frame, "languages", table.origin)
    for feature in QUERY_FEATURES:
        if not feature.is_language:
            _text_or_null(table, feature.profile_column)
    conversion.note_odd_texts(table.frame, ["user_id"], table.origin)
    return _further_columns(table)


_CONVERTERS: Final = {"interactions": _interactions, "items": _items, "users": _users}


def _open(source: TabularSource, file: Path, name: TableName, folder: Path) -> Table:
    """Reads a file; its columns get the dataset format's names."""
    form = source.format_of(name)
    mapping: Mapping[str, str] = getattr(source.columns, name)
    known = [column for column in (*REQUIRED[name], *OPTIONAL[name]) if column not in mapping]
    wanted = list(dict.fromkeys([*mapping.values(), *(column for column in known if column not in mapping.values())]))

    def choose(names: list[str]) -> dict[str, str]:
        return choose_columns(file, name, mapping, names)

    raw = read_parts(
        part_files(file),
        lambda part, target: _READERS[ending(part)](part, name, form, wanted, choose, target),
        folder / name,
    )
    unused = [column for column in raw.names if column not in choose(raw.names).values()]
    if unused:
        _LOG.info("%s: not used: %s (`data.source.columns.%s` does not map them)", file, ", ".join(unused), name)
    drops = "data.source.drop_unknown_items" if name == "interactions" else None
    origin = Origin(str(file), dict(mapping), drops, raw.place)
    facts = {"file": file.name, **raw.facts, "records": raw.records, "dropped": {}, "unused": unused}
    table = Table(name, raw.frame, origin, form, raw.facts.get("delimiter"), raw.mixed, facts)
    _apply_null_values(table)
    return table


def _apply_null_values(table: Table) -> None:
    """Replaces the configured missing-value texts by null and notes how many."""
    schema = table.frame.collect_schema()
    wanted = table.form.null_values or []
    numbers_wanted = pl.Series(wanted, dtype=pl.String).cast(pl.Float64, strict=False).drop_nulls().to_list()
    given = {name: pl.col(name).str.strip_chars().is_in(wanted) for name, dtype in schema.items() if dtype == pl.String}
    given |= {
        name: pl.col(name).cast(pl.Float64, strict=False).is_in(numbers_wanted)
        for name, dtype in schema.items()
        if dtype.is_numeric() and numbers_wanted
    }
    if not wanted or not given:
        return
    counts = table.origin.aggregate(table.frame, **{name: marked.sum() for name, marked in given.items()})
    for name, count in zip(given, counts, strict=True):
        if count:
            table.origin.note(name, f"read as missing by `null_values`: {count:,}")
    table.frame = table.frame.with_columns(
        pl.when(~marked).then(pl.col(name)).alias(name) for name, marked in given.items()
    )


def _text_or_null(table: Table, name: str, *, join: bool = False) -> None:
    if name not in table.columns:
        table.frame = table.frame.with_columns(pl.lit(None, pl.String).alias(name))
        return
    table.frame = conversion.to_text(table.frame, name, table.origin, join=join, mixed=name in table.mixed)
    table.frame = table.frame.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name))


def _further_columns(table: Table) -> Table:
    """Converts additional columns to their types, and puts the format's own first."""
    known = [*REQUIRED[table.name], *OPTIONAL[table.name]]
    further = [name for name in table.columns if name not in known]
    for name in further:
        table.frame = numbers.to_natural(table.frame, name, table.origin, table.form, table.delimiter)
    table.frame = table.frame.select(*(name for name in known if name in table.columns), *further)
    return table
