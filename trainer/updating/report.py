"""The gate's report for people: ``gate.md`` and ``gate.png``."""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.evaluation.report.fonts import printable
from trainer.evaluation.report.style import COLOURS, GREY, MODEL_COLOUR, caption, new_figure, png
from trainer.files import atomic_file, write_text
from trainer.updating.verdict import Check, Verdict

_PAGE: Final = "gate.md"
_PICTURE: Final = "gate.png"
_FAILED_COLOUR: Final = COLOURS[3]


def write_report(verdict: Verdict, folder: Path) -> None:
    """Writes both files, each atomically."""
    picture = png(functools.partial(_figure, verdict))
    if picture is not None:
        with atomic_file(folder / _PICTURE) as temporary:
            temporary.write_bytes(picture)
    write_text(folder / _PAGE, _markdown(verdict, with_picture=picture is not None))


def _markdown(verdict: Verdict, *, with_picture: bool) -> str:
    since = datetime.fromtimestamp(verdict.since, UTC).strftime("%Y-%m-%d %H:%M")
    lines = [
        f"# {'Promoted' if verdict.promoted else 'Refused'}",
        "",
        verdict.sentence,
        "",
        f"Compared on {verdict.positives:,} positives of {verdict.people:,} people since {since} UTC, from which "
        "neither model has learned. Intervals are 95 % bootstraps of the paired differences, over people.",
        "",
        *([f"![Differences with intervals]({_PICTURE})", ""] if with_picture else []),
        "| condition | measure | people | champion | challenger | limit | difference | holds |",
        "|---|---|---:|---:|---:|---:|---|---|",
        *(_row(check) for check in verdict.checks),
        "",
    ]
    return "\n".join(lines)


def _row(check: Check) -> str:
    people = "" if check.people is None else f"{check.people:,}"
    difference = ""
    if check.low is not None:
        difference = f"{check.difference:+.4f} ({check.low:+.4f} to {check.high:+.4f})"
    name = check.name.replace("|", "\\|")
    return (
        f"| {name} | {check.measure} | {people} | {check.champion:.4f} | {check.challenger:.4f} | {check.limit:.4f} "
        f"| {difference} | {'yes' if check.holds else '**no**'} |"
    )


def _figure(verdict: Verdict) -> Figure | None:
    """Relative differences of the models; those with an interval have its line. The data's are in the table."""
    shown = [check for check in verdict.checks if check.kind != "data" and check.champion > 0.0][::-1]
    if not shown:
        return None
    figure, (axes,) = new_figure(8.4, 0.32 * len(shown) + 1.9)
    for place, check in enumerate(shown):
        _draw(axes, place, check)
    axes.axvline(0.0, color=GREY, linewidth=1.0)
    axes.set_yticks(range(len(shown)), [printable(_label(check)) for check in shown])
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlabel("Challenger compared with champion, %")
    axes.set_title(f"{'Promoted' if verdict.promoted else 'Refused'}: {_count(verdict.checks)}")
    caption(figure, "Lines: 95 % intervals of paired differences. Grey ticks: limits. Orange: a condition that fails.")
    return figure


def _draw(axes: Axes, place: int, check: Check) -> None:
    """One line: the challenger's value relative to the champion's, in percent, with interval and limit."""
    colour = MODEL_COLOUR if check.holds else _FAILED_COLOUR
    percent = 100.0 / check.champion
    value = percent * (check.challenger - check.champion)
    if check.difference is not None and check.low is not None and check.high is not None:
        # A bootstrap interval of very few people may exclude the mean itself.
        arms = [
            [percent * max(check.difference - check.low, 0.0)],
            [percent * max(check.high - check.difference, 0.0)],
        ]
        axes.errorbar(value, place, xerr=arms, fmt="o", color=colour, capsize=3)
    else:
        axes.plot([value], [place], marker="o", color=colour)
    limit = percent * (check.limit - check.champion)
    axes.plot([limit, limit], [place - 0.3, place + 0.3], color=GREY, linewidth=2.0)


def _label(check: Check) -> str:
    return f"{check.measure}, {check.name}"


def _count(checks: Sequence[Check]) -> str:
    failed = sum(not check.holds for check in checks)
    return f"all {len(checks)} conditions hold" if not failed else f"{failed} of {len(checks)} conditions fail"
