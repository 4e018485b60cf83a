"""The report as a self-contained HTML page."""

import base64
import re
from html import escape
from pathlib import Path
from typing import Final

from trainer import __version__
from trainer.data.description import Description
from trainer.data.findings import findings
from trainer.evaluation.data_report.plots import render
from trainer.evaluation.data_report.rows import Block, blocks, overview
from trainer.files import write_text

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { margin-bottom: 0.2rem; } h2 { margin: 2.2rem 0 0.4rem; font-size: 1.15rem; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: 0.15rem 1.2rem 0.15rem 0; }
th { font-weight: 600; border-bottom: 1px solid #bbb; } td { border-bottom: 1px solid #eee; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.note { color: #555; white-space: pre-line; }
.check { background: #fff8e6; padding: 0.6rem 1.2rem; border-radius: 6px; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-end; } figure { margin: 0; }
figcaption { font-weight: 600; } img { max-width: 100%; height: auto; }
footer { margin-top: 3rem; color: #777; font-size: 0.85rem; }
"""


def write_page(facts: Description, file: Path) -> None:
    """Writes the page, atomically; its images are embedded and nothing is fetched.

    Args:
        facts: The facts to report.
        file: Output file; its folder is created.
    """
    write_text(file, _page(facts))


def _page(facts: Description) -> str:
    title = f"Data of {facts.name}"
    sentences = "".join(f"<li>{_text(sentence)}</li>" for sentence in findings(facts))
    parts = [
        f"<h1>{_text(title)}</h1>",
        "<table>",
        *(f"<tr><td>{_text(label)}</td><td>{_text(text)}</td></tr>" for label, text in overview(facts)),
        "</table>",
        f'<h2>What to check</h2><ul class="check">{sentences}</ul>' if sentences else "",
        '<h2>Pictures</h2><div class="pictures">',
        *(_picture(name, png) for name, png in render(facts).items()),
        "</div>",
        *(_table(block) for block in blocks(facts)),
        f"<footer>Babelrec {escape(__version__)}, <code>trainer.task data</code></footer>",
    ]
    # The policy keeps markup in a title from loading anything, should escaping ever be missed.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _table(block: Block) -> str:
    kinds = [' class="number"' if number else "" for number in block.numbers]
    head = "".join(f"<th{kind}>{_text(name)}</th>" for name, kind in zip(block.header, kinds, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>\n"
        for row in block.rows
    )
    note = f'<p class="note">{_text(block.note)}</p>' if block.note else ""
    return f"<h2>{_text(block.title)}</h2>\n<table><tr>{head}</tr>\n{rows}</table>{note}"


def _picture(name: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    # Drawn at 150 dpi: shown at half its size, it is sharp on high-density screens.
    width = int.from_bytes(png[16:20], "big") * 96 // 150
    return (
        f"<figure><figcaption>{_text(name)}</figcaption>"
        f'<img alt="{escape(name)}" width="{width}" src="data:image/png;base64,{data}"></figure>'
    )


def _text(text: str) -> str:
    """Escaped, with code in backticks, and isolated from the surrounding text direction: a title may be Arabic."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return f"<bdi>{marked}</bdi>"
