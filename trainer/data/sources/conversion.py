"""Conversion of ids, texts and language tags from the types in users' files to those of the dataset format."""

import logging
from typing import Final

import polars as pl

from trainer.data.faults import Origin
from trainer.data.languages import LanguageError, normalise
from trainer.data.sources.lists import parse_list
from trainer.data.sources.refusal import refuse
from trainer.data.tables import TEXTS
from trainer.errors import shortened

_ROW: Final = "__row"
# A long numeric id that a spreadsheet has converted to a number.
_SPREADSHEET: Final = r"^\d(?:[.,]\d+)?[eE]\+\d+$"
# What tools write for missing values when a column was converted to text before.
_WRITTEN_NOTHING: Final = ["nan", "NaN", "None", "NULL", "null", "<NA>", "NaT"]


def to_text(frame: pl.LazyFrame, name: str, origin: Origin, *, join: bool = False, mixed: bool = False) -> pl.LazyFrame:
    """The column as text.

    Args:
        frame: The table.
        name: The column.
        origin: Name of the table in error messages.
        join: Join a list to one text, one entry per line.
        mixed: Some of the texts are lists written as JSON.

    Raises:
        DatasetError: The column holds lists, structs or bytes that are not text.
    """
    dtype = frame.collect_schema()[name]
    given = pl.col(name)
    if join and dtype == pl.List(pl.String):
        origin.note(name, "lists of text are joined, one entry per line")
        return frame.with_columns(_joined(given).alias(name))
    if mixed and dtype == pl.String:
        entries = given.map_batches(parse_list, return_dtype=TEXTS, is_elementwise=True)
        if not join:
            refuse(frame, entries.is_not_null(), name, origin, "is a list, expected text", "write one text per row")
        origin.note(name, "lists of text are joined, one entry per line")
        return frame.with_columns(pl.when(entries.is_not_null()).then(_joined(entries)).otherwise(given).alias(name))
    if dtype.is_nested():
        raise origin.fault(name, f"type {shortened(str(dtype), 60)} instead of text", "write one text per row")
    return frame.with_columns(_from_bytes(frame, name, origin).alias(name))


def _joined(entries: pl.Expr) -> pl.Expr:
    joined = entries.list.eval(pl.element().drop_nulls()).list.join("\n")
    return pl.when(joined != "").then(joined)


def _from_bytes(frame: pl.LazyFrame, name: str, origin: Origin) -> pl.Expr:
    given = pl.col(name)
    if frame.collect_schema()[name] != pl.Binary:
        return given.cast(pl.String)
    text = given.map_batches(_decode, return_dtype=pl.String, is_elementwise=True)
    refuse(frame, given.is_not_null() & text.is_null(), name, origin, "is not UTF-8 text", "write the column as text")
    return text


def _decode(values: pl.Series) -> pl.Series:
    out = []
    for value in values:
        try:
            out.append(None if value is None else value.decode("utf-8"))
        except UnicodeDecodeError:
            out.append(None)
    return pl.Series(values.name, out, pl.String)


def note_odd_texts(frame: pl.LazyFrame, names: list[str], origin: Origin) -> None:
    """Warns about texts such as `nan`, most likely missing values, and about ids such as `1.23457E+12`."""
    for name in names:
        if name.endswith("_id"):
            marked = frame.filter(pl.col(name).str.contains(_SPREADSHEET))
            value, count = origin.aggregate(marked, value=pl.col(name).first(), count=pl.len())
            if count:
                origin.note(
                    name,
                    f"{count:,} ids such as {value!r} look like numbers that a spreadsheet rounded: several may "
                    "have become one; export the column as text",
                    logging.WARNING,
                )
    counts = origin.aggregate(frame, **{name: pl.col(name).is_in(_WRITTEN_NOTHING).sum() for name in names})
    for name, count in zip(names, counts, strict=True):
        if count:
            marked = frame.filter(pl.col(name).is_in(_WRITTEN_NOTHING))
            (value,) = origin.aggregate(marked, value=pl.col(name).first())
            origin.note(
                name,
                f"{count:,} values are the text {value!r}: set `null_values: [{value}]` in `data.source` if they are "
                "missing",
                logging.WARNING,
            )


def to_id(frame: pl.LazyFrame, name: str, origin: Origin) -> pl.LazyFrame:
    """Ids as text; integers are written in decimal.

    Raises:
        DatasetError: The column holds neither text nor integers.
    """
    dtype = frame.collect_schema()[name]
    whole = dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0)
    if not (whole or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null, pl.Binary)):
        remedy = "write the ids as text or integers"
        if dtype.is_float():
            remedy += " (integers with gaps become decimals in some tools: fill the gaps or write text)"
        raise origin.fault(name, f"ids of type {shortened(str(dtype), 60)}", remedy)
    return frame.with_columns(_from_bytes(frame, name, origin).alias(name))


def to_tag(frame: pl.LazyFrame, name: str, origin: Origin) -> pl.LazyFrame:
    """Language tags in canonical form; null where the text is empty."""
    frame = to_text(frame, name, origin)
    given = pl.col(name).str.strip_chars()
    given = pl.when(given != "").then(given)
    mapping = _canonical(frame.select(given.alias(name)).with_row_index(_ROW), name, origin)
    return frame.with_columns(given.replace_strict(mapping, default=None, return_dtype=pl.String).alias(name))


def to_tags(frame: pl.LazyFrame, name: str, origin: Origin) -> pl.LazyFrame:
    """Lists of language tags in canonical form."""
    mapping = _canonical(frame.select(name).with_row_index(_ROW).explode(name, empty_as_null=True), name, origin)
    entries = pl.col(name).list.eval(pl.element().replace_strict(mapping, default=None, return_dtype=pl.String))
    return frame.with_columns(entries.alias(name))


def _canonical(rows: pl.LazyFrame, name: str, origin: Origin) -> dict[str, str]:
    tags = origin.collect(rows.group_by(name).agg(pl.col(_ROW).min()).sort(_ROW))
    mapping = {}
    for tag, row in tags.select(name, _ROW).iter_rows():
        if tag is not None:
            try:
                mapping[tag] = normalise(tag)
            except LanguageError as error:
                problem, _, remedy = str(error).partition(" Remedy: ")
                raise origin.fault(name, problem.rstrip("."), remedy.rstrip("."), row) from error
    return mapping
