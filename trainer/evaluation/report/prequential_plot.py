"""Plot of each model's quality by window."""

from typing import Final

import numpy as np
from matplotlib.figure import Figure

from trainer.evaluation.report.contents import EvaluationReport
from trainer.evaluation.report.fonts import printable
from trainer.evaluation.report.style import COLOURS, MARKERS, MODEL_COLOUR, caption, new_figure

_METRICS: Final = {"recall@10": "Recall@10", "ndcg@10": "NDCG@10"}
# Windows between two models' points, so that their intervals don't cover each other.
_SHIFT: Final = 0.08


def windows_figure(report: EvaluationReport) -> Figure | None:
    """Recall@10 and NDCG@10 over the windows, with intervals; None without windows."""
    names = [name for name in _METRICS if name in report.metrics]
    if report.prequential is None or not names:
        return None
    models = [(report.model, report.slices), *((each.model, each.slices) for each in report.baselines)]
    colours = [MODEL_COLOUR, *COLOURS]
    windows = list(report.slices["window"])
    figure, panels = new_figure(
        max(7.0, 0.75 * len(windows) + 1.5) * len(names), 4.6, columns=len(names), share_y=False
    )
    for axes, name in zip(panels, names, strict=True):
        for number, (model, slices) in enumerate(models):
            found = [slices["window"][window][name] for window in windows]
            values = np.array([each.value for each in found])
            ends = np.array([each.ci95 or (each.value, each.value) for each in found])
            axes.errorbar(
                np.arange(len(windows)) + _SHIFT * (number - (len(models) - 1) / 2),
                values,
                # With very few users the mean may lie outside its interval.
                yerr=np.maximum([values - ends[:, 0], ends[:, 1] - values], 0.0),
                color=colours[number % len(colours)],
                marker=MARKERS[number % len(MARKERS)],
                linewidth=2.4 if number == 0 else 1.6,
                elinewidth=1.0,
                capsize=2,
                zorder=3 + len(models) - number,
                label=printable(model),
            )
        axes.set_xticks(range(len(windows)), [window.replace(" from ", "\n") for window in windows], fontsize=8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Window and its first day")
        axes.set_ylabel(_METRICS[name])
    panels[0].set_title(printable(f"Quality by window, {report.dataset}"), pad=14)
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption(figure, "Lines: 95 % bootstrap intervals over users.")
    return figure
