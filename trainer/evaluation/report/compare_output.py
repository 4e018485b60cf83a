"""A comparison of runs for the terminal (rich), readers (Markdown), programs (JSON) and eyes (PNG)."""

import functools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report.compare_runs import ComparedRun, Comparison
from trainer.evaluation.report.fonts import printable
from trainer.evaluation.report.style import COLOURS, MARKERS, MODEL_COLOUR, caption, new_figure, png
from trainer.evaluation.report.tables import escape, markdown_table, metric_label
from trainer.files import atomic_file, write_text

_HEADLINE = ("recall@10", "recall@20", "ndcg@10", "mrr@10", "auc", "mrr", "ndcg@5", "accuracy@1")
_NOTE = (
    "Differences are paired user by user against the first run; an interval that leaves out 0 is one to rely on. "
    "Where they are missing, the runs were asked by other users, or evaluated by an earlier version."
)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Prints metrics, differences to the first run, and settings that differ.

    Args:
        comparison: What to show.
        console: Where to; None is standard output.
    """
    console = console or Console()
    first = comparison.runs[0]
    metrics = _metrics(comparison)
    title = f"{first.dataset} ({first.protocol}, {first.split})"
    table = _table(title, ["run", *map(metric_label, metrics), "epochs", "fit s"])
    for run in comparison.runs:
        table.add_row(Text(run.name), *(_rich(run.metrics.get(name)) for name in metrics), *_effort(run))
    console.print(table)
    paired = [run for run in comparison.runs if run.versus_first is not None]
    if paired:
        table = _table(f"Difference to {first.name}, paired by user", ["run", *map(metric_label, metrics)])
        for run in paired:
            table.add_row(Text(run.name), *(_rich(_versus(run, name), sign=True) for name in metrics))
        console.print(table)
    console.print(Text("± half the width of the 95 % bootstrap interval over users", style="dim"))
    if comparison.settings:
        table = _table("Settings that differ", ["setting", *(run.name for run in comparison.runs)])
        for key, values in comparison.settings.items():
            table.add_row(Text(key), *(Text(_value(value)) for value in values))
        console.print(table)


def comparison_markdown(comparison: Comparison, *, plots: Sequence[str] = ()) -> str:
    """The comparison as a Markdown page; ``plots`` are images beside it."""
    first = comparison.runs[0]
    metrics = _metrics(comparison)
    header = ["run", *map(metric_label, metrics), "epochs", "fit, s", "ranking, s"]
    rows = [
        [
            escape(run.name),
            *(_cell(run.metrics.get(name)) for name in metrics),
            *_effort(run),
            f"{run.evaluate_seconds:.1f}",
        ]
        for run in comparison.runs
    ]
    parts = [
        f"# {len(comparison.runs)} runs on {escape(first.dataset)}",
        f"Protocol {first.protocol}, {first.split} split. Brackets hold 95 % bootstrap intervals over users.",
        markdown_table(header, rows),
    ]
    paired = [run for run in comparison.runs if run.versus_first is not None]
    if paired:
        differences = [
            [escape(run.name), *(_cell(_versus(run, name), sign=True) for name in metrics)] for run in paired
        ]
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
    drawn = {
        directory / "compare-metrics.png": png(functools.partial(_metrics_figure, comparison)),
        directory / "compare-validation.png": png(functools.partial(_curves_figure, comparison)),
    }
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


def _metrics_figure(comparison: Comparison) -> Figure:
    metrics = _metrics(comparison)[:4]
    runs = comparison.runs[::-1]
    figure, panels = new_figure(2.6 * len(metrics) + 2.0, 0.42 * len(runs) + 1.7, columns=len(metrics))
    for axes, name in zip(panels, metrics, strict=True):
        for place, run in enumerate(runs):
            metric = run.metrics.get(name)
            if metric is None:
                continue
            low, high = metric.ci95 or (metric.value, metric.value)
            colour = MODEL_COLOUR if place == len(runs) - 1 else "#444444"
            # A bootstrap interval of very few users may leave out the mean itself.
            arms = [[max(metric.value - low, 0.0)], [max(high - metric.value, 0.0)]]
            axes.errorbar(metric.value, place, xerr=arms, fmt="o", color=colour, capsize=3)
        axes.set_title(metric_label(name), fontsize=10, fontweight="normal")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    panels[0].set_yticks(range(len(runs)), [printable(run.name) for run in runs])
    panels[0].set_ylim(-0.6, len(runs) - 0.4)
    first = comparison.runs[0]
    figure.suptitle(printable(f"{first.dataset}, {first.protocol}"), x=0.01, ha="left", fontweight="bold")
    caption(
        figure,
        "Lines: 95 % bootstrap intervals over users, of each run alone: as a rule wider than paired ones.",
    )
    return figure


def _curves_figure(comparison: Comparison) -> Figure | None:
    drawn = [(run, run.curve) for run in comparison.runs if run.curve is not None and run.curve.values]
    if not drawn:
        return None
    metrics = list(dict.fromkeys(curve.metric for _, curve in drawn))
    figure, (axes,) = new_figure(7.4, 4.4)
    colours = (MODEL_COLOUR, *COLOURS)
    for number, (run, curve) in enumerate(drawn):
        epochs, values = zip(*curve.values, strict=True)
        axes.plot(
            epochs,
            values,
            color=colours[number % len(colours)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linestyle=("-", "--", ":")[number // len(colours) % 3],
            label=printable(run.name),
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Epoch")
    axes.set_ylabel(f"Validation {' / '.join(map(metric_label, metrics))}, retrieval alone")
    axes.set_title(printable(f"Training on {comparison.runs[0].dataset}"), pad=14)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _metrics(comparison: Comparison) -> list[str]:
    known = {name for run in comparison.runs for name in run.metrics}
    return [name for name in _HEADLINE if name in known] or sorted(known)


def _versus(run: ComparedRun, name: str) -> Metric | None:
    return None if run.versus_first is None else run.versus_first.metrics.get(name)


def _effort(run: ComparedRun) -> list[str]:
    return ["" if run.epochs is None else str(run.epochs), "" if run.fit_seconds is None else f"{run.fit_seconds:.0f}"]


def _value(value: object) -> str:
    return "-" if value is None else str(value)


def _cell(metric: Metric | None, *, sign: bool = False) -> str:
    if metric is None:
        return ""
    form = "+.4f" if sign else ".4f"
    interval = "" if metric.ci95 is None else f" [{metric.ci95[0]:{form}}, {metric.ci95[1]:{form}}]"
    return f"{metric.value:{form}}{interval}"


def _table(title: str, header: Sequence[str]) -> Table:
    table = Table(title=Text(title, style="bold"), box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    return table


def _rich(metric: Metric | None, *, sign: bool = False) -> Text:
    if metric is None:
        return Text("-", style="dim")
    sure = sign and metric.ci95 is not None and not metric.ci95[0] <= 0.0 <= metric.ci95[1]
    text = Text(f"{metric.value:{'+.4f' if sign else '.4f'}}", style="bold" if sure else "")
    if metric.ci95 is not None:
        text.append(f"\n±{(metric.ci95[1] - metric.ci95[0]) / 2:.4f}", style="not bold dim")
    return text
