"""Plots of a report (PNG)."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from trainer.evaluation.fonts import font_families, printable
from trainer.evaluation.metrics import Metric
from trainer.evaluation.report import Curves, EvaluationReport, Metrics, Slices
from trainer.evaluation.tables import accuracy_metrics, metric_label

# The evaluated model first; the rest of Okabe and Ito's palette, which colour-blind readers can tell apart.
_MODEL_COLOUR = "#0072B2"
_COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
_GREY = "#8A8A8A"
_HATCHES = ("////", "....", "xxxx", "----", "\\\\\\\\", "++++")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MOST_LANGUAGES = 12
_SIDE_LABELS = {
    "popularity_percentile@10": ("Mean popularity percentile of the first 10\n(50: average item, 100: best known)"),
    "coverage@10": "Share of the catalogue in anybody's first 10",
}
_STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class _System:
    """The model, a baseline or a reference, and how it is drawn."""

    name: str
    metrics: Metrics
    slices: Slices
    curves: Curves
    colour: str
    marker: str = "o"
    hatch: str | None = None

    @property
    def computed(self) -> bool:
        """Whether its figures are of this run; references are hatched instead of filled."""
        return self.hatch is None


def render_plots(report: EvaluationReport) -> dict[str, bytes]:
    """Draws the plots that the report has data for.

    `metrics` (metrics beside the baselines and references, with intervals), `recall-at-k` (recall over k),
    `languages` (recall by item language) and `trade-off` (recall against popularity and coverage).

    Returns:
        Name -> PNG; see `PLOTS` for all names.
    """
    systems = _systems(report)
    pictures = {}
    with matplotlib.rc_context(_STYLE | {"font.family": list(font_families())}):
        for name, plot in PLOTS.items():
            figure = plot(report, systems)
            if figure is not None:
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png")
                pictures[name] = buffer.getvalue()
    return pictures


def _systems(report: EvaluationReport) -> list[_System]:
    model = _System(report.model, report.metrics, report.slices, report.curves, _MODEL_COLOUR)
    baselines = [
        _System(
            b.model,
            b.metrics,
            b.slices,
            b.curves,
            _COLOURS[number % len(_COLOURS)],
            _MARKERS[(number + 1) % len(_MARKERS)],
        )
        for number, b in enumerate(report.baselines)
    ]
    computed = {baseline.name for baseline in baselines}
    shown = [result for result in report.reference if result.model not in computed]
    references = [
        _System(f"{r.model} ({r.source})", r.metrics, {}, {}, _GREY, hatch=_HATCHES[number % len(_HATCHES)])
        for number, r in enumerate(shown)
    ]
    return [model, *baselines, *references]


def _metrics(report: EvaluationReport, systems: list[_System]) -> Figure | None:
    names = accuracy_metrics(report)
    if not names:
        return None
    figure, (axes,) = _figure(max(7.0, 0.19 * len(names) * len(systems) + 4.0), 4.6)
    _grouped_bars(axes, systems, [[system.metrics.get(name) for name in names] for system in systems])
    axes.set_xticks(range(len(names)), [metric_label(name) for name in names])
    axes.set_title(printable(f"{report.model} on {report.dataset}"), pad=14)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    hatched = "" if all(s.computed for s in systems) else " Hatched: reference figures, not computed here."
    _caption(figure, "Lines: 95 % bootstrap intervals over users." + hatched)
    return figure


def _recall_curve(report: EvaluationReport, systems: list[_System]) -> Figure | None:
    drawn = [system for system in systems if len(system.curves.get("recall", {})) > 1]
    if systems[0] not in drawn:
        return None
    figure, (axes,) = _figure(7.0, 4.6)
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
    groups = list(report.slices.get("item_language", {}))[:_MOST_LANGUAGES]
    names = accuracy_metrics(report)
    if not groups or not names:
        return None
    name = names[0]
    drawn = [system for system in systems if system.slices.get("item_language")]
    rows = [[system.slices["item_language"].get(group, {}).get(name) for group in groups] for system in drawn]
    figure, (axes,) = _figure(max(7.0, 0.32 * len(groups) * len(drawn) + 3.0), 4.6)
    _grouped_bars(axes, drawn, rows)
    sizes = report.slice_sizes.get("item_language", {})
    labels = [f"{group}\n{sizes[group].users:,} users" if group in sizes else group for group in groups]
    axes.set_xticks(range(len(groups)), [printable(label) for label in labels])
    axes.set_ylabel(metric_label(name))
    axes.set_title(printable(f"{metric_label(name)} by item language, {report.dataset}"), pad=14)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    hidden = len(report.slices["item_language"]) - len(groups)
    more = f" The {hidden} smallest of the languages are left out." if hidden else ""
    _caption(figure, f"Lines: 95 % bootstrap intervals over users.{more}")
    return figure


def _trade_off(report: EvaluationReport, systems: list[_System]) -> Figure | None:
    sides = [name for name in ("popularity_percentile@10", "coverage@10") if name in report.metrics]
    if "recall@10" not in report.metrics or not sides:
        return None
    figure, panels = _figure(4.6 * len(sides) + 0.6, 4.4, columns=len(sides))
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
    panels[0].set_title(printable(f"Accuracy against what the lists hold, {report.dataset}"), pad=14)
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _figure(width: float, height: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    # Not pyplot: no global state, no window, nothing to close.
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.06))
    return figure, list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])


def _grouped_bars(axes: Axes, systems: list[_System], rows: list[list[Metric | None]]) -> None:
    """One group of bars a column of `rows`, one bar a system; what has no figure takes no place."""
    width = 0.84 / len(systems)
    present = np.array([[metric is not None for metric in row] for row in rows])
    # Bars stand side by side, the middle of the group above its label.
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
    # The mean may lie outside a percentile interval of very few users.
    arms: NDArray[np.float64] = np.maximum(np.stack([values - ends[:, 0], ends[:, 1] - values]), 0.0)
    return arms


def _spread(cutoffs: Sequence[int]) -> list[int]:
    """The cut-offs to label on a logarithmic axis, at least a third apart."""
    labelled: list[int] = []
    for cutoff in cutoffs:
        if not labelled or cutoff >= labelled[-1] * 4 / 3:
            labelled.append(cutoff)
    return labelled


def _caption(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=8, color="#555555", x=0.01, ha="left")


PLOTS: Final[dict[str, Callable[[EvaluationReport, list[_System]], Figure | None]]] = {
    "metrics": _metrics,
    "recall-at-k": _recall_curve,
    "languages": _languages,
    "trade-off": _trade_off,
}
