"""Recommendation quality of Babelrec and other recommenders: same data, same split, same evaluation code.

Every model is trained and measured for each seed. A finished measurement is kept in runs/bench/quality/results/
under a digest of its settings, data and sources, and is not repeated; a killed benchmark resumes where it stopped.
The table contains everything measured so far, also by earlier calls for other parts.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.baselines.config import BASELINES, CONFIGS
from benchmarks.baselines.search import search
from benchmarks.harness.runner import Result, StoringOptions, progress, run
from benchmarks.harness.store import SEEDS, Model, Store
from benchmarks.quality import plots, report
from benchmarks.quality.bars import check
from benchmarks.quality.suites import all_suites
from benchmarks.quality.suites.suite import Suite
from serving.arguments import argument
from trainer.errors import BabelrecError

_PACKAGES = ("tensorflow", "tensorflow-recommenders", "numpy", "scipy", "implicit", "cornac", "torch")


@dataclass(frozen=True)
class SuiteOptions(StoringOptions):
    """Options of a program that measures suites."""

    data: list[str] | None = argument("--data", nargs="+", help="only these data sets")
    protocol: list[str] | None = argument(
        "--protocol", nargs="+", help="only protocols with these prefixes, for example P1 or 'P2 few-shot'"
    )
    models: list[str] | None = argument("--models", nargs="+", help="only these models, for example babelrec EASE")
    seeds: list[int] | None = argument("--seeds", nargs="+", type=int, help=f"only these of the seeds {SEEDS}")
    show: bool = argument("--list", action="store_true", help="list the measurements and whether each is done")
    fresh: bool = argument("--fresh", action="store_true", help="repeat existing measurements")
    check: bool = argument("--check", action="store_true", help="run nothing: show the tables and bars measured so far")
    search: list[str] | None = argument(
        "--search",
        nargs="*",
        metavar="NAME",
        help="search the baselines' settings for configs/baselines/NAME.yaml (all files)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code: 0, 1 while a bar does not hold or is not measured, 2 for errors."""
    logging.basicConfig(level=logging.WARNING)
    return run(
        "quality",
        __doc__,
        SuiteOptions,
        _measure,
        lambda result: report.page(all_suites(), result["rows"]),
        arguments,
        packages=_PACKAGES,
        plots=lambda result: plots.plots(all_suites(), result["rows"]),
    )


def _measure(options: SuiteOptions, console: Console) -> Result | None:
    folder = options.output.parent / "quality"
    if options.search is not None:
        for name in options.search or sorted(path.stem for path in CONFIGS.glob("*.yaml")):
            search(name, options.models or list(BASELINES), folder / "search", console)
        return None
    suites, store = all_suites(), Store(folder / "results")
    todo = selected(suites, options)
    if options.show:
        for suite, model, seed in todo:
            state = "measured" if store.find(model, seed) is not None else "to be run"
            print(f"{suite.data:16} {suite.protocol:18} {model.name:40} seed {seed:3} {state}")
        return None
    if not options.check:
        run_missing(todo, store, options.fresh, console)
    rows = [row for suite in suites for row in report.rows_of(suite, store)]
    return {"rows": rows, "bars": check(rows)}


def selected(suites: Sequence[Suite], options: SuiteOptions) -> list[tuple[Suite, Model, int]]:
    """The measurements that the options name.

    Raises:
        BabelrecError: They name something unknown, or nothing.
    """
    for wanted, known in (
        (options.data, {suite.data for suite in suites}),
        (options.models, {model.name for suite in suites for model in suite.models}),
    ):
        for name in wanted or ():
            if name not in known:
                raise BabelrecError(f"Unknown name {name!r}; available: {', '.join(sorted(known))}.")
    found = [
        (suite, model, seed)
        for suite in suites
        if options.data is None or suite.data in options.data
        if options.protocol is None or suite.protocol.startswith(tuple(options.protocol))
        for model in suite.models
        if options.models is None or model.name in options.models
        for seed in model.seeds
        if options.seeds is None or seed in options.seeds
    ]
    if not found and not options.check:
        raise BabelrecError("Nothing matches --data, --protocol, --models and --seeds; --list shows all measurements.")
    return found


def run_missing(todo: Sequence[tuple[Suite, Model, int]], store: Store, fresh: bool, console: Console) -> None:
    """Makes the measurements that are not stored, or all with ``fresh``."""
    with progress(console) as bar:
        task = bar.add_task("", total=len(todo))
        for suite, model, seed in todo:
            bar.update(task, description=f"{suite.data} {suite.protocol}: {model.name}, seed {seed}")
            if fresh or store.find(model, seed) is None:
                store.measure(model, seed)
            bar.advance(task)
