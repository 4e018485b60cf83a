"""Plots of a report (PNG)."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report.contents import Curves, EvaluationReport, Metrics, Slices
from trainer.evaluation.report.fonts import printable
from trainer.evaluation.report.head_plots import precision_recall_figure, reliability_figure
from trainer.evaluation.report.prequential_plot import windows_figure
from trainer.evaluation.report.style import COLOURS, GREY, MARKERS, MODEL_COLOUR, caption, new_figure, png
from trainer.evaluation.report.tables import accuracy_metrics, by_impression, metric_label

_HATCHES = ("////", "....", "xxxx", "----", "\\\\\\\\", "++++")
_MOST_LANGUAGES = 12
_SIDE_LABELS = {
    "popularity_percentile@10": ("Mean popularity percentile of the first 10\n(50: average item, 100: most popular)"),
    "coverage@10": "Share of the catalogue in any user's first 10",
}


@dataclass(frozen=True, slots=True)
class _System:
    """The model, a baseline or a reference, and its drawing style."""

    name: str
    metrics: Metrics
    slices: Slices
    curves: Curves
    colour: str
    marker: str = "o"
    hatch: str | None = None

    @property
    def computed(self) -> bool:
        """Whether its figures are from this run; references are hatched instead of filled."""
        return self.hatch is None


def render_plots(report: EvaluationReport) -> dict[str, bytes]:
    """Draws the plots that the report has data for.

    `metrics` (metrics compared with baselines and references, with intervals), `recall-at-k` (recall over k),
    `languages` (recall by item language), `trade-off` (recall against popularity and coverage), `windows` (quality by
    window of time), and for the ranking heads `heads-precision-recall` and `heads-reliability`.

    Returns:
        Name -> PNG; see `PLOTS` for all names.
    """
    systems = _systems(report)
    drawn = {name: png(functools.partial(plot, report, systems)) for name, plot in PLOTS.items()}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def _systems(report: EvaluationReport) -> list[_System]:
    model = _System(report.model, report.metrics, report.slices, report.curves, MODEL_COLOUR)
    baselines = [
        _System(
            b.model, b.metrics, b.slices, b.curves, COLOURS[number % len(COLOURS)], MARKERS[(number + 1) % len(MARKERS)]
        )
        for number, b in enumerate(report.baselines)
    ]
    computed = {baseline.name for baseline in baselines}
    shown = [result for result in report.reference if result.model not in computed]
    references = [
        _System(f"{r.model} ({r.source})", r.metrics, {}, {}, GREY, hatch=_HATCHES[number % len(_HATCHES)])
        for number, r in enumerate(shown)
    ]
    return [model, *baselines, *references]


def _metrics(report: EvaluationReport, systems: list[_System]) -> Figure | None:
    names = accuracy_metrics(report)
    if not names:
        return None
    figure, (axes,) = new_figure(max(7.0, 0.19 * len(names) * len(systems) + 4.0), 4.6)
    _grouped_bars(axes, systems, [[system.metrics.get(name) for name in names] for system in systems])
    axes.set_xticks(range(len(names)), [metric_label(name) for name in names])
    axes.set_title(printable(f"{report.model} on {report.dataset}"), pad=14)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    hatched = "" if all(s.computed for s in systems) else " Hatched: reference figures, not computed here."
    unit = "impressions" if by_impression(report) else "users"
    caption(figure, f"Lines: 95 % bootstrap intervals over {unit}." + hatched)
    return figure


def _recall_curve(report: EvaluationReport, systems: list[_System]) -> Figure | None:
    drawn = [system for system in systems if len(system.curves.get("recall", {})) > 1]
    if systems[0] not in drawn:
        return None
    figure, (axes,) = new_figure(7.0, 4.6)
    for system in reversed(drawn):
        curve = system.curves["recall"]
        axes.plot(
            list(curve),
            list(curve.values()),
            marker="o",
            markersize=4,
            linewidth=2.4 if system is systems[0] else 1.6,
            color=system.colour,
            label=printable(system.name),
        )
    cutoffs = sorted({k for system in drawn for k in system.curves["recall"]})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_spread(cutoffs)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=0)
    axes.set_xlabel("k (length of the list, logarithmic)")
    axes.set_ylabel("Recall@k")
    axes.set_title(printable(f"Recall by length of the list, {report.dataset}"), pad=14)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left")
    return figure


def _languages(report: EvaluationReport, systems: list[_System]) -> Figure | None:
    impressions = by_impression(report)
    dimensions = list(report.slices) if impressions else ["item_language"]
    places = [
        (dimension, group)
        for dimension in dimensions
        for group in report.slices.get(dimension, {})
        # A difference has another scale than its operands.
        if not (impressions and group == "difference")
    ]
    hidden = len(places) - _MOST_LANGUAGES
    places = places[:_MOST_LANGUAGES]
    names = accuracy_metrics(report)
    if not places or not names:
        return None
    name = names[0]
    drawn = [system for system in systems if any(system.slices.get(dimension) for dimension, _ in places)]
    rows = [[system.slices.get(dim, {}).get(group, {}).get(name) for dim, group in places] for system in drawn]
    figure, (axes,) = new_figure(max(7.0, 0.32 * len(places) * len(drawn) + 3.0), 4.6)
    _grouped_bars(axes, drawn, rows)
    axes.set_xticks(range(len(places)), [printable(_slice_label(report, *place)) for place in places])
    what = "language of histories → candidates" if impressions else "item language"
    axes.set_ylabel(metric_label(name))
    axes.set_title(printable(f"{metric_label(name)} by {what}, {report.dataset}"), pad=14)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    more = f" The {hidden} smallest of the languages are left out." if hidden > 0 else ""
    caption(figure, f"Lines: 95 % bootstrap intervals over {'impressions' if impressions else 'users'}.{more}")
    return figure


def _slice_label(report: EvaluationReport, dimension: str, group: str) -> str:
    """Name and size of a slice; of a comparison also which one it belongs to."""
    lines = [group, f"({dimension})"] if ": " in dimension else [group]
    size = report.slice_sizes.get(dimension, {}).get(group)
    if size is not None:
        counted = f"{size.users:,} users" if size.impressions is None else f"{size.impressions:,} impressions"
        lines.append(counted)
    return "\n".join(lines)


def _trade_off(report: EvaluationReport, systems: list[_System]) -> Figure | None:
    sides = [name for name in ("popularity_percentile@10", "coverage@10") if name in report.metrics]
    if "recall@10" not in report.metrics or not sides:
        return None
    figure, panels = new_figure(4.6 * len(sides) + 0.6, 4.4, columns=len(sides))
    for axes, side in zip(panels, sides, strict=True):
        for number, system in enumerate(systems):
            across, up = system.metrics.get(side), system.metrics.get("recall@10")
            if across is None or up is None:
                continue
            axes.errorbar(
                across.value,
                up.value,
                yerr=_arms([up]),
                fmt=system.marker,
                markersize=10 if system is systems[0] else 8,
                zorder=3 + len(systems) - number,
                color=system.colour,
                ecolor=system.colour,
                capsize=3,
                label=printable(system.name),
            )
        axes.set_ylim(bottom=0)
        axes.set_xlim(*((0, 103) if side.startswith("popularity") else (-0.03, 1.03)))
        axes.set_xlabel(_SIDE_LABELS[side])
    panels[0].set_ylabel("Recall@10")
    panels[0].set_title(printable(f"Accuracy against content of the lists, {report.dataset}"), pad=14)
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _grouped_bars(axes: Axes, systems: list[_System], rows: list[list[Metric | None]]) -> None:
    """One group of bars per column of `rows`, one bar per system; missing values take no space."""
    width = 0.84 / len(systems)
    present = np.array([[metric is not None for metric in row] for row in rows])
    # Bars are side by side, with the group centred above its label.
    shift = (np.cumsum(present, axis=0) - (present.sum(axis=0) + 1) / 2) * width
    for number, (system, row) in enumerate(zip(systems, rows, strict=True)):
        metrics = [metric for metric in row if metric is not None]
        if not metrics:
            continue
        places = np.flatnonzero(present[number]) + shift[number, present[number]]
        axes.bar(
            places,
            [metric.value for metric in metrics],
            width * 0.9,
            color=system.colour if system.computed else "white",
            edgecolor=system.colour,
            hatch=system.hatch,
            label=printable(system.name),
        )
        if any(metric.ci95 for metric in metrics):
            axes.errorbar(
                places,
                [metric.value for metric in metrics],
                yerr=_arms(metrics),
                fmt="none",
                ecolor="#222222",
                elinewidth=1.2,
                capsize=2,
            )
        if number == 0:
            for place, metric in zip(places, metrics, strict=True):
                top = metric.ci95[1] if metric.ci95 else metric.value
                axes.annotate(
                    f"{metric.value:.3f}",
                    (place, top),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    color=system.colour,
                    fontweight="bold",
                    fontsize=9,
                )
    axes.grid(visible=False, axis="x")
    axes.set_ylim(bottom=0)


def _arms(metrics: Sequence[Metric]) -> NDArray[np.float64]:
    """Lengths of error bars below and above, [2, N]; 0 without an interval."""
    ends = np.array([metric.ci95 or (metric.value, metric.value) for metric in metrics])
    values = np.array([metric.value for metric in metrics])
    # The mean may be outside a percentile interval with very few users.
    arms: NDArray[np.float64] = np.maximum(np.stack([values - ends[:, 0], ends[:, 1] - values]), 0.0)
    return arms


def _spread(cutoffs: Sequence[int]) -> list[int]:
    """The cut-offs to label on a logarithmic axis, at least a third apart."""
    labelled: list[int] = []
    for cutoff in cutoffs:
        if not labelled or cutoff >= labelled[-1] * 4 / 3:
            labelled.append(cutoff)
    return labelled


PLOTS: Final[dict[str, Callable[[EvaluationReport, list[_System]], Figure | None]]] = {
    "metrics": _metrics,
    "recall-at-k": _recall_curve,
    "languages": _languages,
    "trade-off": _trade_off,
    "windows": lambda report, _: windows_figure(report),
    "heads-precision-recall": lambda report, _: precision_recall_figure(report.heads, report.dataset),
    "heads-reliability": lambda report, _: reliability_figure(report.heads, report.dataset),
}
