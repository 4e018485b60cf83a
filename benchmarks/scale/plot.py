"""Curves of processor time and memory by size."""

from collections.abc import Mapping
from typing import Any, Final

from matplotlib.figure import Figure

from trainer.evaluation.report.style import COLOURS, MARKERS, new_figure, plain_powers, png

_COMMANDS: Final = ("data", "texts", "first step", "fit", "evaluate", "export")
_AXES: Final = (("cpu", "processor seconds"), ("memory", "peak memory, GiB"))


def draw(result: Mapping[str, Any]) -> dict[str, bytes]:
    """PNG of both curves, log-log; none of a single size."""
    sizes = result["sizes"]
    image = png(lambda: _figure(sizes)) if len(sizes) > 1 else None
    return {} if image is None else {"": image}


def _figure(sizes: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure, panes = new_figure(11.0, 4.5, columns=2, share_y=False)
    for axes, (key, label) in zip(panes, _AXES, strict=True):
        for command, colour, marker in zip(_COMMANDS, COLOURS, MARKERS, strict=False):
            points = [(each["interactions"], each[command][key]) for each in sizes.values() if command in each]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=command)
        axes.set(xscale="log", yscale="log", xlabel="interactions", ylabel=label)
        plain_powers(axes.xaxis, axes.yaxis)
        axes.legend()
    return figure
