"""ISO 8601 and its near relatives, as databases and languages write them."""

from typing import Final

import polars as pl

from trainer.data.faults import Origin

_OFFSET: Final = r"[+-](?:0\d|1[0-4])(?::?[0-5]\d)?"
_ZONE: Final = rf"(?:\s*(?P<z>[Zz]|UTC|GMT|{_OFFSET})(?:\s?UTC|\[[^\]]*\])?)?"
# The format of nearly all files: its parts are at fixed positions.
_USUAL: Final = rf"^\d{{4}}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:\s*(?:[Zz]|UTC|GMT|{_OFFSET}))?$"
_PARSED: Final = pl.Struct({"naive": pl.Datetime("us"), "offset": pl.Int64})
_NAMED: Final = r"[ZzTC]$"
_EXTENDED: Final = (
    r"^(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})"
    r"(?:(?:[Tt]|\s+)(?P<h>\d{1,2}):(?P<min>\d{2})(?::(?P<s>\d{2})(?:[.,]\d+)?)?)?" + _ZONE + "$"
)
_BASIC: Final = (
    r"^(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})[Tt](?P<h>\d{2})(?P<min>\d{2})(?:(?P<s>\d{2})(?:[.,]\d+)?)?" + _ZONE + "$"
)


def local_and_offset(frame: pl.LazyFrame, given: pl.Expr, origin: Origin) -> tuple[pl.Expr, pl.Expr | None]:
    """Local times without a zone, in whole seconds, and the offset to subtract for UTC.

    Args:
        frame: The table.
        given: The times as text.
        origin: Name of the table in error messages.

    Returns:
        A Datetime, null if the text is not a time; seconds east of UTC, null if the text has no offset (``Z`` is 0),
        or None if no text has one.
    """
    usual = given.str.contains(_USUAL)
    present, fitting, dates, named, signed = origin.aggregate(
        frame,
        present=given.count(),
        fitting=usual.sum(),
        dates=given.str.contains(r"^\d{4}-\d\d-\d\d$").sum(),
        named=given.str.contains(_NAMED).sum(),
        signed=given.str.contains(r":.*[+-]").sum(),
    )
    if fitting != present:
        if dates == present:
            return given.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us"), None
        parsed = given.map_batches(_groups, return_dtype=_PARSED, is_elementwise=True)
        return parsed.struct.field("naive"), parsed.struct.field("offset")
    digits = pl.concat_str(given.str.slice(0, 10), given.str.slice(11, 8))
    naive = digits.str.to_datetime("%Y-%m-%d%H:%M:%S", strict=False, time_unit="us")
    if not signed:
        return naive, pl.when(given.str.contains(_NAMED)).then(0) if named else None
    return naive, _seconds_east(given.str.slice(19).str.extract(rf"([Zz]|UTC|GMT|{_OFFSET})$"))


def _groups(texts: pl.Series) -> pl.Series:
    """Local time and seconds east of UTC of each text."""
    parts = texts.str.extract_groups(_EXTENDED).struct.unnest()
    if parts["y"].null_count() > texts.null_count():
        basic = texts.str.extract_groups(_BASIC).struct.unnest()
        parts = parts.select(pl.col(name).fill_null(basic[name]) for name in parts.columns)
    digits = pl.concat_str(
        pl.col("y"),
        pl.col("m").str.zfill(2),
        pl.col("d").str.zfill(2),
        pl.col("h").fill_null("00").str.zfill(2),
        pl.col("min").fill_null("00"),
        pl.col("s").fill_null("00"),
    )
    naive = digits.str.to_datetime("%Y%m%d%H%M%S", strict=False, time_unit="us")
    return parts.select(pl.struct(naive=naive, offset=_seconds_east(pl.col("z")))).to_series()


def _seconds_east(zone: pl.Expr) -> pl.Expr:
    """Seconds of ``Z``, ``UTC``, ``+09``, ``+0900`` and ``-03:30``; null for null."""
    digits = zone.str.replace(":", "", literal=True)
    hours = digits.str.slice(0, 3).cast(pl.Int64, strict=False)
    minutes = digits.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    sign = pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)
    return pl.when(zone.is_not_null()).then((hours * 3600 + sign * minutes * 60).fill_null(0))
