"""From the types that users' files have to those of the dataset format, naming the row that does not fit."""

import logging

import polars as pl

from trainer.data.faults import Origin, reading
from trainer.data.languages import LanguageError, normalise
from trainer.data.tables import EMBEDDING, MILLISECONDS_FROM, TEXTS

_LOG = logging.getLogger(__name__)
_ROW = "__row"
_ISO = (
    r"^\s*(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2})(?::(\d{2})(?:[.,]\d+)?)?)?\s*"
    r"(?:([Zz])|([+-]\d{2}):?(\d{2}))?\s*$"
)
_UNITS = (("milliseconds", 1_000), ("microseconds", 1_000_000), ("nanoseconds", 1_000_000_000))


def text(name: str) -> pl.Expr:
    """The column as text."""
    return pl.col(name).cast(pl.String)


def to_id(frame: pl.LazyFrame, name: str, origin: Origin) -> pl.LazyFrame:
    """Ids as text; integers are written in decimal.

    Raises:
        DatasetError: The column holds neither text nor integers.
    """
    dtype = frame.collect_schema()[name]
    if not (dtype == pl.String or dtype.is_integer() or dtype in (pl.Categorical, pl.Enum, pl.Null)):
        remedy = "write the ids as text or integers"
        if dtype.is_float():
            remedy += " (integers with gaps become decimals in some tools: fill the gaps or write text)"
        raise origin.fault(name, f"ids of type {dtype}", remedy)
    return frame.with_columns(text(name))


def to_number(frame: pl.LazyFrame, name: str, wanted: pl.DataType, origin: Origin) -> pl.LazyFrame:
    """Numbers of the wanted type, null where nothing stands; a missing column is added as null."""
    if name not in frame.collect_schema():
        return frame.with_columns(pl.lit(None, wanted).alias(name))
    given = pl.col(name)
    if frame.collect_schema()[name] == pl.String:
        given = given.str.strip_chars()
        given = pl.when(given != "").then(given)
    if frame.collect_schema()[name].is_nested():
        raise origin.fault(name, f"type {frame.collect_schema()[name]} where numbers are wanted", "write numbers")
    # By way of decimals, so that `3.0` counts as a whole number.
    number = given.cast(pl.Float64, strict=False)
    fits = number.is_not_null()
    if wanted.is_integer():
        fits = fits & (number == number.floor())
    _refuse(
        frame,
        given.is_not_null() & ~fits,
        name,
        origin,
        "is no number",
        f"write a number ({wanted}) or nothing",
    )
    return frame.with_columns(number.cast(wanted, strict=False).alias(name))


def to_seconds(frame: pl.LazyFrame, name: str, origin: Origin) -> pl.LazyFrame:
    """Times as unix seconds, from unix seconds, milli-, micro- or nanoseconds, ISO 8601 or a date type.

    The unit of numbers is told by their size and logged. A time without an offset counts as UTC.

    Raises:
        DatasetError: A row holds no time.
    """
    dtype = frame.collect_schema()[name]
    given = pl.col(name)
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return frame.with_columns(given.dt.epoch("s").alias(name))
    if not (dtype == pl.String or dtype.is_numeric()):
        raise origin.fault(name, f"times of type {dtype}", "write unix seconds or ISO 8601")
    if dtype == pl.String:
        given = given.str.strip_chars()
        given = pl.when(given != "").then(given)
    number = given.cast(pl.Float64, strict=False)
    with reading(origin.file):
        facts = frame.select(
            numbers=number.count(), given=given.count(), least=number.min(), greatest=number.max()
        ).collect(engine="streaming")
    numbers, present, least, greatest = facts.row(0)
    remedy = "write unix seconds, unix milliseconds or ISO 8601 such as 2026-11-23T18:30:00Z"
    if numbers * 2 < present:
        seconds = _iso_seconds(given)
        _refuse(frame, given.is_not_null() & seconds.is_null(), name, origin, "is no time", remedy)
        return frame.with_columns(seconds.alias(name))
    _refuse(frame, given.is_not_null() & number.is_null(), name, origin, "is no time", remedy)
    if numbers and least >= MILLISECONDS_FROM:
        # Each unit covers the years 1973 to 5138; a file that mixes units falls to the validation.
        for unit, factor in _UNITS:
            if greatest < MILLISECONDS_FROM * factor:
                _LOG.info("%s, column `%s`: read as unix %s", origin.file, origin.column(name), unit)
                whole = given.cast(pl.Int64, strict=False).fill_null(number.cast(pl.Int64, strict=False))
                return frame.with_columns((whole // factor).alias(name))
    return frame.with_columns(number.floor().cast(pl.Int64, strict=False).alias(name))


def _iso_seconds(given: pl.Expr) -> pl.Expr:
    part = [given.str.extract(_ISO, group) for group in range(1, 7)]
    date, clock, second, _, hours, minutes = part
    whole = pl.concat_str(
        date,
        pl.lit("T"),
        clock.fill_null("00:00"),
        pl.lit(":"),
        second.fill_null("00"),
        hours.fill_null("+00"),
        minutes.fill_null("00"),
    )
    return whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%z", strict=False).dt.epoch("s")


def to_list(frame: pl.LazyFrame, name: str, separator: str, origin: Origin) -> pl.LazyFrame:
    """Lists of text: split at the separator where the file has text; empty where it has nothing."""
    schema = frame.collect_schema()
    if name not in schema:
        return frame.with_columns(pl.lit([], TEXTS).alias(name))
    dtype = schema[name]
    if dtype == pl.String:
        entries = pl.col(name).str.split(separator)
    elif isinstance(dtype, pl.List) and dtype.inner is not None and not pl.List(dtype.inner).inner.is_nested():
        entries = pl.col(name).cast(TEXTS)
    elif dtype == pl.Null:
        entries = pl.lit(None, TEXTS)
    else:
        raise origin.fault(name, f"type {dtype} where a list of texts is wanted", "write a list of strings")
    entries = entries.list.eval(pl.element().str.strip_chars()).list.eval(pl.element().filter(pl.element() != ""))
    return frame.with_columns(entries.fill_null([]).alias(name))


def to_tag(frame: pl.LazyFrame, name: str, origin: Origin) -> pl.LazyFrame:
    """Language tags in canonical form; null where nothing stands."""
    given = text(name).str.strip_chars()
    given = pl.when(given != "").then(given)
    mapping = _canonical(frame.select(given.alias(name)).with_row_index(_ROW), name, origin)
    return frame.with_columns(given.replace_strict(mapping, default=None, return_dtype=pl.String).alias(name))


def to_tags(frame: pl.LazyFrame, name: str, origin: Origin) -> pl.LazyFrame:
    """Lists of language tags in canonical form."""
    mapping = _canonical(frame.select(name).with_row_index(_ROW).explode(name, empty_as_null=True), name, origin)
    entries = pl.col(name).list.eval(pl.element().replace_strict(mapping, default=None, return_dtype=pl.String))
    return frame.with_columns(entries.alias(name))


def to_natural(frame: pl.LazyFrame, name: str, separator: str, origin: Origin) -> pl.LazyFrame:
    """The type that a further column's content suggests.

    Text of which every entry is a number becomes a number, text of which every entry is a bracketed list of
    numbers becomes an embedding; lists and arrays of numbers become embeddings. All else stays as it is.
    """
    dtype = frame.collect_schema()[name]
    if isinstance(dtype, pl.Array):
        dtype = pl.List(dtype.inner)
        frame = frame.with_columns(pl.col(name).arr.to_list())
    if isinstance(dtype, pl.List) and dtype.inner is not None and pl.List(dtype.inner).inner.is_numeric():
        return frame.with_columns(pl.col(name).cast(EMBEDDING))
    if isinstance(dtype, (pl.Decimal,)):
        return frame.with_columns(pl.col(name).cast(pl.Float64))
    if dtype != pl.String:
        return frame
    given = pl.col(name).str.strip_chars()
    given = pl.when(given != "").then(given)
    inside = given.str.extract(r"^\[(.*)\]$").str.split(",").list.eval(pl.element().str.strip_chars())
    vector = inside.list.eval(pl.element().cast(pl.Float32, strict=False))
    is_vector = vector.list.eval(pl.element().is_not_null()).list.all().fill_null(False)
    with reading(origin.file):
        facts = frame.select(
            given=given.count(),
            numbers=given.cast(pl.Float64, strict=False).count(),
            vectors=is_vector.sum(),
        ).collect(engine="streaming")
    present, numbers, vectors = facts.row(0)
    if present and numbers == present:
        return frame.with_columns(given.cast(pl.Float64, strict=False).alias(name))
    if present and vectors == present:
        return frame.with_columns(vector.alias(name))
    return frame.with_columns(given.alias(name))


def _canonical(rows: pl.LazyFrame, name: str, origin: Origin) -> dict[str, str]:
    with reading(origin.file):
        tags = rows.group_by(name).agg(pl.col(_ROW).min()).sort(_ROW).collect(engine="streaming")
    mapping = {}
    for tag, row in tags.select(name, _ROW).iter_rows():
        if tag is not None:
            try:
                mapping[tag] = normalise(tag)
            except LanguageError as error:
                problem, _, remedy = str(error).partition(" Remedy: ")
                raise origin.fault(name, problem.rstrip("."), remedy.rstrip("."), row) from error
    return mapping


def _refuse(frame: pl.LazyFrame, bad: pl.Expr, name: str, origin: Origin, problem: str, remedy: str) -> None:
    with reading(origin.file):
        found = frame.select(pl.col(name), bad.alias("bad")).with_row_index(_ROW).filter("bad").head(1)
        first = found.collect(engine="streaming")
    if not first.is_empty():
        raise origin.fault(name, f"{first[name][0]!r} {problem}", remedy, int(first[_ROW][0]))
