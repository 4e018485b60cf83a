"""Numbers in a user's columns: decimal signs, spellings of missing values, and columns of other types."""

import logging
from typing import Final

import polars as pl

from trainer.data.faults import Origin
from trainer.data.settings import TableFormat
from trainer.data.sources.refusal import refuse
from trainer.data.tables import EMBEDDING

# How tools and people write a missing number.
_NOTHING: Final = ["", "-", "--", "–", "—", "n/a", "na", "#n/a", "<na>", "null", "none", "nan", "nil", "\\n", "?"]
_TRUE: Final = ["true", "t", "yes", "y"]
_FALSE: Final = ["false", "f", "no", "n"]
# A column with at least this share of numbers is meant to be numeric.
_MEANT: Final = 0.9
DECIMAL_COMMA: Final = "read with a decimal comma"
_CURRENCY: Final = r"(?:\p{Sc}|[A-Z]{3}|%)"
# Thousands in one convention, three decimals in another.
_THOUSANDS: Final = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"
_GROUPS: Final = {",": r"[.' ’\x{a0}\x{202f}]", ".": r"[,' ’\x{a0}\x{202f}]"}
_CODE: Final = r"^[+-]?0\d+$"


def to_number(
    frame: pl.LazyFrame, name: str, wanted: pl.DataType, origin: Origin, form: TableFormat, delimiter: str | None
) -> pl.LazyFrame:
    """Numbers of the wanted type, null if a field is empty; a missing column is added as null.

    Raises:
        DatasetError: A row contains something else.
    """
    schema = frame.collect_schema()
    if name not in schema:
        return frame.with_columns(pl.lit(None, wanted).alias(name))
    dtype = schema[name]
    if dtype.is_nested() or dtype.is_temporal() or dtype == pl.Binary:
        raise origin.fault(name, f"type {dtype} instead of numbers", "write numbers")
    if dtype == pl.String:
        present, number = _numbers(frame, name, origin, form, delimiter)
    else:
        present = pl.col(name)
        # Via decimals, so that `3.0` counts as a whole number.
        number = present.cast(pl.Float64, strict=False)
    fits = number.is_not_null()
    if wanted.is_integer():
        fits = fits & (number == number.floor()) & (number.abs() < 2**31)
    kind = "whole number" if wanted.is_integer() else "number"
    refuse(frame, present.is_not_null() & ~fits, name, origin, f"is not a {kind}", _remedy(form))
    return frame.with_columns(number.cast(wanted, strict=False).alias(name))


def _remedy(form: TableFormat) -> str:
    remedy = "write a number or nothing, or list the spelling of a missing value in `null_values`"
    return remedy if form.decimal else f"{remedy}; `decimal: ','` or `decimal: '.'` reads 1.299,00 € or $1,299.00"


def to_natural(
    frame: pl.LazyFrame, name: str, origin: Origin, form: TableFormat, delimiter: str | None
) -> pl.LazyFrame:
    """Infers the type of an additional column from its content.

    Text becomes numbers, embeddings (bracketed lists of numbers) or Booleans if every entry fits; lists and
    arrays of numbers become embeddings. Everything else is kept unchanged, and noted.

    Raises:
        DatasetError: Nearly all rows contain numbers but some something else; or the type is unsupported.
    """
    dtype = frame.collect_schema()[name]
    if isinstance(dtype, pl.Array):
        dtype = pl.List(dtype.inner)
        frame = frame.with_columns(pl.col(name).arr.to_list())
    if isinstance(dtype, pl.List) and dtype.inner is not None and pl.List(dtype.inner).inner.is_numeric():
        return frame.with_columns(pl.col(name).cast(EMBEDDING))
    if isinstance(dtype, pl.Decimal) or dtype == pl.Int128:
        return frame.with_columns(pl.col(name).cast(pl.Float64))
    if dtype in (pl.Categorical, pl.Enum):
        return frame.with_columns(pl.col(name).cast(pl.String))
    if dtype.is_temporal():
        origin.note(name, f"type {dtype}: kept as text, the model does not use it", logging.WARNING)
        return frame.with_columns(pl.col(name).cast(pl.String))
    if dtype != pl.String:
        return frame
    return _from_text(frame, name, origin, form, delimiter)


def _from_text(
    frame: pl.LazyFrame, name: str, origin: Origin, form: TableFormat, delimiter: str | None
) -> pl.LazyFrame:
    stripped = pl.col(name).str.strip_chars()
    given = pl.when(stripped != "").then(stripped)
    lowered = given.str.to_lowercase()
    inside = given.str.extract(r"(?s)^\[(.*)\]$").str.split(",").list.eval(pl.element().str.strip_chars())
    vector = inside.list.eval(pl.element().cast(pl.Float32, strict=False))
    is_vector = vector.list.eval(pl.element().is_not_null()).list.all().fill_null(False)
    present, codes, truths, vectors = origin.aggregate(
        frame,
        present=_something(given).count(),
        codes=given.str.contains(_CODE).sum(),
        truths=lowered.is_in(_TRUE + _FALSE).sum(),
        vectors=is_vector.sum(),
    )
    if present and vectors == present:
        return frame.with_columns(pl.when(given.str.starts_with("[")).then(vector).alias(name))
    if present and truths == present:
        origin.note(name, "read as true or false, which the model does not use")
        truth = pl.when(lowered.is_in(_TRUE)).then(True).when(lowered.is_in(_FALSE)).then(False)
        return frame.with_columns(truth.alias(name))
    if vectors >= _MEANT * present > 0:
        refuse(
            frame,
            _something(given).is_not_null() & ~is_vector,
            name,
            origin,
            f"is not a list of numbers ({vectors:,} of {present:,} values are)",
            "write null in place of the whole embedding, or remove the column from `data.source.columns`",
        )
    something, number = _numbers(frame, name, origin, form, delimiter, quiet=True)
    decimal = _localised(given, ",").is_not_null() | _localised(given, ".").is_not_null()
    numbers, likely = origin.aggregate(frame, numbers=number.count(), likely=decimal.sum())
    if codes and numbers:
        origin.note(
            name,
            f"{codes:,} values begin with a zero, as codes do: kept as text, the model does not use it",
            logging.WARNING,
        )
    elif present and numbers == present:
        # Called again for its notes.
        _, number = _numbers(frame, name, origin, form, delimiter)
        return frame.with_columns(number.alias(name))
    elif max(likely, numbers) >= _MEANT * present > 0:
        refuse(
            frame,
            something.is_not_null() & number.is_null(),
            name,
            origin,
            f"is not a number ({numbers:,} of {present:,} values are)",
            f"{_remedy(form)}; or remove the column from `data.source.columns`",
        )
    elif numbers:
        _note_mixed(frame, name, origin, something, number, numbers, present)
    elif present:
        origin.note(name, "kept as text, the model does not use it")
    else:
        origin.note(name, "no row has a value", logging.WARNING)
    return frame.with_columns(given.alias(name))


def _note_mixed(
    frame: pl.LazyFrame, name: str, origin: Origin, something: pl.Expr, number: pl.Expr, numbers: int, present: int
) -> None:
    rows = frame.select(something.alias("value"), number.alias("number")).with_row_index("row")
    first = origin.collect(rows.filter(pl.col("value").is_not_null() & pl.col("number").is_null()).head(1))
    origin.note(
        name,
        f"{origin.place(first['row'][0])}: {first['value'][0]!r} is not a number ({numbers:,} of {present:,} values "
        "are): kept as text, the model does not use it",
        logging.WARNING,
    )


def _something(given: pl.Expr) -> pl.Expr:
    return pl.when(~given.str.to_lowercase().is_in(_NOTHING)).then(given)


def _numbers(
    frame: pl.LazyFrame,
    name: str,
    origin: Origin,
    form: TableFormat,
    delimiter: str | None,
    *,
    quiet: bool = False,
) -> tuple[pl.Expr, pl.Expr]:
    """The values of a text column, without spellings of missing values, and the numbers in it."""
    given = pl.col(name).str.strip_chars()
    if form.decimal is not None:
        something = _something(given)
        return something, _localised(something, form.decimal)
    plain = given.cast(pl.Float64, strict=False)
    plain = pl.when(plain.is_not_nan()).then(plain)
    present, numbers = origin.aggregate(frame, present=(given != "").sum(), numbers=plain.count())
    if present == numbers:
        if not quiet:
            _doubt_thousands(frame, name, origin, given, delimiter)
        return pl.when(given != "").then(given), plain
    something = _something(given)
    comma = _localised(something, ",")
    nothing = given.str.to_lowercase().is_in(_NOTHING) & (given != "")
    present, commas, missing, first, row = origin.aggregate(
        frame,
        present=something.count(),
        commas=comma.count(),
        missing=nothing.sum(),
        first=given.filter(nothing).first(),
        row=pl.arg_where(nothing).first(),
    )
    if missing and present and not quiet:
        origin.note(name, f"{first!r} in {origin.place(row)} is read as missing ({missing:,} in all)")
    if numbers < present and commas == present and delimiter == ";":
        if not quiet:
            origin.note(name, DECIMAL_COMMA)
        return something, comma
    return something, plain


def _doubt_thousands(frame: pl.LazyFrame, name: str, origin: Origin, given: pl.Expr, delimiter: str | None) -> None:
    """Refuses `1.299` if `;` is the delimiter, as in decimal-comma countries, and warns otherwise."""
    thousands = given.str.contains(_THOUSANDS)
    dotted, count, first = origin.aggregate(
        frame, dotted=given.str.contains(r"[.eE]").sum(), count=thousands.sum(), first=given.filter(thousands).first()
    )
    if not count or dotted != count:
        return
    if delimiter == ";":
        refuse(
            frame,
            thousands,
            name,
            origin,
            "is one thousand and more, or has three decimals; no value shows which",
            "set `decimal: ','` or `decimal: '.'` in `data.source`",
        )
    if count > 1:
        origin.note(
            name,
            f"all {count:,} values with a point have three digits after it, such as {first!r}: read as decimals; set "
            "`decimal: ','` if the point separates thousands",
            logging.WARNING,
        )


def _localised(given: pl.Expr, decimal: str) -> pl.Expr:
    """Numbers with this decimal sign, thousands in groups, and a currency before or after them; else null."""
    group = _GROUPS[decimal]
    sign = rf"\{decimal}"
    number = rf"[+-]?(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)(?:{sign}\d*)?|[+-]?{sign}\d+"
    inner = given.str.extract(rf"^(?:{_CURRENCY}\s*)?({number})(?:\s*{_CURRENCY})?$")
    exponent = given.str.extract(rf"^([+-]?\d+(?:{sign}\d+)?[eE][+-]?\d+)$")
    digits = inner.str.replace_all(group, "").fill_null(exponent)
    return digits.str.replace(decimal, ".", literal=True).cast(pl.Float64, strict=False)
