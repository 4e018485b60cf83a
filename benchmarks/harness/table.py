"""Tables of results on the terminal and in Markdown, and the bars that figures must reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text


class Bar(TypedDict):
    """A bar and whether it holds, as in the JSON.

    Attributes:
        name: What is compared.
        value: The figure; None if it was not measured.
        comparison: The required relation of the value to the bar.
        bar: The bar; None if it depends on a figure that was not measured.
        holds: False without a value or a bar.
    """

    name: str
    value: float | None
    comparison: Literal[">=", "<="]
    bar: float | None
    holds: bool


def at_least(name: str, value: float | None, bar: float | None) -> Bar:
    """A bar that the figure must reach."""
    holds = value is not None and bar is not None and value >= bar
    return {"name": name, "value": value, "comparison": ">=", "bar": bar, "holds": holds}


def at_most(name: str, value: float | None, bar: float | None) -> Bar:
    """A bar that the figure must not exceed."""
    holds = value is not None and bar is not None and value <= bar
    return {"name": name, "value": value, "comparison": "<=", "bar": bar, "holds": holds}


@dataclass(frozen=True)
class Table:
    """Cells as text; a cell between ``**`` is bold.

    Attributes:
        title: One line; may be empty.
        columns: The header. The first column is left-aligned, the others right-aligned.
        rows: Cells of each row.
        colours: Colour of each row on a terminal; empty: none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    colours: Sequence[str] = ()

    def markdown(self) -> str:
        """The table below its title."""
        ruled = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        lines = "\n".join("| " + " | ".join(line) + " |" for line in ruled)
        return f"## {self.title}\n\n{lines}" if self.title else lines

    def show(self, console: Console) -> None:
        """Prints the table."""
        table = RichTable(title=self.title or None, box=SIMPLE_HEAD, title_justify="left", collapse_padding=True)
        for place, column in enumerate(self.columns):
            table.add_column(column, justify="right" if place else "left", overflow="fold")
        for row, colour in zip(self.rows, self.colours or [""] * len(self.rows), strict=True):
            table.add_row(*(_plain(cell) for cell in row), style=colour)
        console.print(table)


def bars_table(bars: Sequence[Bar]) -> Table:
    """One row per bar."""
    rows = [[bar["name"], _number(bar["value"]), bar["comparison"], _number(bar["bar"]), _verdict(bar)] for bar in bars]
    colours = ["green" if bar["holds"] else "dim" if bar["value"] is None else "bold red" for bar in bars]
    return Table("Bars", ("figure", "value", "", "bar", "holds"), rows, colours)


def _verdict(bar: Bar) -> str:
    return "not measured" if bar["value"] is None or bar["bar"] is None else "yes" if bar["holds"] else "NO"


def _number(value: float | None) -> str:
    """Four decimals for metrics, none for counts."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _plain(cell: str) -> Text:
    is_bold = cell.startswith("**") and cell.endswith("**")
    return Text(cell.strip("*"), style="bold") if is_bold else Text(cell)
