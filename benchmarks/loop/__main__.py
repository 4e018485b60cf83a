"""All figures of the model that learns on: a fortnight, P5, the gate, roll-outs, kills, and the service's intervals.

Each part is a program of its own (`python -m benchmarks.loop.PART`), whose result is kept in ``runs/bench/loop``: parts
that are there are not measured again, unless with ``--again``.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.store import RESULTS
from benchmarks.harness.table import Table
from serving.arguments import argument
from trainer.errors import BabelrecError

PARTS: Final = ("gate_faults", "rollout_power", "metrics_coverage", "kills", "fortnight", "prequential")
_MISSED: Final = 1


@dataclass(frozen=True)
class _Options(Options):
    only: list[str] = argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    again: bool = argument("--again", action="store_true", default=False, help="measure what is there as well")
    folder: Path = argument(
        "--folder",
        type=Path,
        default=RESULTS / "loop",
        metavar="DIR",
        help="of the parts' results (default: %(default)s)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; returns the exit code."""
    return run("loop", __doc__, _Options, _run, _page, arguments)


def _run(options: _Options, console: Console) -> Result:
    parts: dict[str, Any] = {}
    for name in PARTS:
        file = options.folder / f"{name}.json"
        if name in options.only and (options.again or not file.exists()):
            console.rule(name)
            # A process of its own: what a part holds in memory is not the next one's.
            command = [sys.executable, "-m", f"benchmarks.loop.{name}", "--output", str(file)]
            status = subprocess.run(command, check=False).returncode
            if status not in (0, _MISSED):
                raise BabelrecError(f"benchmarks.loop.{name} ended with {status}; see its message above.")
        if file.exists():
            parts[name] = json.loads(file.read_text(encoding="utf-8"))
    missing = [name for name in PARTS if name not in parts]
    if missing:
        console.print(f"Not measured: {', '.join(missing)}.", highlight=False)
    bars = [bar | {"name": f"{name}: {bar['name']}"} for name, part in parts.items() for bar in part["bars"]]
    return {"parts": {name: part["environment"] for name, part in parts.items()}, "bars": bars}


def _page(result: Result) -> Page:
    rows = [[name, str(facts.get("commit", "")), str(facts.get("time", ""))] for name, facts in result["parts"].items()]
    return [Table("Parts", ("part", "commit", "time"), rows)]


if __name__ == "__main__":
    sys.exit(main())
