"""What commands cost in processor time and memory as catalogue, audience and history grow (protocol P10).

Each command is a process of its own, in a new one for each size. Texts are encoded once, before anything else is
counted. An epoch of the largest size is computed from its steps, some of which are made.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.store import RESULTS, write_json
from benchmarks.harness.table import Bar, Table, at_most
from benchmarks.scale.plot import draw
from benchmarks.scale.sizes import SIZES
from benchmarks.scale.stages import DATA, SHORT_FIT, STEPS, TEXTS
from serving.arguments import argument
from trainer.child import command_of
from trainer.documents import dump_yaml
from trainer.errors import BabelrecError
from trainer.files import write_text

_STAGES: Final = "benchmarks.scale.stages"
_GIB: Final = 2**20  # ru_maxrss counts KiB
_MOST_MEMORY: Final = 8.0
_FIRST_STEP: Final = 90.0
_EPOCH_MINUTES: Final = 40.0
_EVALUATE_MINUTES, _EXPORT_MINUTES = 10.0, 10.0
# Exponents of processor time over the number of interactions.
_LINEAR, _CONSTANT = 1.1, 0.15


@dataclass(frozen=True)
class _Options(Options):
    sizes: list[str] = argument(
        "--sizes", nargs="+", choices=tuple(SIZES), default=["S", "M", "L"], help="default: all"
    )
    whole: list[str] = argument(
        "--whole",
        nargs="*",
        choices=tuple(SIZES),
        default=["S", "M"],
        help="sizes that are fitted for an epoch, and again; others for `--steps` alone, which is enough for what "
        "evaluation and export cost (default: S M)",
    )
    steps: int = argument("--steps", type=int, default=100, help="steps that are counted (default: %(default)s)")
    folder: Path = argument(
        "--folder",
        type=Path,
        default=RESULTS / "scale",
        metavar="DIR",
        help="of data sets, which stay, and runs (default: %(default)s)",
    )
    resume: bool = argument(
        "--resume", action="store_true", help="measure only what is not in the folder yet, of an earlier start"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; returns the exit code."""
    packages = ("tensorflow", "scann", "polars", "numpy")
    return run("scale", __doc__, _Options, _run, _page, arguments, packages=packages, plots=draw)


def _run(options: _Options, console: Console) -> Result:
    found: dict[str, dict[str, Any]] = {}
    for name in options.sizes:
        place = options.folder / name
        if not options.resume:
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        console.rule(name)
        found[name] = _costs(name, place, options, console)
    return {"sizes": found, "bars": bars(found)}


def _costs(name: str, place: Path, options: _Options, console: Console) -> dict[str, Any]:
    """Command -> its costs, of one size."""
    data, config = (options.folder / f"data_{name}").absolute(), place / "config.yaml"
    write_text(
        config,
        dump_yaml(
            {
                "name": f"scale-{name}",
                "data": {
                    "source": {"name": "dataset", "path": str(data)},
                    "positives": {"click": None, "purchase": None},
                },
                "training": {"epochs": 1},
            }
        ),
    )
    size = SIZES[name]
    kept = place / "costs.json"
    costs: dict[str, Any] = {"items": size.items, "interactions": size.interactions, "users": size.users}
    if kept.exists():
        costs |= json.loads(kept.read_bytes())

    def count(command: str, *arguments: str, makes: Path | None = None) -> None:
        if command not in costs:
            if makes is not None:  # half of it was made by an earlier start, and would not be counted
                shutil.rmtree(makes, ignore_errors=True)
            printed, found = _counted(list(arguments), place / f"{command}.log")
            if command == STEPS:
                costs.update(_of_steps(json.loads(printed.splitlines()[-1]), found["memory"]))
            costs[command] = found
            write_json(kept, costs)
        console.print(f"{command}: {costs[command]['cpu']:,.1f} s, {costs[command]['memory']:.2f} GiB", highlight=False)

    count(DATA, _STAGES, DATA, name, str(data))
    count(TEXTS, _STAGES, TEXTS, str(config))
    steps, run_dir, model = place / "steps", place / "run", place / "model"
    count(STEPS, _STAGES, STEPS, str(config), str(steps), str(options.steps), makes=steps)
    where = ["--run-dir", str(run_dir)]
    if name in options.whole:
        count("fit", "trainer.task", "fit", "--config", str(config), *where, makes=run_dir)
    else:
        changes = (f"training.epoch_steps={options.steps}", "training.refit=false")
        given = [part for change in changes for part in ("--set", change)]
        count(SHORT_FIT, "trainer.task", "fit", "--config", str(config), *where, *given, makes=run_dir)
    count("evaluate", "trainer.task", "evaluate", *where)
    count("export", "trainer.task", "export", *where, "--model-dir", str(model), makes=model)
    costs["model"] = {"gib": sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) / 2**30}
    return costs


def _of_steps(steps: Mapping[str, Any], memory: float) -> dict[str, Any]:
    """Costs of the first step, of a later one, and of an epoch of these."""
    return {
        "first step": {"cpu": steps["before"], "memory": memory},
        "step": {"cpu": steps["step"], "examples_a_second": steps["examples"] / steps["step"]},
        "epoch": {"cpu": steps["step"] * steps["per_epoch"], "steps": steps["per_epoch"]},
    }


def _counted(arguments: list[str], log: Path) -> tuple[str, dict[str, float]]:
    """What a module printed, and its processor seconds (user and system) and peak memory (GiB)."""
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command_of(arguments), stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BabelrecError(f"{' '.join(arguments)} ended with {process.returncode}; see {log}.")
    return printed, {"cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / _GIB}


def bars(sizes: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """The bars of growth, and of the largest size that was measured."""
    largest = list(sizes)[-1]
    costs = sizes[largest]
    memory = max(each["memory"] for each in costs.values() if isinstance(each, Mapping) and "memory" in each)
    found = [
        at_most(f"{largest}: peak memory of a command, GiB", memory, _MOST_MEMORY),
        at_most(f"{largest}: processor seconds to the first step", costs["first step"]["cpu"], _FIRST_STEP),
        at_most(f"{largest}: processor minutes of an epoch", costs["epoch"]["cpu"] / 60, _EPOCH_MINUTES),
    ]
    for command, most in (("evaluate", _EVALUATE_MINUTES), ("export", _EXPORT_MINUTES)):
        minutes = costs[command]["cpu"] / 60 if command in costs else None
        found.append(at_most(f"{largest}: processor minutes of {command}", minutes, most))
    if len(sizes) > 1:
        limits = {DATA: _LINEAR, "first step": _LINEAR, "step": _CONSTANT, "evaluate": _LINEAR, "export": _LINEAR}
        found += [at_most(f"exponent of {name}", exponent(sizes, name), most) for name, most in limits.items()]
    return found


def exponent(sizes: Mapping[str, Mapping[str, Any]], command: str) -> float | None:
    """b of processor time = a * interactions^b, least squares of logarithms; None with fewer than two sizes."""
    points = [(each["interactions"], each[command]["cpu"]) for each in sizes.values() if command in each]
    if len(points) < 2:
        return None
    x, y = (np.log(column) for column in zip(*points, strict=True))
    slope = float(np.polyfit(x, y, 1)[0])
    assert math.isfinite(slope)
    return slope


def _page(result: Result) -> Page:
    commands = [DATA, TEXTS, "first step", "step", "epoch", "fit", SHORT_FIT, "evaluate", "export"]
    tables = []
    for title, key, form in (
        ("Processor seconds", "cpu", "{:,.3g}"),
        ("Peak memory, GiB", "memory", "{:.2f}"),
    ):
        rows = [
            [name, *(form.format(costs[each][key]) if key in costs.get(each, {}) else "" for each in commands)]
            for name, costs in result["sizes"].items()
        ]
        tables.append(Table(title, ("size", *commands), rows))
    return tables


if __name__ == "__main__":
    sys.exit(main())
