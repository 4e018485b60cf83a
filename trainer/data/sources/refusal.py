"""Rejection of rows with invalid values: reports the first value and the number of rows."""

from collections.abc import Callable

import polars as pl

from trainer.data.faults import DatasetError, Origin
from trainer.errors import shortened

_SHOWN = 3


def refuse(
    frame: pl.LazyFrame,
    bad: pl.Expr,
    name: str,
    origin: Origin,
    problem: str | Callable[[object], str],
    remedy: str,
) -> None:
    """Raises if ``bad`` marks any rows.

    Args:
        frame: The table, in the file's order.
        bad: True for the invalid rows.
        name: The column in the dataset format.
        origin: Name of the table in error messages.
        problem: Text that follows the value of the first such row, or a function of the value.
        remedy: How to fix it.

    Raises:
        DatasetError: Gives the first row and its value, the number of such rows, and where the next ones are.
    """
    marked = frame.select(pl.col(name).alias("value"), bad.alias("bad")).with_row_index("row").filter("bad")
    count, rows, value = origin.aggregate(
        marked,
        count=pl.len(),
        rows=pl.col("row").bottom_k(_SHOWN + 1).sort().implode(),
        value=pl.col("value").sort_by("row").first(),
    )
    if count:
        raise _fault(name, origin, problem, remedy, count, rows, value)


def _fault(
    name: str,
    origin: Origin,
    problem: str | Callable[[object], str],
    remedy: str,
    count: int,
    rows: list[int],
    value: object,
) -> DatasetError:
    first, *others = sorted(rows)
    message = problem(value) if callable(problem) else f"{shortened(repr(value))} {problem}"
    if others:
        shown = ", ".join(origin.place(row).removeprefix("row ") for row in others[:_SHOWN])
        message += f"; likewise {count - 1:,} more row{'s' * (count > 2)} ({shown}"
        message += ", ...)" if count - 1 > _SHOWN else ")"
    return origin.fault(name, message, remedy, first)
