"""What a table of the dataset format must hold, and one clear error for the first fault found.

Every check runs in Polars' streaming engine, so that a table may be larger than memory. A fault is reported
with the file, the column, the data row (1 is the first row below the header) and the remedy.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import polars as pl

from trainer.data.languages import LanguageError, normalise
from trainer.errors import BabelrecError

EVENTS: Final = (
    "impression",
    "view",
    "click",
    "play",
    "complete",
    "rating",
    "like",
    "dislike",
    "bookmark",
    "share",
    "add_to_cart",
    "purchase",
    "skip",
    "hide",
)

TEXT: Final = pl.String()
TEXTS: Final = pl.List(pl.String)
EMBEDDING: Final = pl.List(pl.Float32)

REQUIRED: Final[Mapping[str, Mapping[str, pl.DataType]]] = {
    "interactions": {
        "user_id": TEXT,
        "item_id": TEXT,
        "timestamp": pl.Int64(),
        "event": TEXT,
        "value": pl.Float64(),
    },
    "items": {"item_id": TEXT, "language": TEXT, "title": TEXT, "description": TEXT, "categories": TEXTS},
    "users": {"user_id": TEXT, "languages": TEXTS, "country": TEXT},
    "translations": {"item_id": TEXT, "language": TEXT, "title": TEXT, "description": TEXT},
}
OPTIONAL: Final[Mapping[str, Mapping[str, pl.DataType]]] = {
    "interactions": {"impression_id": TEXT, "position": pl.Int32(), "language": TEXT},
    "items": {"entities": TEXTS},
    "users": {},
    "translations": {},
}
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "items": ("item_id",),
    "users": ("user_id",),
    "translations": ("item_id", "language"),
}
_NOT_NULL: Final = ("timestamp", "event", "title", "categories", "languages")
_ROW = "__row"
# Seconds since 1970 reach this in the year 5138; milliseconds passed it in March 1973.
MILLISECONDS_FROM: Final = 100_000_000_000


class DatasetError(BabelrecError):
    """A table or header that breaks the dataset format."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How a table is called in errors: by the file and the column names that its owner knows.

    Attributes:
        file: File name or path as the user wrote it.
        columns: Column of the dataset format -> the user's column; columns not in it keep their name.
    """

    file: str
    columns: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> str:
        return self.columns.get(name, name)

    def fault(self, column: str, problem: str, remedy: str, row: int | None = None) -> DatasetError:
        """The error for one fault; ``row`` counts data rows from 0."""
        place = f"{self.file}, column `{self.column(column)}`"
        if row is not None:
            place += f", row {row + 1}"
        return DatasetError(f"{place}: {problem}. Remedy: {remedy}.")


@contextlib.contextmanager
def reading(file: str) -> Iterator[None]:
    """Turns any failure to read ``file`` into one `DatasetError`."""
    try:
        yield
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        OSError,
        ValueError,
        IndexError,
    ) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DatasetError(
            f"{file} can't be read: {first_line}. Remedy: make or fetch it anew; it is missing, truncated "
            "or corrupted."
        ) from error


def validate_table(table: str, frame: pl.LazyFrame, origin: Origin) -> int:
    """Checks one table by itself and returns its number of rows.

    Args:
        table: ``interactions``, ``items``, ``users`` or ``translations``.
        frame: Its rows.
        origin: How the table is called in errors.

    Raises:
        DatasetError: The first fault found.
    """
    with reading(origin.file):
        schema = frame.collect_schema()
    _validate_schema(table, schema, origin)
    frame = frame.with_row_index(_ROW)
    with reading(origin.file):
        rows = _run(frame, _checks(table, schema), origin)
        if rows == 0:
            raise DatasetError(
                f"{origin.file}: the table `{table}` is empty. Remedy: give at least one row, or check the "
                "filter or query that wrote it."
            )
        _validate_tags(frame, schema, origin)
        _validate_embeddings(frame, schema, origin)
        if table in _KEYS:
            _validate_unique(frame, _KEYS[table], origin)
    return rows


def validate_references(frame: pl.LazyFrame, items: pl.LazyFrame, origin: Origin, items_file: str) -> None:
    """Checks that every ``item_id`` of ``frame`` stands in ``items``.

    Raises:
        DatasetError: Names the first row with an unknown item and counts all of them.
    """
    with reading(origin.file):
        unknown = unknown_items(frame, items)
        found = unknown.select(pl.len(), pl.col("item_id").n_unique().alias("items")).collect(
            engine="streaming"
        )
        count, distinct = found.row(0)
        if count == 0:
            return
        first = unknown.sort(_ROW).head(1).collect(engine="streaming")
    raise origin.fault(
        "item_id",
        f"{first['item_id'][0]!r} is not in {items_file}; {count:,} rows name {distinct:,} such items",
        "add those items, or leave the rows out",
        int(first[_ROW][0]),
    )


def unknown_items(frame: pl.LazyFrame, items: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of ``frame`` (``item_id`` and row number) whose item is not in ``items``."""
    return (
        frame.select("item_id").with_row_index(_ROW).join(items.select("item_id"), on="item_id", how="anti")
    )


def is_embedding(dtype: pl.DataType) -> bool:
    """Whether a column of this type is an embedding: a list of floats."""
    return isinstance(dtype, pl.List) and dtype.inner is not None and dtype.inner.is_float()


def _validate_schema(table: str, schema: pl.Schema, origin: Origin) -> None:
    for name, wanted in REQUIRED[table].items():
        if name not in schema:
            near = difflib.get_close_matches(name, schema.names(), n=1, cutoff=0.6)
            hint = f"rename `{near[0]}` to it" if near else f"add it, of type {_spell(wanted)}"
            raise DatasetError(
                f"{origin.file}: column `{origin.column(name)}` is missing; there are "
                f"{', '.join(schema.names())}. Remedy: {hint}."
            )
    for name, found in schema.items():
        wanted_type = REQUIRED[table].get(name) or OPTIONAL[table].get(name)
        if wanted_type is not None and found != wanted_type:
            raise origin.fault(
                name,
                f"type {_spell(found)} where {_spell(wanted_type)} is wanted",
                f"cast it to {_spell(wanted_type)}",
            )
        if wanted_type is None and is_embedding(found) and found != EMBEDDING:
            raise origin.fault(name, f"embedding of type {_spell(found)}", f"cast it to {_spell(EMBEDDING)}")
        if wanted_type is None and not _is_supported(found):
            raise origin.fault(
                name,
                f"type {_spell(found)} is not supported",
                "use String, Boolean, a number, List(String) or, for embeddings, List(Float32)",
            )


def _is_supported(dtype: pl.DataType) -> bool:
    plain = dtype == pl.String or dtype == pl.Boolean or dtype.is_integer() or dtype.is_float()
    return plain or dtype == TEXTS or is_embedding(dtype)


def _spell(dtype: pl.DataType) -> str:
    return str(dtype)


@dataclass(frozen=True, slots=True)
class _Check:
    column: str
    bad: pl.Expr
    problem: Callable[[Any], str]
    remedy: str


def _checks(table: str, schema: pl.Schema) -> list[_Check]:
    checks: list[_Check] = []
    for name in schema.names():
        column = pl.col(name)
        if name in ("user_id", "item_id"):
            checks.append(
                _Check(
                    name,
                    column.is_null() | (column.str.strip_chars().str.len_bytes() == 0),
                    lambda value: "the id is missing" if value is None else "the id is empty",
                    "give every row an id, or leave the row out",
                )
            )
        elif name in _NOT_NULL:
            remedy = "write an empty list" if schema[name] == TEXTS else "fill it in, or leave the row out"
            checks.append(_Check(name, column.is_null(), lambda _: "the value is missing (null)", remedy))
    if table == "interactions":
        checks += _interaction_checks(schema)
    if table == "users":
        checks.append(
            _Check(
                "country",
                ~pl.col("country").str.contains(r"^[A-Z]{2}$"),
                lambda value: f"{value!r} is not a country code",
                "write ISO 3166-1 alpha-2 such as `KR` or `US`, or null",
            )
        )
    for name, dtype in schema.items():
        if dtype.is_float():
            checks.append(
                _Check(
                    name,
                    ~pl.col(name).is_finite(),
                    lambda value: f"{value} is not a finite number",
                    "write null where the number is unknown",
                )
            )
        elif dtype == TEXTS:
            checks.append(
                _Check(
                    name,
                    pl.col(name).list.eval(pl.element().is_null() | (pl.element() == "")).list.any(),
                    lambda value: f"the list {_shorten(value)} holds a null or an empty string",
                    "leave such entries out of the list",
                )
            )
    return checks


def _interaction_checks(schema: pl.Schema) -> list[_Check]:
    time = pl.col("timestamp")
    checks = [
        _Check("timestamp", time < 0, lambda value: f"{value} is negative", "write unix seconds (UTC)"),
        _Check(
            "timestamp",
            time >= MILLISECONDS_FROM,
            lambda value: f"{value} looks like milliseconds or finer",
            "write unix seconds: divide by 1,000 (or 1,000,000)",
        ),
        _Check(
            "event",
            ~pl.col("event").is_in(list(EVENTS)),
            _unknown_event,
            f"use one of {', '.join(EVENTS)}",
        ),
        _Check(
            "value",
            (pl.col("event") == "rating") & pl.col("value").is_null(),
            lambda _: "the event `rating` has no value",
            "give the rating, or use another event such as `view`",
        ),
    ]
    if "position" in schema:
        checks.append(
            _Check(
                "position",
                pl.col("position") < 1,
                lambda value: f"{value} is below 1",
                "count positions from 1",
            )
        )
    return checks


def _unknown_event(value: str) -> str:
    near = difflib.get_close_matches(value, EVENTS, n=1)
    return f"unknown event {value!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _run(frame: pl.LazyFrame, checks: list[_Check], origin: Origin) -> int:
    """Runs all checks in one pass over the table; returns the number of rows."""
    row = pl.col(_ROW)
    outcome = frame.select(
        pl.len().alias("rows"),
        *(row.filter(check.bad).min().alias(f"first{n}") for n, check in enumerate(checks)),
    ).collect(engine="streaming")
    for n, check in enumerate(checks):
        first = outcome[f"first{n}"][0]
        if first is not None:
            value = _value(frame, check.column, first)
            raise origin.fault(check.column, check.problem(value), check.remedy, first)
    return int(outcome["rows"][0])


def _value(frame: pl.LazyFrame, column: str, row: int) -> Any:
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
                # Of an item the language must stand there; of an interaction or a user it may be unknown.
                if name == "language" and "event" not in schema:
                    raise origin.fault(
                        name, "the language is missing (null)", "write `und` where unknown", row
                    )
                continue
            try:
                canonical = normalise(tag)
            except LanguageError as error:
                raise origin.fault(
                    name, str(error).split(" Remedy: ")[0].rstrip("."), _TAG_REMEDY, row
                ) from error
            if canonical != tag:
                raise origin.fault(name, f"{tag!r} is not in canonical form", f"write {canonical!r}", row)


_TAG_REMEDY = "write a BCP 47 tag such as `en`, `pt-BR` or `zh-Hant`, or `und` where it is unknown"


def _validate_embeddings(frame: pl.LazyFrame, schema: pl.Schema, origin: Origin) -> None:
    for name in (name for name, dtype in schema.items() if dtype == EMBEDDING):
        lengths = frame.select(_ROW, pl.col(name).list.len().alias("length")).drop_nulls()
        first = lengths.head(1).collect(engine="streaming")
        if first.is_empty():
            raise origin.fault(name, "no row has an embedding", "leave the column out")
        length = int(first["length"][0])
        reference = f"where row {first[_ROW][0] + 1} has {length}"
        checks = [
            _Check(
                name,
                pl.col(name).list.len() != length,
                partial(_wrong_length, reference),
                "give all rows embeddings of one length, or null",
            ),
            _Check(
                name,
                pl.col(name).list.len() == 0,
                lambda _: "an embedding without numbers",
                "write null where there is no embedding",
            ),
            _Check(
                name,
                ~pl.col(name).list.eval(pl.element().is_finite().fill_null(False)).list.all(),
                lambda value: f"the embedding {_shorten(value)} holds a null, NaN or infinite number",
                "write null in place of the whole embedding",
            ),
        ]
        _run(frame, checks, origin)


def _wrong_length(reference: str, value: list[float]) -> str:
    return f"an embedding of {len(value)} numbers, {reference}"


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
        f"{value} is a duplicate of row {earlier + 1}",
        f"keep one row a {' and '.join(origin.column(name) for name in key)}",
        later,
    )
