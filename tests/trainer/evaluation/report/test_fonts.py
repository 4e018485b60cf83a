"""Text of plots in many languages: complete, joined, in the right direction, and without warnings."""

import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from fontTools.ttLib import TTFont
from matplotlib import get_data_path
from matplotlib.figure import Figure
from matplotlib.image import imread

from trainer.evaluation.report.fonts import DIRECTORY, font_families, printable
from trainer.evaluation.report.style import png

PHRASES = {
    "en": "science fiction in outer space",
    "de": "Größenwahn, naïve Œuvres, ŁÓDŹ, İstanbul, ñandú",
    "ru": "научная фантастика в открытом космосе",
    "el": "επιστημονική φαντασία",
    "zh": "外太空科幻片",
    "zh-TW": "外太空科幻電影，堃峯喆",
    "ja": "宇宙を舞台にしたSF、カタカナ",
    "ko": "우주를 배경으로 한 공상 과학 뷁",
    "th": "นิยายวิทยาศาสตร์ในอวกาศ",
    "ar": "خيال علمي في الفضاء الخارجي ٢٠٢٦",
    "fa": "داستان علمی‌تخیلی پچژگ",
    "he": "מדע בדיוני בחלל",
    "hi": "अंतरिक्ष में विज्ञान कथा",
    "bn": "মহাকাশে কল্পবিজ্ঞান",
    "ta": "விண்வெளி அறிவியல் புனைகதை",
    "te": "అంతరిక్షంలో సైన్స్ ఫిక్షన్",
    "gu": "અવકાશમાં વિજ્ઞાન",
    "pa": "ਪੁਲਾੜ ਵਿੱਚ ਵਿਗਿਆਨ",
    "km": "ប្រលោមលោកវិទ្យាសាស្ត្រ",
    "lo": "ນິຍາຍວິທະຍາສາດ",
    "ka": "სამეცნიერო ფანტასტიკა",
    "hy": "գիտական ֆանտաստիկա",
    "emoji": "🚀🎬❤️👩‍🚀🇰🇷1️⃣😀🛒",
}


@pytest.fixture(autouse=True)
def _not_a_word(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A missing glyph is a warning, a missing weight a line in the log."""
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        yield
    assert not caplog.records


def _drawn(text: str, *, bold: bool = False) -> npt.NDArray[np.bool_]:
    """Ink of a line of text, cut to its bounds: bool [rows, columns]."""

    def draw() -> Figure:
        figure = Figure(figsize=(8, 1))
        figure.text(0.02, 0.4, printable(text), fontsize=20, fontweight="bold" if bold else "normal")
        return figure

    picture = png(draw)
    assert picture is not None
    ink = imread(io.BytesIO(picture))[..., 0] < 0.5
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    cut: npt.NDArray[np.bool_] = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cut


@pytest.mark.parametrize("bold", [False, True], ids=["plain", "bold"])
@pytest.mark.parametrize("language", PHRASES)
def test_text_is_drawn_whole_and_in_silence(language: str, bold: bool) -> None:
    text = PHRASES[language]
    assert printable(text) == text
    assert _drawn(text, bold=bold).sum() > 200


def test_every_character_is_in_a_font_that_comes_along() -> None:
    """Independent of this machine's fonts: checked with fontTools, which matplotlib does not use to draw."""
    covered = set(TTFont(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf").getBestCmap())
    for path in DIRECTORY.glob("*.[ot]tf"):
        covered |= TTFont(path).getBestCmap().keys()
    for text in PHRASES.values():
        assert {ord(character) for character in text} <= covered
    # All Hangul syllables; the unified ideographs of the first block up to those added since Unicode 12.
    assert set(range(0xAC00, 0xD7A4)) <= covered
    assert set(range(0x4E00, 0x9FF0)) <= covered


def test_no_font_of_the_machine_is_used() -> None:
    assert font_families()[0] == "DejaVu Sans"
    assert all(name.startswith("Babelrec Plots ") for name in font_families()[1:])
    assert len(font_families()) == 1 + len(list(DIRECTORY.glob("*.[ot]tf")))


def test_different_syllables_look_different() -> None:
    """Boxes for missing glyphs would all look the same."""
    for pair in ("가나", "中文", "กข", "🚀🎬"):
        one, other = (_drawn(character) for character in pair)
        assert one.shape != other.shape or (one != other).any()


def test_arabic_letters_are_joined() -> None:
    # Alef alone, beh at the beginning and jeem at the end of a joined group, spelt out as Unicode's presentation forms.
    joined, spelt_out = _drawn("ابج"), _drawn("\ufe8d\ufe91\ufe9e")
    assert joined.shape == spelt_out.shape
    assert (joined == spelt_out).all()


def test_arabic_runs_from_right_to_left() -> None:
    # Seen, wide and low, then alef, narrow and tall: the tall one comes last, on the left.
    ink = _drawn("سا")
    quarter = ink.shape[1] // 4
    left, right = (np.flatnonzero(part.any(axis=1)) for part in (ink[:, :quarter], ink[:, -quarter:]))
    assert left[0] < right[0] - 10


def test_the_fonts_bring_their_licence() -> None:
    licence = (DIRECTORY / "OFL.txt").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence
    for path in DIRECTORY.glob("*.[ot]tf"):
        names = TTFont(path)["name"]
        assert "SIL Open Font License" in str(names.getDebugName(13))
        notice = str(names.getDebugName(0)).split(". ")[0]
        assert notice in licence, f"{path.name}: {notice}"
