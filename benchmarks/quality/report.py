"""Rows of the quality benchmark, from stored measurements, and their tables."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.harness.store import Model, Store
from benchmarks.harness.table import Table
from benchmarks.quality.suites.suite import OURS, Suite
from trainer.errors import BabelrecError

Row = dict[str, Any]
"""``data``, ``protocol``, ``model``, ``metric``, ``mean``, ``sd``, ``seeds`` (measured), ``of`` (total)."""
_HOW = (
    "Mean ± standard deviation over the seeds; ranked against the whole catalogue. Best per column in bold. "
    "`(reference)`: with the settings of docs/evaluation.md's reference table."
)


def rows_of(suite: Suite, store: Store) -> list[Row]:
    """The rows of models with at least one measured seed."""
    found: list[Row] = []
    for model in suite.models:
        try:
            measured = [store.find(model, seed) for seed in model.seeds]
        except BabelrecError:
            # There are no figures for missing data or settings not yet searched.
            continue
        there = [metrics for metrics in measured if metrics is not None]
        if there:
            found += [_row(suite, model, metric, [each[metric] for each in there]) for metric in there[0]]
    return found


def page(suites: Sequence[Suite], rows: Sequence[Row]) -> list[Table | str]:
    """A table per suite that has rows, in the order of the suites."""
    return [_HOW, *(table for suite in suites if (table := _table(suite, rows)) is not None)]


def _row(suite: Suite, model: Model, metric: str, values: list[float]) -> Row:
    return {
        "data": suite.data,
        "protocol": suite.protocol,
        "model": model.name,
        "metric": metric,
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
        "seeds": len(values),
        "of": len(model.seeds),
    }


def _table(suite: Suite, rows: Sequence[Row]) -> Table | None:
    mine = [row for row in rows if (row["data"], row["protocol"]) == (suite.data, suite.protocol)]
    if not mine:
        return None
    metrics = list(dict.fromkeys(row["metric"] for row in mine))
    best = {metric: max(row["mean"] for row in mine if row["metric"] == metric) for metric in metrics}
    cells: dict[str, dict[str, Row]] = {}
    for row in mine:
        cells.setdefault(row["model"], {})[row["metric"]] = row
    lines = [
        [model, *(_figure(found.get(metric), best[metric]) for metric in metrics), _seeds(next(iter(found.values())))]
        for model, found in cells.items()
    ]
    colours = ["green" if model == OURS else "" for model in cells]
    return Table(f"{suite.title} ({suite.protocol})", ["model", *metrics, "seeds"], lines, colours)


def _figure(row: Row | None, best: float) -> str:
    if row is None:
        return ""
    text = f"{row['mean']:.4f}" + (f" ± {row['sd']:.4f}" if row["seeds"] > 1 else "")
    return f"**{text}**" if row["mean"] == best else text


def _seeds(row: Row) -> str:
    return str(row["seeds"]) if row["seeds"] == row["of"] else f"{row['seeds']} of {row['of']}"
