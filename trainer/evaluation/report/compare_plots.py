"""Plots of a comparison of runs."""

import functools
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainer.evaluation.report.compare_runs import Comparison
from trainer.evaluation.report.fonts import printable
from trainer.evaluation.report.style import COLOURS, MARKERS, MODEL_COLOUR, caption, new_figure, png
from trainer.evaluation.report.tables import metric_label

_PANELS = 4


def draw(comparison: Comparison, metrics: Sequence[str]) -> dict[str, bytes | None]:
    """File name -> PNG; None if there is nothing to draw.

    Args:
        comparison: What to show, with curves.
        metrics: Metrics in order; the first four are drawn.
    """
    return {
        "compare-metrics.png": png(functools.partial(_metrics_figure, comparison, metrics[:_PANELS])),
        "compare-validation.png": png(functools.partial(_curves_figure, comparison)),
    }


def _metrics_figure(comparison: Comparison, metrics: Sequence[str]) -> Figure:
    runs = comparison.runs[::-1]
    figure, panels = new_figure(2.6 * len(metrics) + 2.0, 0.42 * len(runs) + 1.7, columns=len(metrics))
    for axes, name in zip(panels, metrics, strict=True):
        for place, run in enumerate(runs):
            metric = run.metrics.get(name)
            if metric is None:
                continue
            low, high = metric.ci95 or (metric.value, metric.value)
            colour = MODEL_COLOUR if place == len(runs) - 1 else "#444444"
            # A bootstrap interval of very few users may exclude the mean itself.
            arms = [[max(metric.value - low, 0.0)], [max(high - metric.value, 0.0)]]
            axes.errorbar(metric.value, place, xerr=arms, fmt="o", color=colour, capsize=3)
        axes.set_title(metric_label(name), fontsize=10, fontweight="normal")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    panels[0].set_yticks(range(len(runs)), [printable(run.name) for run in runs])
    panels[0].set_ylim(-0.6, len(runs) - 0.4)
    first = comparison.runs[0]
    figure.suptitle(printable(f"{first.dataset}, {first.protocol}"), x=0.01, ha="left", fontweight="bold")
    caption(
        figure, "Lines: 95 % bootstrap intervals over users, of each run separately: usually wider than paired ones."
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
