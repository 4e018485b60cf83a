"""Fonts for plots: labels may be in any script, and a machine has the fonts that it has."""

import functools

from matplotlib import font_manager

# Drawn from in this order, where installed; matplotlib ships the first one.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans KR",
    "WenQuanYi Zen Hei",
    "NanumGothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "PingFang SC",
    "Noto Sans Thai",
    "Noto Sans Arabic",
    "Arial Unicode MS",
)
_LONGEST_LABEL = 48


@functools.cache
def font_families() -> tuple[str, ...]:
    """The installed families to draw text with, for matplotlib's `font.family`."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in _FAMILIES if name in installed)


@functools.cache
def _drawable() -> frozenset[str]:
    paths = (font_manager.findfont(name) for name in font_families())
    return frozenset(chr(code) for path in paths for code in font_manager.get_font(path).get_charmap())


def printable(text: str) -> str:
    """`text` as it can be drawn: lines cut at 48 characters, `?` for what no installed font has."""
    lines = ("".join(c if c in _drawable() else "?" for c in line) for line in text.split("\n"))
    return "\n".join(line if len(line) <= _LONGEST_LABEL else line[: _LONGEST_LABEL - 1] + "\u2026" for line in lines)
