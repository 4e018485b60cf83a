"""The program around a measurement: command line, progress, result files, tables, exit code."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.harness.environment import environment
from benchmarks.harness.sources import any_source
from benchmarks.harness.store import RESULTS, write_json
from benchmarks.harness.table import Bar, Table, bars_table
from trainer.errors import BabelrecError
from trainer.files import atomic_file, data_mirror, write_text

MISSED, MISTAKE = 1, 2
"""Exit codes: a bar does not hold; an error of the user."""
Result = dict[str, Any]
Page = Sequence[Table | str]


def command_line(program: str, description: str | None) -> ArgumentParser:
    """A parser with ``--output``.

    Args:
        program: The module below ``benchmarks``; its last part names the result.
        description: The module's docstring, whose first line is shown.
    """
    assert description is not None
    name = program.rpartition(".")[2]
    parser = ArgumentParser(prog=f"python -m benchmarks.{program}", description=description.splitlines()[0])
    output = RESULTS / f"{name}.json"
    parser.add_argument("--output", type=Path, default=output, metavar="JSON", help="default: %(default)s")
    parser.set_defaults(benchmark=name)
    return parser


def add_any_source(parser: ArgumentParser) -> None:
    """Adds ``--any-source``, for programs that keep results with a digest of the source files."""
    parser.add_argument("--any-source", action="store_true", help="accept stored results of other source versions")


def add_data_folder(parser: ArgumentParser) -> None:
    """Adds ``--data``, the folder of the data sets that are not downloaded."""
    parser.add_argument(
        "--data",
        type=Path,
        default=data_mirror() or Path("../shared/datasets"),
        help="folder with kmrd-small/ and mind-sample/ (default: $BABELREC_DATA_MIRROR)",
    )


def progress(console: Console) -> Progress:
    """A bar with the number of steps done and the time taken."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def run(
    options: Namespace,
    measure: Callable[[Namespace, Console], Result | None],
    page: Callable[[Result], Page],
    *,
    packages: Sequence[str] = (),
    plots: Callable[[Result], dict[str, bytes]] = lambda result: {},
) -> int:
    """Measures, writes NAME.json, NAME.md and plots, and prints the same tables, with the bars last.

    Args:
        options: The command line, from a `command_line`.
        measure: Returns the figures, with the list ``bars`` if there are any; or None if there is nothing to write.
        page: Tables and paragraphs of a result.
        packages: Distributions whose versions are recorded.
        plots: Suffix of a file's name -> PNG.

    Returns:
        The exit code: 0, `MISSED` while a bar does not hold, or `MISTAKE`, which is printed.
    """
    console = Console(stderr=True)
    # Before the measurement: an edit while it runs is not the version that ran, and its load is not that of others.
    facts = environment(packages)
    try:
        with any_source(getattr(options, "any_source", False)):
            figures = measure(options, console)
            if figures is None:
                return 0
            bars: list[Bar] = figures.pop("bars", [])
            result = {"schema": 1, "benchmark": options.benchmark, "environment": facts, **figures, "bars": bars}
            parts = [*page(result), *([bars_table(bars)] if bars else [])]
            _write(options.output, result, parts, plots(result))
    except BabelrecError as error:
        console.print(f"[bold red]error[/] {error}", highlight=False)
        return MISTAKE
    for part in parts:
        if isinstance(part, Table):
            part.show(console)
        else:
            console.print(part, highlight=False, markup=False)
    console.print(f"Written to {options.output} and {options.output.with_suffix('.md')}")
    return 0 if all(bar["holds"] for bar in bars) else MISSED


def _write(output: Path, result: Result, parts: Page, plots: dict[str, bytes]) -> None:
    """JSON last: if it exists, so does the rest."""
    names = {suffix: f"{output.stem}{suffix}.png" for suffix in plots}
    for suffix, png in plots.items():
        with atomic_file(output.with_name(names[suffix])) as temporary:
            temporary.write_bytes(png)
    paragraphs = [part.markdown() if isinstance(part, Table) else part for part in parts]
    title = f"# {result['benchmark'].capitalize()}"
    write_text(
        output.with_suffix(".md"),
        "\n\n".join([title, *paragraphs, *(f"![{name}]({name})" for name in names.values())]) + "\n",
    )
    write_json(output, result)
