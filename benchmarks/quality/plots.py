"""Plots of the quality benchmark."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.quality.report import Row
from benchmarks.quality.suites.suite import OURS, Suite
from trainer.evaluation.report.style import COLOURS, GREY, MARKERS, MODEL_COLOUR, new_figure, png

_COLOURS = (*COLOURS, GREY, "#333333")
_SHARES = {"0 %": "P2 zero-shot", "1 %": "P2 few-shot 1%", "10 %": "P2 few-shot 10%", "100 %": "P2 few-shot 100%"}


def plots(suites: Sequence[Suite], rows: Sequence[Row]) -> dict[str, bytes]:
    """Suffix of the file's name -> PNG; without those that have no rows."""
    found = {"": _overview(suites, rows), "-few-shot": _few_shot(rows)}
    return {suffix: png for suffix, png in found.items() if png is not None}


def _overview(suites: Sequence[Suite], rows: Sequence[Row]) -> bytes | None:
    """Bars of each suite's headline metric; None without rows."""
    panels = [(suite, found) for suite in suites if (found := _headline(suite, rows))]
    return png(lambda: _draw_overview(panels)) if panels else None


def _few_shot(rows: Sequence[Row]) -> bytes | None:
    """Recall@10 on KMRD over the share of its users in training; None without rows."""
    chosen = [
        row
        for row in rows
        # Models that read English titles answer a different question.
        if row["metric"] == "recall@10" and row["protocol"] in _SHARES.values() and "English" not in row["model"]
    ]
    return png(lambda: _draw_few_shot(chosen)) if chosen else None


def _headline(suite: Suite, rows: Sequence[Row]) -> list[Row]:
    wanted = (suite.data, suite.protocol, suite.headline)
    found = [row for row in rows if (row["data"], row["protocol"], row["metric"]) == wanted]
    return sorted((row for row in found if "(reference)" not in row["model"]), key=lambda row: row["mean"])


def _draw_overview(panels: Sequence[tuple[Suite, list[Row]]]) -> Figure:
    sizes = [len(found) + 1.5 for _, found in panels]
    figure, axes = new_figure(8.5, 0.28 * sum(sizes) + 0.6, rows=len(panels), share_y=False, heights=sizes)
    for axis, (suite, found) in zip(axes, panels, strict=True):
        colours = [MODEL_COLOUR if row["model"] == OURS else "#B8C4CE" for row in found]
        means = [row["mean"] for row in found]
        axis.barh([row["model"] for row in found], means, xerr=[row["sd"] for row in found], color=colours, height=0.7)
        for place, (mean, row) in enumerate(zip(means, found, strict=True)):
            axis.text(mean + row["sd"], place, f" {mean:.3f}", va="center", fontsize=8, color="#333333")
        axis.set_title(f"{suite.title}: {suite.headline}", fontsize=10)
        axis.set_xlim(0, max(max(means) * 1.15, 1e-6))
        axis.grid(axis="y", visible=False)
    return figure


def _draw_few_shot(rows: Sequence[Row]) -> Figure:
    figure, (axis,) = new_figure(8.5, 4.8)
    places = {protocol: place for place, protocol in enumerate(_SHARES.values())}
    models = sorted({row["model"] for row in rows}, key=lambda model: (model != OURS, model))
    for number, model in enumerate(models):
        mine = sorted((row for row in rows if row["model"] == model), key=lambda row: places[row["protocol"]])
        x, y = [places[row["protocol"]] for row in mine], [row["mean"] for row in mine]
        # When colours repeat, the line style changes.
        again, place = divmod(number - 1, len(_COLOURS))
        colour = MODEL_COLOUR if model == OURS else _COLOURS[place]
        axis.errorbar(
            x,
            y,
            yerr=[row["sd"] for row in mine],
            label=model,
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            linewidth=2.6 if model == OURS else 1.3,
            linestyle="-" if model == OURS else ("--", ":")[again % 2],
            capsize=2,
            zorder=3 if model == OURS else 2,
        )
    axis.set_xticks(range(len(_SHARES)), list(_SHARES))
    axis.set_xlabel("Share of KMRD's users in training")
    axis.set_ylabel("Recall@10")
    axis.set_title("Few-shot: from MovieLens to KMRD with Korean titles")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure
