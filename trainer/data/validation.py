"""Validation of the tables of the dataset format: one clear error for the first fault.

Every check runs in Polars' streaming engine, so that a table may be larger than memory. A fault is reported
with the file, the column, the data row (1 is the first row below the header) and the remedy.
"""

import difflib
from collections.abc import Mapping
from typing import Final

import polars as pl

from trainer.data.checks import Check, embedding_checks, value_checks
from trainer.data.faults import DatasetError, Origin, reading
from trainer.data.id_forms import explain
from trainer.data.languages import LanguageError, normalise
from trainer.data.tables import EMBEDDING, OPTIONAL, REQUIRED, TEXTS, is_embedding

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "items": ("item_id",),
    "users": ("user_id",),
    "translations": ("item_id", "language"),
}
_ROW = "__row"


def validate_table(table: str, frame: pl.LazyFrame, origin: Origin) -> int:
    """Checks one table by itself and returns its row count.

    Args:
        table: ``interactions``, ``items``, ``users`` or ``translations``.
        frame: Its rows.
        origin: Name of the table in error messages.

    Raises:
        DatasetError: The first fault found.
    """
    rows, lengths = validate_part(table, frame, origin)
    if rows == 0:
        raise DatasetError(
            f"{origin.file}: the table `{table}` is empty. Remedy: provide at least one row, or check the "
            "filter or query that wrote it."
        )
    for name, length in lengths.items():
        if length is None:
            raise origin.fault(name, "no row has an embedding", "remove the column")
    if table in KEYS:
        with reading(origin.file):
            _validate_unique(frame.with_row_index(_ROW), KEYS[table], origin)
    return rows


def validate_part(table: str, frame: pl.LazyFrame, origin: Origin) -> tuple[int, dict[str, int | None]]:
    """Checks some rows of a table: all that can be said without the others.

    Args:
        table: As for `validate_table`.
        frame: The rows; there may be none.
        origin: Name of the table in error messages.

    Returns:
        The number of rows, and of each embedding column its length; None: no row has one.

    Raises:
        DatasetError: The first fault found.
    """
    with reading(origin.file):
        schema = frame.collect_schema()
    _validate_schema(table, schema, origin)
    frame = frame.with_row_index(_ROW)
    with reading(origin.file):
        rows = _run(frame, value_checks(table, schema), origin)
        _validate_tags(frame, schema, origin)
        return rows, _embedding_lengths(frame, schema, origin)


def validate_references(frame: pl.LazyFrame, items: pl.LazyFrame, origin: Origin, items_file: str) -> None:
    """Checks that every ``item_id`` of ``frame`` is in ``items``.

    Raises:
        DatasetError: Names the first row with an unknown item and the number of unknown items, and explains how they
            differ from known ids if only their spelling does.
    """
    with reading(origin.file):
        unknown = unknown_items(frame, items)
        found = unknown.select(pl.len(), pl.col("item_id").n_unique().alias("items")).collect(engine="streaming")
        count, distinct = found.row(0)
        if count == 0:
            return
        first = unknown.sort(_ROW).head(1).collect(engine="streaming")
        ids = unknown.select(pl.col("item_id").unique(maintain_order=True)).collect(engine="streaming")["item_id"]
        known = items.select("item_id").collect(engine="streaming")["item_id"]
    differing, cure = explain(ids, known)
    remedies = [cure, "add those items, or drop the rows"] if cure else ["add those items, or drop the rows"]
    if origin.drops_unknown_items is not None:
        remedies[-1] += f" (`{origin.drops_unknown_items}: true` drops and counts them)"
    raise origin.fault(
        "item_id",
        f"{first['item_id'][0]!r} is not in {items_file}; {count:,} rows refer to {distinct:,} such items"
        + (f", of which {differing}" if differing else ""),
        "; else ".join(remedies),
        int(first[_ROW][0]),
    )


def unknown_items(frame: pl.LazyFrame, items: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of ``frame`` (``item_id`` and row number) whose item is not in ``items``."""
    return frame.select("item_id").with_row_index(_ROW).join(items.select("item_id"), on="item_id", how="anti")


def _validate_schema(table: str, schema: pl.Schema, origin: Origin) -> None:
    for name, wanted in REQUIRED[table].items():
        if name not in schema:
            near = difflib.get_close_matches(name, schema.names(), n=1, cutoff=0.6)
            hint = f"rename `{near[0]}` to it" if near else f"add it, of type {wanted}"
            raise DatasetError(
                f"{origin.file}: column `{origin.column(name)}` is missing; the columns are "
                f"{', '.join(schema.names())}. Remedy: {hint}."
            )
    for name, found in schema.items():
        wanted_type = REQUIRED[table].get(name) or OPTIONAL[table].get(name)
        if wanted_type is not None and found != wanted_type:
            raise origin.fault(name, f"type {found} instead of {wanted_type}", f"cast it to {wanted_type}")
        if wanted_type is None and is_embedding(found) and found != EMBEDDING:
            raise origin.fault(name, f"embedding of type {found}", f"cast it to {EMBEDDING}")
        if wanted_type is None and not _is_supported(found):
            raise origin.fault(
                name,
                f"type {found} is not supported",
                "use String, Boolean, a number, List(String) or, for embeddings, List(Float32)",
            )


def _is_supported(dtype: pl.DataType) -> bool:
    plain = dtype == pl.String or dtype == pl.Boolean or dtype.is_integer() or dtype.is_float()
    return plain or dtype == TEXTS or is_embedding(dtype)


def _run(frame: pl.LazyFrame, checks: list[Check], origin: Origin) -> int:
    """Runs all checks in one pass over the table; returns the number of rows."""
    row = pl.col(_ROW)
    outcome = frame.select(
        pl.len().alias("rows"), *(row.filter(check.bad).min().alias(f"first{n}") for n, check in enumerate(checks))
    ).collect(engine="streaming")
    for n, check in enumerate(checks):
        first = outcome[f"first{n}"][0]
        if first is not None:
            value = _value(frame, check.column, first)
            raise origin.fault(check.column, check.problem(value), check.remedy, first)
    return int(outcome["rows"][0])


def _value(frame: pl.LazyFrame, column: str, row: int) -> object:
    found = frame.filter(pl.col(_ROW) == row).select(column).collect(engine="streaming").to_series()
    value = found[0]
    return value.to_list() if isinstance(value, pl.Series) else value


def _validate_tags(frame: pl.LazyFrame, schema: pl.Schema, origin: Origin) -> None:
    for name in ("language", "languages"):
        if name not in schema:
            continue
        tags = frame.select(_ROW, name)
        if schema[name] == TEXTS:
            tags = tags.explode(name, empty_as_null=True)
        first_rows = tags.group_by(name).agg(pl.col(_ROW).min()).sort(_ROW).collect(engine="streaming")
        for tag, row in first_rows.select(name, _ROW).iter_rows():
            if tag is None:
                # An item must have a language; for an interaction or a user it may be unknown.
                if name == "language" and "event" not in schema:
                    raise origin.fault(name, "the language is missing (null)", "write `und` if unknown", row)
                continue
            try:
                canonical = normalise(tag)
            except LanguageError as error:
                raise origin.fault(name, str(error).split(" Remedy: ")[0].rstrip("."), _TAG_REMEDY, row) from error
            if canonical != tag:
                raise origin.fault(name, f"{tag!r} is not in canonical form", f"write {canonical!r}", row)


_TAG_REMEDY = "write a BCP 47 tag such as `en`, `pt-BR` or `zh-Hant`, or `und` if it is unknown"


def _embedding_lengths(frame: pl.LazyFrame, schema: pl.Schema, origin: Origin) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for name in (name for name, dtype in schema.items() if dtype == EMBEDDING):
        lengths = frame.select(_ROW, pl.col(name).list.len().alias("length")).drop_nulls()
        first = lengths.head(1).collect(engine="streaming")
        found[name] = None
        if not first.is_empty():
            found[name] = length = int(first["length"][0])
            _run(frame, embedding_checks(name, length, int(first[_ROW][0])), origin)
    return found


def _validate_unique(frame: pl.LazyFrame, key: tuple[str, ...], origin: Origin) -> None:
    repeated = (
        frame.group_by(key)
        .agg(pl.len().alias("count"), pl.col(_ROW).bottom_k(2).sort().alias("rows"))
        .filter(pl.col("count") > 1)
    )
    found = repeated.with_columns(pl.col("rows").list.get(1).alias("second")).sort("second").head(1)
    first = found.collect(engine="streaming")
    if first.is_empty():
        return
    earlier, later = first["rows"][0].to_list()
    value = ", ".join(repr(first[name][0]) for name in key)
    raise origin.fault(
        key[0],
        f"{value} is a duplicate of {origin.place(earlier)}",
        f"keep one row per {' and '.join(origin.column(name) for name in key)}",
        later,
    )
