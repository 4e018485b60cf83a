"""The plots of the data report."""

import functools
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainer.data.description import Description, Spread
from trainer.evaluation.report.fonts import printable
from trainer.evaluation.report.style import COLOURS, GREY, MODEL_COLOUR, new_figure, png

_MOST_BARS: Final = 15


def render(facts: Description) -> dict[str, bytes]:
    """Name -> PNG of every plot that there is data for."""
    drawn = {title: png(functools.partial(plot, facts)) for title, plot in _PLOTS.items()}
    return {title: picture for title, picture in drawn.items() if picture is not None}


def _over_time(facts: Description) -> Figure | None:
    figure, (axes,) = new_figure(7.5, 2.6)
    months = _every_month(facts.months)
    labels = [f"{year}-{month:02}" for year, month in months]
    axes.bar(range(len(months)), list(months.values()), width=0.9, color=MODEL_COLOUR)
    step = max(1, len(labels) // 8)
    axes.set_xticks(range(0, len(labels), step), labels[::step])
    axes.set_ylabel("interactions per month")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="x")
    return figure


def _left(facts: Description) -> Figure | None:
    figure, panels = new_figure(7.5, 2.4, columns=2)
    names = [stage.name for stage in facts.stages]
    for axes, kind in zip(panels, ("users", "items"), strict=True):
        counts = [stage.users if kind == "users" else stage.items for stage in facts.stages]
        _bars(axes, names, counts)
        axes.set_title(kind)
    return figure


def _spreads(facts: Description) -> Figure | None:
    figure, panels = new_figure(7.5, 2.8, columns=2, share_y=False)
    for axes, kind, spread, colour in (
        (panels[0], "user", facts.per_user, MODEL_COLOUR),
        (panels[1], "item", facts.per_item, COLOURS[1]),
    ):
        _histogram(axes, spread, colour)
        axes.set_xlabel(f"interactions per {kind}")
        axes.set_ylabel(f"{kind}s")
    return figure


def _popularity(facts: Description) -> Figure | None:
    """Share of the interactions that the most popular items have."""
    counts = np.repeat(list(facts.per_item.counts), list(facts.per_item.counts.values()))
    counts = np.concatenate([np.sort(counts)[::-1], np.zeros(max(facts.never, 0), np.int64)])
    figure, (axes,) = new_figure(3.7, 2.8)
    share = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    place = np.linspace(0.0, 100.0, len(share))
    kept = np.unique(np.linspace(0, len(share) - 1, 500).astype(int))
    axes.plot(place[kept], 100 * share[kept], color=MODEL_COLOUR, linewidth=2)
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--")
    axes.set_xlabel("% of the items, most popular first")
    axes.set_ylabel("% of the interactions")
    return figure


def _languages(facts: Description) -> Figure | None:
    shown = dict(list(facts.languages.items())[:_MOST_BARS])
    figure, (axes,) = new_figure(3.7, max(1.4, 0.6 + 0.24 * len(shown)))
    _bars(axes, list(shown), list(shown.values()))
    axes.set_xlabel("items")
    return figure


def _events(facts: Description) -> Figure | None:
    figure, (axes,) = new_figure(3.7, max(1.4, 0.8 + 0.3 * len(facts.events)))
    names = [event.event for event in facts.events]
    axes.barh(names, [event.rows for event in facts.events], color=GREY, label="all")
    axes.barh(names, [event.positive for event in facts.events], color=MODEL_COLOUR, label="positive")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("interactions")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
    return figure


_PLOTS: Final[Mapping[str, Callable[[Description], Figure | None]]] = {
    "Interactions over time": _over_time,
    "What remains after each setting": _left,
    "Interactions per user and per item": _spreads,
    "Share of the popular items": _popularity,
    "Languages of items": _languages,
    "Events": _events,
}


def _bars(axes: Axes, names: list[str], counts: list[int]) -> None:
    bars = axes.barh([printable(name) for name in names], counts, color=MODEL_COLOUR)
    axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
    axes.set_xlim(0, 1.25 * max([*counts, 1]))
    # From top to bottom; not by inverting the axis, which panels with a shared axis would undo for each other.
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))


def _histogram(axes: Axes, spread: Spread, colour: str) -> None:
    """Counts on a logarithmic axis, in bins of equal width on it."""
    numbers, weights = np.array(list(spread.counts), float), np.array(list(spread.counts.values()), float)
    edges = np.unique(np.round(np.geomspace(1, max(numbers.max() + 1, 2), 25))) - 0.5
    axes.hist(numbers, bins=list(edges), weights=weights, color=colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _every_month(months: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """The months from the first to the last, including those without an interaction."""
    first, last = (12 * year + month - 1 for year, month in (min(months), max(months)))
    every = [(number // 12, number % 12 + 1) for number in range(first, last + 1)]
    return {month: months.get(month, 0) for month in every}
