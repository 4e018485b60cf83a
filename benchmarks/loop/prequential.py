"""P5 on MovieLens and KMRD: whether a model that is updated window by window beats a frozen one, and one retrained."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.store import RESULTS
from benchmarks.harness.table import Table, at_least, at_most
from serving.arguments import argument
from trainer.config.loading import load_config
from trainer.evaluation.protocols.registry import PROTOCOLS
from trainer.training.fit import fit

_CONFIGS: Final = {"movielens": Path("configs/movielens.yaml"), "kmrd": Path("configs/kmrd.yaml")}
_PROTOCOL: Final = "p5"
_METRIC: Final = "recall@10"


@dataclass(frozen=True)
class _Options(Options):
    data: list[str] = argument(
        "--data", nargs="+", choices=tuple(_CONFIGS), default=list(_CONFIGS), help="default: both"
    )
    overrides: list[str] = argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the runs")
    folder: Path = argument(
        "--folder", type=Path, default=RESULTS / "loop" / "p5", metavar="DIR", help="of the runs (default: %(default)s)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; returns the exit code."""
    return run("loop.prequential", __doc__, _Options, _run, _page, arguments, packages=("tensorflow", "numpy"))


def _run(options: _Options, console: Console) -> Result:
    found: dict[str, dict[str, Any]] = {}
    for name in options.data:
        console.print(name, highlight=False)
        # Models that an earlier evaluation has finished are used again.
        trained = fit(load_config(_CONFIGS[name], options.overrides), options.folder / name)
        report = PROTOCOLS[_PROTOCOL].evaluate(trained, None)
        assert report.prequential is not None  # of this protocol
        rows = {report.model: report.metrics, **{each.model: each.metrics for each in report.baselines}}
        found[name] = {
            "recall": {model: metrics[_METRIC].value for model, metrics in rows.items()},
            "over_frozen": report.prequential.ratios["frozen"][_METRIC].value,
            "over_retrained": report.prequential.ratios["retrained"][_METRIC].value,
            "share_of_processor_time": report.prequential.ratios["retrained"]["processor_seconds"].value,
        }
    bars = []
    for name, each in found.items():
        bars += [
            at_least(f"{name}: updated over frozen", each["over_frozen"], 1.05),
            at_least(f"{name}: updated over retrained", each["over_retrained"], 0.98),
            at_most(f"{name}: processor time of updates over retraining", each["share_of_processor_time"], 0.25),
        ]
    return {"data": found, "bars": bars}


def _page(result: Result) -> Page:
    models = list(next(iter(result["data"].values()))["recall"])
    rows = [[name, *(f"{each['recall'][model]:.4f}" for model in models)] for name, each in result["data"].items()]
    return [Table("Recall@10, mean over windows", ("data", *models), rows)]


if __name__ == "__main__":
    sys.exit(main())
