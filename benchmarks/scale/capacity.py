"""What data sets of any size need, computed from what `bench-scale` measured: memory, processor time, machines, money.

The assumptions are the program: each command grows with one number (`_DRIVERS`), its processor time as a power of it,
its memory as a constant and a multiple. Both are fitted to the measured sizes. What is beyond the largest of them is
extrapolated, not measured.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from scipy.optimize import nnls

from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.store import RESULTS
from benchmarks.harness.table import Table
from benchmarks.scale.stages import SHORT_FIT
from serving.arguments import argument
from trainer.errors import BabelrecError
from trainer.evaluation.report.style import COLOURS, MARKERS, new_figure, plain_powers, png

_ITEMS, _INTERACTIONS = "items", "interactions"
# `first step` is what is done once before an epoch, whose memory is that of a fit, whole or of some steps.
_DRIVERS: Final = {
    "data": _INTERACTIONS,
    "texts": _ITEMS,
    "first step": _INTERACTIONS,
    "epoch": _INTERACTIONS,
    "evaluate": _ITEMS,
    "export": _ITEMS,
}
_MEMORY: Final = {"epoch": ("fit", SHORT_FIT)}
# More than this share of a machine's memory or processors is not planned with.
_SHARE: Final = 0.6
_HOUR: Final = 3600.0


@dataclass(frozen=True)
class _Options(Options):
    measured: Path = argument(
        "--measured",
        type=Path,
        default=RESULTS / "scale.json",
        metavar="JSON",
        help="of `make bench-scale` (default: %(default)s)",
    )
    sizes: list[str] = argument(
        "--sizes",
        nargs="+",
        metavar="ITEMSxEVENTS",
        default=["1e5x1e7", "1e6x2e7", "1e6x1e8", "1e7x1e8", "1e7x1e9", "1e8x1e9"],
        help="items and interactions (default: %(default)s)",
    )
    epochs: int = argument("--epochs", type=int, default=10, help="of a training (default: %(default)s)")
    request_ms: float = argument(
        "--request-ms",
        type=float,
        metavar="MS",
        default=1.5,
        help="processor time of a request, as `make bench-serving` prints (default: %(default)s)",
    )
    requests: float = argument(
        "--requests", type=float, metavar="N", default=1000.0, help="a second, at most (default: %(default)s)"
    )
    machine_gib: float = argument(
        "--machine-gib", type=float, metavar="GIB", default=64.0, help="memory of a machine (default: %(default)s)"
    )
    core_hour: float = argument(
        "--core-hour", type=float, metavar="PRICE", default=0.04, help="of a processor; an assumption (%(default)s)"
    )
    gib_hour: float = argument(
        "--gib-hour", type=float, metavar="PRICE", default=0.005, help="of memory; an assumption (%(default)s)"
    )


@dataclass(frozen=True, slots=True)
class Power:
    """``factor * x ** exponent``, through the measured sizes by least squares of logarithms."""

    factor: float
    exponent: float

    @classmethod
    def fitted(cls, x: Sequence[float], y: Sequence[float]) -> "Power":
        """Of at least two different sizes."""
        exponent, logarithm = np.polyfit(np.log(x), np.log(y), 1)
        return cls(math.exp(float(logarithm)), float(exponent))

    def __call__(self, x: float) -> float:
        """The value at a size."""
        return self.factor * math.pow(x, self.exponent)


@dataclass(frozen=True, slots=True)
class Line:
    """``constant + slope * x``, neither below 0, by least squares of relative errors."""

    constant: float
    slope: float

    @classmethod
    def fitted(cls, x: Sequence[float], y: Sequence[float]) -> "Line":
        """Of at least two different sizes; errors are relative, so that the small sizes count too."""
        measured = np.asarray(y, np.float64)
        columns = np.stack([np.ones(len(x)), np.asarray(x, np.float64)], axis=1) / measured[:, np.newaxis]
        scale = columns.max(axis=0)
        found, _ = nnls(columns / scale, np.ones(len(x)))
        constant, slope = found / scale
        return cls(float(constant), float(slope))

    def __call__(self, x: float) -> float:
        """The value at a size."""
        return self.constant + self.slope * x


def main(arguments: Sequence[str] | None = None) -> int:
    """Computes, writes and prints; returns the exit code."""
    return run("scale.capacity", __doc__, _Options, _run, _page, arguments, plots=_draw)


def _run(options: _Options, console: Console) -> Result:
    if not options.measured.exists():
        raise BabelrecError(f"There is no {options.measured}. Remedy: make bench-scale.")
    measured = json.loads(options.measured.read_bytes())["sizes"]
    sizes = [_size(text) for text in options.sizes]
    return {
        "assumptions": {
            "epochs": options.epochs,
            "request_ms": options.request_ms,
            "requests": options.requests,
            "machine_gib": options.machine_gib,
            "core_hour": options.core_hour,
            "gib_hour": options.gib_hour,
            "share": _SHARE,
        },
        "growth": growth(measured),
        "needs": [needs(measured, items, interactions, options) for items, interactions in sizes],
    }


def _size(text: str) -> tuple[float, float]:
    try:
        items, interactions = map(float, text.split("x"))
    except ValueError as error:
        raise BabelrecError(f"--sizes {text}: write ITEMSxEVENTS, such as 1e6x2e7.") from error
    if not (1 <= items < math.inf and 1 <= interactions < math.inf):
        raise BabelrecError(f"--sizes {text}: both numbers must be positive.")
    return items, interactions


def growth(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Command -> exponent of its processor time, and GiB: constant, and for each million of its driver."""
    models = _models(measured)
    return {
        name: {"exponent": power.exponent, "gib": line.constant, "gib_a_million": 1e6 * line.slope}
        for name, (power, line) in models.items()
    }


def needs(
    measured: Mapping[str, Mapping[str, Any]], items: float, interactions: float, options: "_Options"
) -> dict[str, Any]:
    """What a size needs.

    Returns:
        ``cpu_hours`` and ``gib`` by command; ``fits``: whether a machine has the memory of a training, which several
        don't share; ``machines`` by what is spread over them: ``data`` (Spark), ``index`` (shards), ``serving``
        (replicas of each shard); ``money``: one training with everything around it, and a month of serving.
    """
    given = {_ITEMS: items, _INTERACTIONS: interactions}
    hours, memory = {}, {}
    for name, (power, line) in _models(measured).items():
        x = given[_DRIVERS[name]]
        hours[name] = power(x) / _HOUR * (options.epochs if name == "epoch" else 1)
        memory[name] = line(x)
    room = _SHARE * options.machine_gib
    index = _index_memory(measured)(items)
    shards = math.ceil(index / room)
    cores = options.requests * options.request_ms / 1000 / _SHARE
    training = sum(
        hours[name] * options.core_hour + hours[name] / 2 * memory[name] * options.gib_hour for name in hours
    )
    month = 30 * 24 * shards * (cores * options.core_hour + index / shards / _SHARE * options.gib_hour)
    return {
        "items": items,
        "interactions": interactions,
        "measured": any(each["items"] >= items and each["interactions"] >= interactions for each in measured.values()),
        "cpu_hours": hours,
        "gib": memory,
        "index_gib": index,
        "fits": memory["epoch"] <= room,
        "machines": {
            "data": math.ceil(memory["data"] / room),
            "index": shards,
            "serving_cores": shards * cores,
        },
        "money": {"training": training, "month": month},
    }


def _models(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Power, Line]]:
    """Of each command: processor seconds and GiB by its driver."""
    found = {}
    for name, driver in _DRIVERS.items():
        points = [
            (each[driver], each[name]["cpu"], each[memory]["memory"])
            for each in measured.values()
            for memory in _MEMORY.get(name, (name,))
            if name in each and memory in each
        ]
        if len(points) < 2:
            raise BabelrecError(f"`{name}` was measured at fewer than two sizes. Remedy: make bench-scale.")
        x, seconds, gib = zip(*points, strict=True)
        found[name] = (Power.fitted(x, seconds), Line.fitted(x, gib))
    return found


def _index_memory(measured: Mapping[str, Mapping[str, Any]]) -> Line:
    """GiB of a model server by items: its files, which are in memory as they are."""
    sizes = [each for each in measured.values() if "model" in each]
    if len(sizes) < 2:
        raise BabelrecError("The exported model was measured at fewer than two sizes. Remedy: make bench-scale.")
    return Line.fitted([each[_ITEMS] for each in sizes], [each["model"]["gib"] for each in sizes])


def _page(result: Result) -> Page:
    shown = [
        [
            f"{_short(each['items'])} x {_short(each['interactions'])}{'' if each['measured'] else ' *'}",
            *(f"{each['cpu_hours'][name]:,.1f}" for name in _DRIVERS),
            *(f"{each['gib'][name]:,.1f}" for name in ("data", "epoch", "export")),
            f"{each['index_gib']:,.1f}",
            "yes" if each["fits"] else "no",
            *(f"{each['machines'][name]:,.0f}" for name in ("data", "index", "serving_cores")),
            *(f"{each['money'][name]:,.0f}" for name in ("training", "month")),
        ]
        for each in result["needs"]
    ]
    columns = [
        "items x interactions",
        *(f"{name}, h" for name in _DRIVERS),
        *(f"{name}, GiB" for name in ("data", "fit", "export", "server")),
        *("fit on one", "Spark machines", "shards", "serving cores", "a training", "a month of serving"),
    ]
    rules = [
        [name, f"{each['exponent']:.2f}", f"{each['gib']:.2f}", f"{each['gib_a_million']:.3f}", _DRIVERS[name]]
        for name, each in result["growth"].items()
    ]
    given = result["assumptions"]
    return [
        Table("Growth", ("command", "exponent", "GiB", "GiB for a million", "of"), rules),
        Table("Needs; processor hours (* beyond what was measured)", columns, shown),
        f"{given['epochs']} epochs; {given['requests']:,.0f} requests a second of {given['request_ms']} ms; "
        f"machines of {given['machine_gib']:,.0f} GiB, of which {given['share']:.0%} is used; "
        f"{given['core_hour']} for a processor and {given['gib_hour']} for a GiB an hour.",
    ]


def _short(number: float) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def _draw(result: Result) -> dict[str, bytes]:
    image = png(lambda: _figure(result["needs"]))
    return {} if image is None else {"": image}


def _figure(needs: Sequence[Mapping[str, Any]]) -> Figure:
    figure, panes = new_figure(11.0, 4.5, columns=2, share_y=False)
    sizes = sorted(needs, key=lambda each: (each["interactions"], each["items"]))
    names = [f"{_short(each['items'])} x\n{_short(each['interactions'])}" for each in sizes]
    for axes, (key, label) in zip(panes, (("cpu_hours", "processor hours"), ("gib", "GiB")), strict=True):
        for command, colour, marker in zip(_DRIVERS, COLOURS, MARKERS, strict=False):
            axes.plot(names, [each[key][command] for each in sizes], color=colour, marker=marker, label=command)
        axes.set(yscale="log", xlabel="items x interactions", ylabel=label)
        plain_powers(axes.yaxis)
        axes.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())
