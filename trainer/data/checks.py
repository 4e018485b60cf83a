"""Value checks of a table, as Polars expressions that mark invalid rows."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from serving.service.types import EVENTS
from trainer.data.tables import MILLISECONDS_FROM, TEXTS
from trainer.errors import shortened

_NOT_NULL: Final = ("timestamp", "event", "title", "categories", "languages")


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one column.

    Attributes:
        column: Its name.
        bad: True for the rows that fail it.
        problem: Describes the fault, given the value of such a row.
        remedy: How to fix it.
    """

    column: str
    bad: pl.Expr
    problem: Callable[[Any], str]
    remedy: str


def value_checks(table: str, schema: pl.Schema) -> list[Check]:
    """All checks of a table except those of language tags, embeddings and keys, in reporting order."""
    checks: list[Check] = []
    for name in schema.names():
        column = pl.col(name)
        if name in ("user_id", "item_id"):
            checks.append(
                Check(
                    name,
                    column.is_null() | (column.str.strip_chars().str.len_bytes() == 0),
                    lambda value: "the id is missing" if value is None else "the id is empty",
                    "give every row an id, or leave the row out",
                )
            )
        elif name in _NOT_NULL:
            remedy = "write an empty list" if schema[name] == TEXTS else "fill it in, or leave the row out"
            checks.append(Check(name, column.is_null(), lambda _: "the value is missing (null)", remedy))
    if table == "interactions":
        checks += _interaction_checks(schema)
    if table == "users":
        checks.append(
            Check(
                "country",
                ~pl.col("country").str.contains(r"^[A-Z]{2}$"),
                lambda value: f"{value!r} is not a country code",
                "write ISO 3166-1 alpha-2 such as `KR` or `US`, or null",
            )
        )
    for name, dtype in schema.items():
        if dtype.is_float():
            checks.append(
                Check(
                    name,
                    ~pl.col(name).is_finite(),
                    lambda value: f"{value} is not a finite number",
                    "write null where the number is unknown",
                )
            )
        elif dtype == TEXTS:
            checks.append(
                Check(
                    name,
                    pl.col(name).list.eval(pl.element().is_null() | (pl.element() == "")).list.any(),
                    lambda value: f"the list {shortened(str(value))} holds a null or an empty string",
                    "leave such entries out of the list",
                )
            )
    return checks


def _interaction_checks(schema: pl.Schema) -> list[Check]:
    time = pl.col("timestamp")
    checks = [
        Check("timestamp", time < 0, lambda value: f"{value} is negative", "write unix seconds (UTC)"),
        Check(
            "timestamp",
            time >= MILLISECONDS_FROM,
            lambda value: f"{value} looks like milliseconds or finer",
            "write unix seconds: divide by 1,000 (or 1,000,000)",
        ),
        Check("event", ~pl.col("event").is_in(list(EVENTS)), _unknown_event, f"use one of {', '.join(EVENTS)}"),
        Check(
            "value",
            (pl.col("event") == "rating") & pl.col("value").is_null(),
            lambda _: "the event `rating` has no value",
            "give the rating, or use another event such as `view`",
        ),
    ]
    if "position" in schema:
        checks.append(
            Check("position", pl.col("position") < 1, lambda value: f"{value} is below 1", "count positions from 1")
        )
    return checks


def _unknown_event(value: str) -> str:
    near = difflib.get_close_matches(value, EVENTS, n=1)
    return f"unknown event {value!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def embedding_checks(name: str, length: int, row: int) -> list[Check]:
    """The checks of an embedding column whose first embedding (0-based row ``row``) has ``length`` numbers."""
    return [
        Check(
            name,
            pl.col(name).list.len() != length,
            lambda value: f"an embedding of {len(value)} numbers, where row {row + 1} has {length}",
            "give all rows embeddings of one length, or null",
        ),
        Check(
            name,
            pl.col(name).list.len() == 0,
            lambda _: "the embedding is empty",
            "write null where there is no embedding",
        ),
        Check(
            name,
            ~pl.col(name).list.eval(pl.element().is_finite().fill_null(False)).list.all(),
            lambda value: f"the embedding {shortened(str(value))} holds a null, NaN or infinite number",
            "write null in place of the whole embedding",
        ),
    ]
