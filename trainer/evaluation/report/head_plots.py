"""Plots of the ranking heads: precision over recall, and reliability before and after calibration."""

from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.evaluation.heads.result import HeadResult
from trainer.evaluation.report.fonts import printable
from trainer.evaluation.report.head_tables import METHOD_LABELS
from trainer.evaluation.report.style import COLOURS, GREY, MODEL_COLOUR, caption, new_figure

# TensorBoard shows images about 340 pixels wide: at this many inches, 10-point text is 12 pixels high there.
_CARD_WIDTH: Final = 3.8


def precision_recall_figure(heads: Mapping[str, HeadResult], dataset: str, *, card: bool = False) -> Figure | None:
    """Precision over recall of each binary head with both classes.

    Args:
        heads: Results by head.
        dataset: For the title.
        card: For one head in TensorBoard's small images, whose own titles give the rest.
    """
    drawn = {name: head for name, head in heads.items() if head.precision_recall}
    if not drawn:
        return None
    width, height = (_CARD_WIDTH, 3.4) if card else (4.6 * len(drawn) + 1.0, 4.4)
    figure, panels = new_figure(width, height, columns=len(drawn))
    for axes, head in zip(panels, drawn.values(), strict=True):
        recall, precision = zip(*head.precision_recall, strict=True)
        axes.step(recall, precision, where="post", color=MODEL_COLOUR, linewidth=2.0, label=printable(head.output))
        share = (head.positives or 0) / head.pairs
        axes.axhline(share, color=GREY, linestyle="--", label=f"share of positives, {share:.3f}")
        found = head.metrics["average_precision"]
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.03)
        axes.set_xlabel("Recall")
        axes.set_title(f"AP {found.value:.3f}, AUC {head.metrics['auc'].value:.3f}", fontsize=10, fontweight="normal")
        axes.legend(loc="lower left")
    panels[0].set_ylabel("Precision")
    _title(figure, dataset if card else f"Ranking heads on held-out events, {dataset}")
    return figure


def reliability_figure(heads: Mapping[str, HeadResult], dataset: str, *, card: bool = False) -> Figure | None:
    """Share of positives over predicted probability, before and after calibration, above the pairs in each bin.

    Args:
        heads: Results by head.
        dataset: For the title.
        card: For one head in TensorBoard's small images, whose own titles give the rest.
    """
    drawn = [head for head in heads.values() if head.reliability]
    if not drawn:
        return None
    columns = len(drawn)
    width, height = (_CARD_WIDTH, 4.4) if card else (4.8 * columns + 1.0, 5.6)
    figure, panels = new_figure(width, height, columns=columns, rows=2, share_y=False, heights=(3.0, 1.0))
    for above, below, head in zip(panels[:columns], panels[columns:], drawn, strict=True):
        _reliability(above, below, head)
    panels[0].set_ylabel("Share of positives")
    panels[columns].set_ylabel("Pairs")
    _title(figure, dataset if card else f"Reliability on held-out events, {dataset}")
    if not card:
        caption(figure, "Points: 15 bins of equal width. The dashed line is perfect calibration.")
    return figure


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(printable(text), x=0.01, ha="left", fontweight="bold")


def _reliability(above: Axes, below: Axes, head: HeadResult) -> None:
    above.plot([0.0, 1.0], [0.0, 1.0], color=GREY, linestyle="--", zorder=1)
    for place, (method, bins) in enumerate(head.reliability.items()):
        colour = COLOURS[0] if method == "none" else MODEL_COLOUR
        predicted = [each.predicted for each in bins]
        error = head.probabilities[method]["ece"].value
        label = f"{METHOD_LABELS.get(method, method)}, ECE {error:.3f}"
        marker = "s" if method == "none" else "o"
        above.plot(predicted, [each.observed for each in bins], marker=marker, color=colour, label=label)
        total = len(head.reliability)
        width = 1.0 / 15 / (total + 0.5)
        # A bar is at the middle of its bin, not at the mean prediction: bars of two methods don't overlap.
        middles = [(min(int(each.predicted * 15), 14) + 0.5) / 15 + (place - (total - 1) / 2) * width for each in bins]
        below.bar(middles, [each.pairs for each in bins], width, color=colour)
    above.set_title(printable(head.output), fontsize=10, fontweight="normal")
    for axes in (above, below):
        axes.set_xlim(0.0, 1.0)
    above.set_ylim(0.0, 1.0)
    above.legend(loc="best")
    below.set_xlabel("Predicted probability")
