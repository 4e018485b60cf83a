"""A comparison of runs for the terminal (rich), as Markdown, JSON and plots (PNG)."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report.compare_runs import ComparedRun, Comparison
from trainer.evaluation.report.tables import cell, escape, markdown_table, metric_label, rich_cell, rich_table
from trainer.files import atomic_file, write_text

_HEADLINE = ("recall@10", "recall@20", "ndcg@10", "mrr@10", "auc", "mrr", "ndcg@5", "accuracy@1")
_NOTE = (
    "Differences are paired user by user against the first run; an interval that excludes 0 is significant. "
    "They are missing if the runs were evaluated on other users or by an earlier version."
)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Prints metrics, differences to the first run, and settings that differ.

    Args:
        comparison: What to show.
        console: Output; None: standard output.
    """
    console = console or Console()
    first = comparison.runs[0]
    metrics = headline_metrics(comparison)
    title = f"{first.dataset} ({first.protocol}, {first.split})"
    table = _table(title, ["run", *map(metric_label, metrics), "epochs", "fit s"])
    for run in comparison.runs:
        table.add_row(Text(run.name), *(rich_cell(run.metrics.get(name)) for name in metrics), *_effort(run))
    console.print(table)
    paired = [run for run in comparison.runs if run.versus_first is not None]
    if paired:
        table = _table(f"Difference to {first.name}, paired by user", ["run", *map(metric_label, metrics)])
        for run in paired:
            table.add_row(Text(run.name), *(_difference(_versus(run, name)) for name in metrics))
        console.print(table)
    console.print(Text("± half the width of the 95 % bootstrap interval over users", style="dim"))
    if comparison.settings:
        table = _table("Settings that differ", ["setting", *(run.name for run in comparison.runs)])
        for key, values in comparison.settings.items():
            table.add_row(Text(key), *(Text(_value(value)) for value in values))
        console.print(table)


def comparison_markdown(comparison: Comparison, *, plots: Sequence[str] = ()) -> str:
    """The comparison as a Markdown page; ``plots`` are images next to it."""
    first = comparison.runs[0]
    metrics = headline_metrics(comparison)
    header = ["run", *map(metric_label, metrics), "epochs", "fit, s", "ranking, s"]
    rows = [
        [
            escape(run.name),
            *(cell(run.metrics.get(name)) for name in metrics),
            *_effort(run),
            f"{run.evaluate_seconds:.1f}",
        ]
        for run in comparison.runs
    ]
    parts = [
        f"# {len(comparison.runs)} runs on {escape(first.dataset)}",
        f"Protocol {first.protocol}, {first.split} split. Brackets contain 95 % bootstrap intervals over users.",
        markdown_table(header, rows),
    ]
    paired = [run for run in comparison.runs if run.versus_first is not None]
    if paired:
        differences = [[escape(run.name), *(cell(_versus(run, name), sign=True) for name in metrics)] for run in paired]
        parts += [f"## Difference to {escape(first.name)}", _NOTE]
        parts += [markdown_table(["run", *map(metric_label, metrics)], differences)]
    if comparison.settings:
        header = ["setting", *(escape(run.name) for run in comparison.runs)]
        settings = [[f"`{key}`", *(escape(_value(v)) for v in values)] for key, values in comparison.settings.items()]
        parts += ["## Settings that differ", markdown_table(header, settings)]
    if plots:
        parts += ["## Plots", "\n\n".join(f"![{plot}]({plot})" for plot in plots)]
    return "\n\n".join(parts) + "\n"


def write_comparison(comparison: Comparison, directory: Path) -> list[Path]:
    """Writes ``compare.json``, ``compare.md`` and plots, each atomically; returns the files."""
    # Importing matplotlib takes as long as the rest of a comparison.
    from trainer.evaluation.report.compare_plots import draw

    drawn = {directory / name: picture for name, picture in draw(comparison, headline_metrics(comparison)).items()}
    pictures = {path: picture for path, picture in drawn.items() if picture is not None}
    for path in drawn:
        if path in pictures:
            with atomic_file(path) as temporary:
                temporary.write_bytes(pictures[path])
        else:
            path.unlink(missing_ok=True)
    page, data = directory / "compare.md", directory / "compare.json"
    write_text(page, comparison_markdown(comparison, plots=[path.name for path in pictures]))
    write_text(data, comparison.to_json())
    return [data, page, *pictures]


def headline_metrics(comparison: Comparison) -> list[str]:
    """The metrics to show: the usual ones that a run has, or all."""
    known = {name for run in comparison.runs for name in run.metrics}
    return [name for name in _HEADLINE if name in known] or sorted(known)


def _versus(run: ComparedRun, name: str) -> Metric | None:
    return None if run.versus_first is None else run.versus_first.metrics.get(name)


def _effort(run: ComparedRun) -> list[str]:
    return ["" if run.epochs is None else str(run.epochs), "" if run.fit_seconds is None else f"{run.fit_seconds:.0f}"]


def _value(value: object) -> str:
    return "-" if value is None else str(value)


def _table(title: str, header: Sequence[str]) -> Table:
    table = rich_table(title)
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    return table


def _difference(metric: Metric | None) -> Text:
    """Bold where the interval excludes 0."""
    sure = metric is not None and metric.ci95 is not None and not metric.ci95[0] <= 0.0 <= metric.ci95[1]
    return rich_cell(metric, "bold" if sure else "", sign=True)
