"""Times in a user's column as unix seconds: their unit or format is inferred from the majority."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import polars as pl

from trainer.data.faults import DatasetError, Origin
from trainer.data.settings import TableFormat
from trainer.data.sources.iso_times import local_and_offset
from trainer.data.sources.refusal import refuse
from trainer.errors import first_line

_LOG = logging.getLogger(__name__)
_FIRST_YEAR: Final = 1990
_DAY: Final = 86_400
_EXCEL_EPOCH_DAYS: Final = 25_569  # from 1899-12-30 to 1970-01-01
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_NAMES: Final = {
    "s": "unix seconds",
    "ms": "unix milliseconds",
    "us": "unix microseconds",
    "ns": "unix nanoseconds",
    "days": "days since 1970",
    "excel_days": "Excel's day numbers",
    "years": "years",
}
# Numbers made of the digits of a date: length -> format.
_DIGITS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_REMEDY: Final = (
    "write unix seconds or ISO 8601 such as 2026-11-23T18:30:00Z, or set `time_format` (such as `%d.%m.%Y %H:%M`) or "
    "`time_unit` in `data.source`"
)


@dataclass(frozen=True, slots=True)
class _Times:
    """How a column becomes seconds.

    Attributes:
        given: The values of the column, null if a field is empty.
        seconds: Its unix seconds, null if it does not fit.
        form: The unit or format, for display.
        problem: Message about a value that does not fit.
        remedy: How to fix it.
    """

    given: pl.Expr
    seconds: pl.Expr
    form: str
    problem: str = "is not a time"
    remedy: str = _REMEDY


def to_seconds(
    frame: pl.LazyFrame, name: str, origin: Origin, form: TableFormat, facts: dict[str, Any]
) -> pl.LazyFrame:
    """Times as unix seconds, from numbers, text or a date type.

    Numbers are unix seconds, milli-, micro- or nanoseconds, or the digits of a date, whichever fits most of them; text
    is ISO 8601. `time_unit` and `time_format` override this. Times without an offset are in `time_zone`, else UTC.

    Args:
        frame: The table.
        name: The column.
        origin: Name of the table in error messages.
        form: The settings.
        facts: Receives the recognised format, and the first and last time.

    Raises:
        DatasetError: Rows have no time, or one before 1990 or after the end of next year.
    """
    dtype = frame.collect_schema()[name]
    zone = form.time_zone or "UTC"
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        times = _of_dates(frame, name, origin, dtype, zone)
    elif form.time_format is not None:
        times = _by_format(frame, name, origin, dtype, form.time_format, zone)
    elif dtype == pl.String or dtype.is_numeric():
        given = pl.col(name)
        if dtype == pl.String:
            stripped = given.str.strip_chars()
            given = pl.when(stripped != "").then(stripped)
        times = _guess(frame, name, origin, given, form, zone)
    else:
        raise origin.fault(name, f"times of type {dtype}", "write unix seconds or ISO 8601")
    first, last = _check(frame, name, origin, times)
    facts |= {"times": times.form, "time_zone": zone}
    if first is not None and last is not None:
        facts |= {"first_time": _iso(first), "last_time": _iso(last)}
        line = f"{times.form}, from {_iso(first)} to {_iso(last)}"
        _LOG.info("%s, column `%s`: read as %s", origin.file, origin.column(name), line)
    return frame.with_columns(times.seconds.alias(name))


def _check(frame: pl.LazyFrame, name: str, origin: Origin, times: _Times) -> tuple[int | None, int | None]:
    """The first and the last time, after one pass that checks for implausible times."""
    low, high = bounds()
    broken = times.given.is_not_null() & times.seconds.is_null()
    # Two steps, so that the seconds are computed once.
    columns = frame.select(given=times.given.is_not_null(), seconds=times.seconds)
    count, first, last = origin.aggregate(
        columns,
        count=(pl.col("given") & pl.col("seconds").is_null()).sum(),
        first=pl.col("seconds").min(),
        last=pl.col("seconds").max(),
    )
    if count:
        refuse(frame, broken, name, origin, times.problem, times.remedy)
    if first is not None and (first < low or last >= high):
        _refuse_outside(frame, name, origin, times)
    return first, last


def bounds() -> tuple[int, int]:
    """The first second of a plausible time, and the first after the last: 1990 to the end of next year."""
    year = datetime.now(UTC).year
    return _seconds_of(date(_FIRST_YEAR, 1, 1)), _seconds_of(date(year + 2, 1, 1))


def _seconds_of(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _iso(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    except (ValueError, OverflowError, OSError):
        return "beyond the years 1 to 9999"


def _of_dates(frame: pl.LazyFrame, name: str, origin: Origin, dtype: pl.DataType, zone: str) -> _Times:
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return _Times(pl.col(name), pl.col(name).dt.epoch("s"), f"type Datetime, {dtype.time_zone}")
    naive = pl.col(name).cast(pl.Datetime("us"))
    return _Times(pl.col(name), _localised(frame, name, origin, naive, zone), f"type {dtype.base_type()}")


def _localised(frame: pl.LazyFrame, name: str, origin: Origin, naive: pl.Expr, zone: str) -> pl.Expr:
    """Seconds of local times; a repeated hour counts as the first, a skipped one is refused."""
    if zone == "UTC":
        return naive.dt.epoch("s")
    early = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    late = naive.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
    refuse(
        frame,
        naive.is_not_null() & early.is_null(),
        name,
        origin,
        f"does not exist in {zone}, where clocks go forward",
        "check `time_zone` in `data.source`, or write the offset",
    )
    (twice,) = origin.aggregate(frame, twice=(early != late).sum())
    if twice:
        origin.note(
            name, f"{twice:,} of the times are in an hour that {zone} repeats: read as the first", logging.WARNING
        )
    return early.dt.epoch("s")


def _by_format(frame: pl.LazyFrame, name: str, origin: Origin, dtype: pl.DataType, pattern: str, zone: str) -> _Times:
    given = pl.col(name)
    if dtype.is_float():
        given = given.cast(pl.Int64, strict=False)
    stripped = given.cast(pl.String).str.strip_chars()
    given = pl.when(stripped != "").then(stripped)
    parsed = given.str.to_datetime(pattern, strict=False, time_unit="us")
    try:
        parsed_type = frame.select(parsed.alias(name)).head(1).collect().schema[name]
    except pl.exceptions.PolarsError as error:
        raise DatasetError(
            f"`data.source.time_format` {pattern!r} can't be used: {first_line(error)}. Remedy: write directives of "
            "strftime, with a day and, where there is an hour, its minutes."
        ) from error
    aware = isinstance(parsed_type, pl.Datetime) and parsed_type.time_zone is not None
    seconds = parsed.dt.epoch("s") if aware else _localised(frame, name, origin, parsed, zone)
    remedy = "correct the row, or `time_format` in `data.source`"
    return _Times(given, seconds, pattern, f"does not match {pattern}", remedy)


def _guess(frame: pl.LazyFrame, name: str, origin: Origin, given: pl.Expr, form: TableFormat, zone: str) -> _Times:
    unit: str | None = form.time_unit
    plain, text = given, pl.lit(None, pl.String)
    if frame.collect_schema()[name] == pl.String:
        text = given
    if form.decimal == "," and frame.collect_schema()[name] == pl.String:
        plain = given.str.replace(",", ".", literal=True)
    number = plain.cast(pl.Float64, strict=False)
    ranges = _ranges()
    present, numbers, least, greatest, rounded = origin.aggregate(
        frame,
        present=given.count(),
        numbers=number.count(),
        least=number.min(),
        greatest=number.max(),
        rounded=(text.str.contains(r"^\d(?:\.\d+)?[eE]\+\d+$") & number.is_not_null()).sum(),
    )
    if rounded:
        origin.note(
            name,
            f"{rounded:,} times are in scientific notation, as written by spreadsheets: digits may be lost",
            logging.WARNING,
        )
    if unit is None and numbers * 2 < present:
        return _Times(given, _iso_seconds(frame, name, origin, given, zone), "ISO 8601")
    if unit is None and numbers:
        inside = (known for known, (low, high) in ranges.items() if low <= least and greatest < high)
        unit = next(inside, None) or _most_frequent(frame, origin, number, ranges)
        if unit in ("", "days", "excel_days", "years"):
            raise _implausible(frame, name, origin, number, unit)
    unit = unit or "s"
    # Whole numbers directly: nanoseconds have more digits than a float.
    whole = given.cast(pl.Int64, strict=False)
    (exact,) = origin.aggregate(frame, exact=whole.count())
    if exact < numbers:
        whole = whole.fill_null(number.floor().cast(pl.Int64, strict=False))
    if unit in _PER_SECOND:
        return _Times(given, whole // _PER_SECOND[unit], _NAMES[unit])
    if unit in ("days", "excel_days"):
        days = number - (_EXCEL_EPOCH_DAYS if unit == "excel_days" else 0)
        # Fractions of a day are not exact: rounded to the nearest millisecond first, so that 18:30 is not 18:29:59.
        naive = (days * _DAY * 1_000).round().cast(pl.Int64, strict=False).cast(pl.Datetime("ms"))
        return _Times(given, _localised(frame, name, origin, naive, zone), _NAMES[unit])
    parsed = whole.cast(pl.String).str.to_datetime(unit, strict=False, time_unit="us")
    problem = f"is not a date of the form {unit}, unlike the others"
    return _Times(given, _localised(frame, name, origin, parsed, zone), f"digits {unit}", problem)


def _ranges() -> dict[str, tuple[int, int]]:
    """Ranges of plausible times: unit or format -> lower bound (inclusive) and upper bound (exclusive)."""
    low, high = bounds()
    years = (_FIRST_YEAR, datetime.now(UTC).year + 2)
    ranges = {unit: (low * factor, high * factor) for unit, factor in _PER_SECOND.items()}
    for length, pattern in _DIGITS.items():
        ranges[pattern] = (years[0] * 10 ** (length - 4), years[1] * 10 ** (length - 4))
    ranges["days"] = (low // _DAY, high // _DAY)
    ranges["excel_days"] = (low // _DAY + _EXCEL_EPOCH_DAYS, high // _DAY + _EXCEL_EPOCH_DAYS)
    ranges["years"] = years
    return ranges


def _most_frequent(frame: pl.LazyFrame, origin: Origin, number: pl.Expr, ranges: Mapping[str, tuple[int, int]]) -> str:
    """The unit in which most numbers are plausible times; empty if none is in any."""
    counts = origin.collect(
        frame.select(((number >= low) & (number < high)).sum().alias(unit) for unit, (low, high) in ranges.items())
    ).row(0, named=True)
    best = max(ranges, key=lambda unit: int(counts[unit]))
    return best if counts[best] else ""


def _implausible(frame: pl.LazyFrame, name: str, origin: Origin, number: pl.Expr, unit: str) -> DatasetError:
    rows = frame.select(pl.col(name).alias("value"), number.alias("number")).with_row_index("row")
    first = origin.collect(rows.filter(pl.col("number").is_not_null()).head(1))
    value, row = first["number"][0], int(first["row"][0])
    shown = f"{first['value'][0]!r}"
    if unit == "years":
        return origin.fault(name, f"{shown} is a year, not a time", "write a date such as 2026-11-23", row)
    if unit:
        days = value - (_EXCEL_EPOCH_DAYS if unit == "excel_days" else 0)
        return origin.fault(
            name,
            f"{shown} is not a unix time since {_FIRST_YEAR}; among {_NAMES[unit]} it is {_iso(days * _DAY)[:10]}",
            f"set `time_unit: {unit}` in `data.source` if that is right, or {_REMEDY.partition(',')[0]}",
            row,
        )
    return origin.fault(
        name, f"{shown} is {_iso(value)} as unix seconds; no value is a time from {_span()} in any unit", _REMEDY, row
    )


def _span() -> str:
    low, high = bounds()
    return f"{_iso(low)[:10]} to {_iso(high - 1)[:10]}"


def _refuse_outside(frame: pl.LazyFrame, name: str, origin: Origin, times: _Times) -> None:
    low, high = bounds()
    outside = times.seconds.is_not_null() & ~times.seconds.is_between(low, high, closed="left")

    def problem(value: object) -> str:
        seconds = pl.col("seconds")
        first = origin.collect(
            frame.select(seconds=times.seconds).filter(~seconds.is_between(low, high, closed="left")).head(1)
        )
        return f"{value!r} is {_iso(first['seconds'][0])} (read as {times.form}), outside {_span()}"

    remedy = "correct or remove such rows; if the unit differs, set `time_unit` in `data.source`"
    refuse(frame, outside, name, origin, problem, remedy)


def _iso_seconds(frame: pl.LazyFrame, name: str, origin: Origin, given: pl.Expr, zone: str) -> pl.Expr:
    naive, offset = local_and_offset(frame, given, origin)
    if offset is None:
        return _localised(frame, name, origin, naive, zone)
    if zone == "UTC":
        return naive.dt.epoch("s") - offset.fill_null(0)
    local = _localised(frame, name, origin, pl.when(offset.is_null()).then(naive), zone)
    return pl.when(offset.is_not_null()).then(naive.dt.epoch("s") - offset).otherwise(local)
