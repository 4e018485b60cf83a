"""Recommendation quality of Babelrec and other recommenders: same data, same split, same evaluation code.

Every model is trained and measured for each seed. A finished measurement is kept in runs/bench/quality/results/
under a digest of its settings, data and sources, and is not repeated; a killed benchmark resumes where it stopped.
The table contains everything measured so far, also by earlier calls for other parts.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks import quality_plots, quality_report
from benchmarks.baselines.config import BASELINES, CONFIGS
from benchmarks.baselines.search import search
from benchmarks.environment import environment, write_json
from benchmarks.quality_bars import verdicts
from benchmarks.quality_store import Row, Store
from benchmarks.suites import all_suites
from benchmarks.suites.ours import accept_any_source
from benchmarks.suites.suite import SEEDS, Model, Suite
from trainer.errors import BabelrecError
from trainer.files import atomic_file, write_text

_PACKAGES = ("tensorflow", "tensorflow-recommenders", "numpy", "scipy", "implicit", "cornac", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code: 0, 1 if --check finds a bar that is not met, 2 for errors."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    logging.basicConfig(level=logging.WARNING)
    try:
        if options.search is not None:
            for name in options.search or sorted(path.stem for path in CONFIGS.glob("*.yaml")):
                search(name, options.models or list(BASELINES), options.output.parent / "quality/search", console)
            return 0
        return _benchmark(options, console)
    except BabelrecError as error:
        console.print(f"[bold red]error[/] {error}", highlight=False)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", help="only these data sets")
    parser.add_argument(
        "--protocol", nargs="+", help="only protocols with these prefixes, for example P1 or 'P2 few-shot'"
    )
    parser.add_argument("--models", nargs="+", help="only these models, for example babelrec EASE")
    parser.add_argument("--seeds", nargs="+", type=int, help=f"only these of the seeds {SEEDS}")
    parser.add_argument("--list", action="store_true", help="show what there is to run, and what is already measured")
    parser.add_argument("--fresh", action="store_true", help="repeat existing measurements")
    parser.add_argument("--any-source", action="store_true", help="accept measurements of other source versions")
    parser.add_argument("--check", action="store_true", help="run nothing; fail if a bar is not met or not measured")
    parser.add_argument(
        "--search",
        nargs="*",
        metavar="NAME",
        help="search the baselines' settings for configs/baselines/NAME.yaml (all files)",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/bench/quality.json"), help="default: %(default)s")
    return parser


def _benchmark(options: argparse.Namespace, console: Console) -> int:
    if options.any_source:
        accept_any_source()
    suites = all_suites()
    store = Store(options.output.parent / "quality/results", any_source=options.any_source)
    todo = _selected(suites, options)
    if options.list:
        for suite, model, seed in todo:
            state = "measured" if store.find(model, seed) is not None else "to be run"
            console.print(f"{suite.data:16} {suite.protocol:18} {model.name:40} seed {seed:3} {state}", highlight=False)
        return 0
    if not options.check:
        _run(todo, store, options.fresh, console)
    rows = [row for suite in suites for row in store.rows(suite, suite.models)]
    bars = verdicts(rows)
    _write(options.output, suites, rows, console)
    quality_report.show(suites, rows, bars, console)
    console.print(f"Written to {options.output}")
    return int(options.check and not all(bar.met for bar in bars))


def _selected(suites: Sequence[Suite], options: argparse.Namespace) -> list[tuple[Suite, Model, int]]:
    for wanted, known in (
        (options.data, {suite.data for suite in suites}),
        (options.models, {model.name for suite in suites for model in suite.models}),
    ):
        for name in wanted or ():
            if name not in known:
                raise BabelrecError(f"There is no {name!r}; available: {', '.join(sorted(known))}.")
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
        raise BabelrecError("Nothing matches --data, --protocol, --models and --seeds; --list shows what there is.")
    return found


def _run(todo: Sequence[tuple[Suite, Model, int]], store: Store, fresh: bool, console: Console) -> None:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task("", total=len(todo))
        for suite, model, seed in todo:
            bar.update(task, description=f"{suite.data} {suite.protocol}: {model.name}, seed {seed}")
            if fresh or store.find(model, seed) is None:
                store.measure(model, seed)
            bar.advance(task)


def _write(output: Path, suites: Sequence[Suite], rows: Sequence[Row], console: Console) -> None:
    """JSON last: if it exists, so does the rest."""
    bars = verdicts(rows)
    pictures = {"": quality_plots.overview(suites, rows), "-few-shot": quality_plots.few_shot(rows)}
    names = []
    for suffix, png in pictures.items():
        if png is not None:
            names.append(f"{output.stem}{suffix}.png")
            with atomic_file(output.with_name(names[-1])) as temporary:
                temporary.write_bytes(png)
    write_text(output.with_suffix(".md"), quality_report.markdown(suites, rows, bars, names))
    result = {
        "schema": 1,
        "benchmark": "quality",
        "environment": environment(_PACKAGES),
        "rows": list(rows),
        "bars": [bar.as_json() for bar in bars],
    }
    write_json(output, result)


if __name__ == "__main__":
    sys.exit(main())
