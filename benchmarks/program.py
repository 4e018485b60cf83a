"""Common command-line code around a benchmark's measurement."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from rich.console import Console

from benchmarks.environment import write_json
from trainer.errors import BabelrecError
from trainer.files import write_text

MISTAKE = 2


def measure_and_write(
    options: Namespace,
    measure: Callable[[Namespace, Console], dict[str, Any]],
    show: Callable[[dict[str, Any], Console], None],
    page: Callable[[dict[str, Any]], str] | None = None,
) -> int:
    """Runs the measurement, writes the JSON and a Markdown page next to it, and shows the result.

    Args:
        options: The command line; ``options.output`` is the JSON's path.
        measure: Returns the result.
        show: Prints the result.
        page: The Markdown of a result; None writes none.

    Returns:
        The exit code: 0, or 2 for a user error, which is printed.
    """
    console = Console(stderr=True)
    try:
        result = measure(options, console)
    except BabelrecError as error:
        console.print(f"[bold red]error[/] {error}", highlight=False)
        return MISTAKE
    written = [options.output]
    write_json(options.output, result)
    if page is not None:
        written.append(options.output.with_suffix(".md"))
        write_text(written[-1], page(result))
    show(result, console)
    console.print(f"Written to {' and '.join(map(str, written))}")
    return 0
