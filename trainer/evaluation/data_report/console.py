"""The report in the terminal."""

from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.data.description import Description
from trainer.data.findings import findings
from trainer.evaluation.data_report.rows import Block, blocks, overview

_MOST_ROWS: Final = 40


def print_description(facts: Description, console: Console | None = None) -> None:
    """Prints the facts and what to check."""
    console = console or Console()
    table = Table(title=facts.name, show_header=False, title_justify="left")
    for label, text in overview(facts):
        # As text: content of the user's files must not be read as markup.
        table.add_row(label, Text(text))
    console.print(table)
    for block in blocks(facts):
        _print(block, console)
    found = findings(facts)
    if found:
        console.print(Text("What to check", style="bold"))
        for sentence in found:
            console.print(Text(f"* {sentence}"))


def _print(block: Block, console: Console) -> None:
    table = Table(title=block.title, box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    for name, number in zip(block.header, block.numbers, strict=True):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in block.rows[:_MOST_ROWS]:
        table.add_row(*(Text(cell) for cell in row))
    if len(block.rows) > _MOST_ROWS:
        table.caption = f"and {len(block.rows) - _MOST_ROWS} more, on the page"
    console.print(table)
    if block.note:
        console.print(Text(f"{block.note}\n"))
