"""The quality benchmark's table as Markdown and on the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.quality_bars import Verdict
from benchmarks.quality_store import Row
from benchmarks.suites.suite import OURS, Suite


def markdown(suites: Sequence[Suite], rows: Sequence[Row], bars: Sequence[Verdict], plots: Sequence[str]) -> str:
    """The whole page.

    Args:
        suites: Sections in order; those without rows are left out.
        rows: Rows of all sections.
        bars: All bars.
        plots: File names of plots next to the page.
    """
    parts = [
        "# Quality compared with baselines",
        "Mean ± standard deviation over the seeds; ranked against the whole catalogue. Best per column in bold. "
        "`(reference)`: with the settings of docs/evaluation.md's reference table.",
    ]
    for suite in suites:
        metrics, models, cells = _cells(suite, rows)
        if models:
            best = {
                metric: max(row["mean"] for row in _of(suite, rows) if row["metric"] == metric) for metric in metrics
            }
            lines = [["model", *metrics, "seeds"]]
            for model in models:
                found = [cells.get((model, metric)) for metric in metrics]
                lines.append([model, *(_figure(row, best) for row in found), _seeds(next(row for row in found if row))])
            parts += [f"## {suite.title} ({suite.protocol})", _table(lines)]
    header = ["data", "figure", OURS, "bar", "from", ""]
    parts += ["## Bars", _table([header, *([*_verdict(bar)] for bar in bars)])]
    parts += [f"![{plot}]({plot})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def show(suites: Sequence[Suite], rows: Sequence[Row], bars: Sequence[Verdict], console: Console) -> None:
    """Prints a table per suite, then the bars."""
    for suite in suites:
        metrics, models, cells = _cells(suite, rows)
        if not models:
            continue
        table = Table(title=f"{suite.title} ({suite.protocol})", box=SIMPLE_HEAD, title_justify="left")
        table.add_column("model")
        for metric in metrics:
            table.add_column(metric, justify="right")
        for model in models:
            found = [cells.get((model, metric)) for metric in metrics]
            style = "bold green" if model == OURS else ""
            table.add_row(Text(model, style=style), *(Text(_plain(row), style=style) for row in found))
        console.print(table)
    table = Table(title="Bars", box=SIMPLE_HEAD, title_justify="left")
    for column in ("data", "figure", OURS, "bar", "from", ""):
        table.add_column(column)
    for bar in bars:
        style = {True: "green", False: "bold red", None: "dim"}[bar.met]
        table.add_row(*(Text(cell, style=style) for cell in _verdict(bar)))
    console.print(table)


def _of(suite: Suite, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if (row["data"], row["protocol"]) == (suite.data, suite.protocol)]


def _cells(suite: Suite, rows: Sequence[Row]) -> tuple[list[str], list[str], dict[tuple[str, str], Row]]:
    """Metrics and models in order of appearance, and the cells."""
    mine = _of(suite, rows)
    metrics = list(dict.fromkeys(row["metric"] for row in mine))
    models = list(dict.fromkeys(row["model"] for row in mine))
    return metrics, models, {(row["model"], row["metric"]): row for row in mine}


def _plain(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row['mean']:.4f}" + (f" ± {row['sd']:.4f}" if row["seeds"] > 1 else "")


def _seeds(row: Row) -> str:
    return str(row["seeds"]) if row["seeds"] == row["of"] else f"{row['seeds']} of {row['of']}"


def _figure(row: Row | None, best: dict[str, float]) -> str:
    text = _plain(row)
    return f"**{text}**" if row is not None and row["mean"] == best[row["metric"]] else text


def _verdict(bar: Verdict) -> list[str]:
    numbers = ["" if value is None else f"{value:.4f}" for value in (bar.value, bar.bar)]
    return [bar.data, bar.figure, *numbers, bar.because, {True: "met", False: "not met", None: "not measured"}[bar.met]]


def _table(lines: Sequence[Sequence[str]]) -> str:
    header, *body = lines
    ruled = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)
