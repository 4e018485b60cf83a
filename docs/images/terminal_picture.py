"""Renders terminal output as a picture: ``python docs/images/terminal_picture.py TEXT PNG``.

TEXT holds the output with its ANSI colours; Debian's ``chromium`` draws it. Each run of text in another script starts
at its own column, so that tables stay straight whatever the width of Chinese, Thai or Arabic in its font. The fonts are
those of the plots.
"""

import base64
import html
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from fontTools.ttLib import TTFont
from rich.cells import cell_len
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

_FONTS = Path(__file__).resolve().parents[2] / "trainer/evaluation/report/font_files"
# Latin, Cyrillic and box-drawing characters are drawn directly; others form separate runs, including blanks in between.
_PLAIN = r"\x20-\x7e\xa0-\u052f\u2010-\u205e\u2500-\u25ff"
_RUNS = re.compile(rf"[{_PLAIN}]+|[^{_PLAIN}](?:[^{_PLAIN}]| +(?=[^{_PLAIN}]))*")
# In pixels; a letter of DejaVu Sans Mono is 0.602 em wide.
_SIZE, _LINE = 15, 18
_CELL = _SIZE * 0.602


def page(text: str) -> tuple[str, int, int]:
    """The output as HTML, with its width and height in pixels."""
    console = Console(width=500)
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    spans = []
    used: set[Path] = set()
    columns = 0
    for row, line in enumerate(lines):
        column = 0
        for segment in Text.from_ansi(line).render(console):
            look = segment.style.get_html_style(DIMMED_MONOKAI) if segment.style else ""
            for run in _RUNS.findall(segment.text.rstrip("\n")):
                style = look
                # A wide character has two columns; its font gives it one em, which is less.
                spacing = (
                    f"letter-spacing:{2 * _CELL - _SIZE:.2f}px;"
                    if cell_len(run.replace(" ", "")) == 2 * len(run)
                    else ""
                )
                font = _font(run)
                if font is not None:
                    used.add(font)
                    style += f";font-family:{font.stem}"
                place = f"left:{column * _CELL:.2f}px;top:{row * _LINE}px;{spacing}{style}"
                spans.append(f'<span style="{place}">{html.escape(run)}</span>')
                column += cell_len(run)
        columns = max(columns, column)
    # Inside the page, and no more than are used: the picture would not wait for others.
    faces = "".join(
        f'@font-face {{font-family:"{font.stem}";src:url(data:font/otf;base64,{_base64(font)})}}' for font in used
    )
    width, height = round(columns * _CELL) + 48, len(lines) * _LINE + 48
    style = (
        f"{faces} body {{margin:0;background:#1e1e1e}} div {{position:absolute;left:24px;top:24px;color:#d8d8d8;"
        f"font:{_SIZE}px DejaVu Sans Mono;line-height:{_LINE}px}} "
        "span {position:absolute;white-space:pre;unicode-bidi:isolate}"
    )
    return f'<meta charset="utf-8"><style>{style}</style><div>{"".join(spans)}</div>', width, height


def _font(run: str) -> Path | None:
    """The font of the plots that has the run's first character; None for DejaVu's."""
    if re.match(rf"[{_PLAIN}\u0590-\u06ff]", run):
        return None
    return next((path for path in sorted(_FONTS.glob("*.[ot]tf")) if ord(run[0]) in TTFont(path).getBestCmap()), None)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def main() -> None:
    """Reads the text and writes the picture."""
    source, picture = map(Path, sys.argv[1:])
    content, width, height = page(source.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        document = Path(directory) / "page.html"
        document.write_text(content, encoding="utf-8")
        options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=10000"]
        options += [f"--user-data-dir={directory}/profile", f"--window-size={width},{height}"]
        options += [f"--screenshot={picture.resolve()}", document.as_uri()]
        subprocess.run(["chromium", *options], check=True, stderr=subprocess.DEVNULL, timeout=120)


if __name__ == "__main__":
    main()
