"""Common plot style, and conversion of figures to PNG."""

import io
from collections.abc import Callable, Sequence
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, FuncFormatter

from trainer.evaluation.report.fonts import font_families

# The evaluated model first; the rest of Okabe and Ito's palette, which colour-blind readers can distinguish.
MODEL_COLOUR: Final = "#0072B2"
COLOURS: Final = ("#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
GREY: Final = "#8A8A8A"
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Final[dict[Any, Any]] = {
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


def png(draw: Callable[[], Figure | None]) -> bytes | None:
    """The figure drawn by ``draw`` in the project's style, as PNG; None if there is none."""
    with matplotlib.rc_context(_STYLE | {"font.family": list(font_families())}):
        figure = draw()
        if figure is None:
            return None
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def new_figure(
    width: float,
    height: float,
    *,
    columns: int = 1,
    rows: int = 1,
    share_y: bool = True,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches with its axes, row by row; ``heights`` are the rows' shares."""
    # Not pyplot: no global state, no window, nothing to close.
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.06))
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharey=share_y, height_ratios=heights).flat)


def plain_powers(*axes: Axis) -> None:
    """Writes the powers of ten of logarithmic axes as numbers: formulas are not typeset in this style."""
    large = EngFormatter(sep="")

    def written(value: float, place: int) -> str:
        return large(value, place) if value >= 1.0 else f"{value:g}"

    for each in axes:
        each.set_major_formatter(FuncFormatter(written))


def caption(figure: Figure, text: str) -> None:
    """A small line of text below a figure."""
    figure.supxlabel(text, fontsize=8, color="#555555", x=0.01, ha="left")
