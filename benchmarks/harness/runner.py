"""The program around a measurement: command line, progress, result files, tables, exit code."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.harness.environment import environment
from benchmarks.harness.sources import any_source
from benchmarks.harness.store import RESULTS, write_json
from benchmarks.harness.table import Bar, Table, bars_table
from serving.arguments import add_arguments, argument, options_of
from trainer.errors import BabelrecError
from trainer.files import atomic_file, data_mirror, write_text

MISSED, MISTAKE = 1, 2
"""Exit codes: a bar does not hold; an error of the user."""
Result = dict[str, Any]
Page = Sequence[Table | str]


@dataclass(frozen=True)
class Options:
    """Options common to all programs; a program adds its own fields (`serving.arguments`).

    Attributes:
        output: The JSON file of the result.
    """

    output: Path = argument("--output", type=Path, metavar="JSON", help="default: %(default)s")


@dataclass(frozen=True)
class StoringOptions(Options):
    """Options of programs that keep results with a digest of the source files."""

    any_source: bool = argument(
        "--any-source", action="store_true", help="accept stored results of other source versions"
    )


T = TypeVar("T", bound=Options)


def data_folder() -> Path:
    """A field for ``--data``, the folder of the data sets that are not downloaded."""
    folder: Path = argument(
        "--data",
        type=Path,
        default=data_mirror() or Path("../shared/datasets"),
        help="folder with kmrd-small/ and mind-sample/ (default: $BABELREC_DATA_MIRROR)",
    )
    return folder


def progress(console: Console) -> Progress:
    """A bar with the number of steps done and the time taken."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def run(
    program: str,
    description: str | None,
    kind: type[T],
    measure: Callable[[T, Console], Result | None],
    page: Callable[[Result], Page],
    arguments: Sequence[str] | None,
    *,
    packages: Sequence[str] = (),
    plots: Callable[[Result], dict[str, bytes]] = lambda result: {},
) -> int:
    """Measures, writes NAME.json, NAME.md and plots, and prints the same tables, with the bars last.

    Args:
        program: The module below ``benchmarks``; its last part names the result.
        description: The module's docstring, whose first line is shown.
        kind: The options.
        measure: Returns the figures, with the list ``bars`` if there are any; or None if there is nothing to write.
        page: Tables and paragraphs of a result.
        arguments: The command line; None: that of the process.
        packages: Distributions whose versions are recorded.
        plots: Suffix of a file's name -> PNG.

    Returns:
        The exit code: 0, `MISSED` while a bar does not hold, or `MISTAKE`, which is printed.
    """
    assert description is not None
    name = program.rpartition(".")[2]
    parser = ArgumentParser(prog=f"python -m benchmarks.{program}", description=description.splitlines()[0])
    add_arguments(parser, kind)
    parser.set_defaults(output=RESULTS / f"{name}.json")
    options = options_of(kind, parser.parse_args(arguments))
    console = Console(stderr=True)
    # Recorded before the measurement: the code may be edited while it runs, and its own load must not be counted.
    facts = environment(packages)
    try:
        with any_source(isinstance(options, StoringOptions) and options.any_source):
            figures = measure(options, console)
            if figures is None:
                return 0
            bars: list[Bar] = figures.pop("bars", [])
            result = {"schema": 1, "benchmark": name, "environment": facts, **figures, "bars": bars}
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
