"""Scenes (shops, markets, news, films, stays): Babelrec and tuned baselines, with the same split and metrics.

Measurements are kept as those of the quality benchmark are, in the same folder, so that what both ask is measured
once; a killed benchmark resumes where it stopped.
"""

import logging
from collections.abc import Sequence

from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.baselines.config import BASELINES, CONFIGS
from benchmarks.baselines.search import search
from benchmarks.harness.runner import Result, run
from benchmarks.harness.store import Store
from benchmarks.harness.table import Table
from benchmarks.quality import report
from benchmarks.quality.comparison import SuiteOptions, run_missing, selected
from benchmarks.scenes.bars import check, summary
from benchmarks.scenes.suites import scene_suites

_PACKAGES = ("tensorflow", "tensorflow-recommenders", "numpy", "scipy", "implicit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code: 0, 1 while a bar does not hold or is not measured, 2 for errors."""
    logging.basicConfig(level=logging.WARNING)
    return run("scenes", __doc__, SuiteOptions, _measure, _page, arguments, packages=_PACKAGES)


def _measure(options: SuiteOptions, console: Console) -> Result | None:
    folder = options.output.parent / "quality"
    if options.search is not None:
        names = options.search or [f"scenes/{path.stem}" for path in sorted((CONFIGS / "scenes").glob("*.yaml"))]
        for name in names:
            search(name, options.models or list(BASELINES), folder / "search", console)
        return None
    suites, store = scene_suites(), Store(folder / "results")
    todo = selected(suites, options)
    if options.show:
        for suite, model, seed in todo:
            state = "measured" if store.find(model, seed) is not None else "to be run"
            print(f"{suite.data:16} {suite.protocol:12} {model.name:40} seed {seed:3} {state}")
        return None
    if not options.check:
        run_missing(todo, store, options.fresh, console)
    rows = [row for suite in suites for row in report.rows_of(suite, store)]
    return {"rows": rows, "bars": check(rows)}


def _page(result: Result) -> list[Table | str]:
    return [summary(result["rows"]), *report.page(scene_suites(), result["rows"])]
