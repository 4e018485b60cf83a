"""Fonts for plots: labels may be in any language, and look the same on every machine.

matplotlib includes DejaVu Sans (Latin, Greek, Cyrillic, Arabic, Hebrew, Georgian, Armenian); ``font_files`` contains
subsets of Noto for Chinese, Japanese, Korean, Thai, the scripts of India, Khmer, Lao and emoji. matplotlib itself joins
Arabic letters and draws them from right to left.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Final

from matplotlib import font_manager

DIRECTORY: Final = Path(__file__).with_name("font_files")
_FIRST: Final = "DejaVu Sans"
_LONGEST_LABEL: Final = 48


@functools.cache
def font_families() -> tuple[str, ...]:
    """The families to draw text with, for matplotlib's `font.family`; the first one with a character draws it."""
    families = [_FIRST]
    for path in sorted(DIRECTORY.glob("*.[ot]tf")):
        font_manager.fontManager.addfont(path)
        entries = font_manager.fontManager.ttflist
        # Bold text uses the same files; otherwise each title would log that bold ones are missing.
        entries.append(dataclasses.replace(entries[-1], weight=700))
        families.append(entries[-1].name)
    return tuple(families)


@functools.cache
def _drawable() -> frozenset[str]:
    paths = (font_manager.findfont(name, fallback_to_default=False) for name in font_families())
    return frozenset(chr(code) for path in paths for code in font_manager.get_font(path).get_charmap())


def printable(text: str) -> str:
    """Drawable form of `text`: lines cut at 48 characters, `?` for characters without a font."""
    lines = ("".join(c if c in _drawable() else "?" for c in line) for line in text.split("\n"))
    return "\n".join(line if len(line) <= _LONGEST_LABEL else line[: _LONGEST_LABEL - 1] + "\u2026" for line in lines)
