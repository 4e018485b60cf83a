"""Builds the fonts in ``font_files`` from Noto's: ``python -m trainer.evaluation.report.make_fonts DIRECTORY``.

They are unhinted subsets under their own names, so that installed Noto fonts are never mistaken for them.
The directory contains the files of `SOURCES`, as published by the Noto project (https://github.com/notofonts).
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fontTools import subset
from fontTools.ttLib import TTCollection, TTFont

from trainer.evaluation.report.fonts import DIRECTORY

# Punctuation and kana, Bopomofo and Hangul letters, unified ideographs, Hangul syllables, compatibility ideographs of
# Korean, wide and narrow forms.
_CJK_BLOCKS: Final = (
    (0x3000, 0x3190),
    (0x31F0, 0x3200),
    (0x4E00, 0xA000),
    (0xAC00, 0xD7A4),
    (0xF900, 0xFA2E),
    (0xFF00, 0xFFF0),
)


@dataclass(frozen=True, slots=True)
class Source:
    """A font of the Noto project.

    Attributes:
        file: Its file name.
        sha256: Its SHA-256.
        script: Script, which names the resulting family.
        number: Its index in a collection (TTC).
        blocks: Ranges of code points to keep, ends excluded; None: all.
    """

    file: str
    sha256: str
    script: str
    number: int | None = None
    blocks: tuple[tuple[int, int], ...] | None = None


SOURCES: Final = (
    Source(
        "NotoSansCJK-Regular.ttc",
        "b76b0433203017ca80401b2ee0dd69350349871c4b19d504c34dbdd80541690a",
        "CJK",
        2,
        _CJK_BLOCKS,
    ),
    Source("NotoSansThai-Regular.ttf", "dfbd5ed0f1e68c3cbc51aa08f646d1ab0e68e7c4ceab70a69e465225ff701f93", "Thai"),
    Source(
        "NotoSansDevanagari-Regular.ttf",
        "79a470365ccb210fa3c7d8d8ff2e005ef9d983cfd067f735a0caf7e15070ca9f",
        "Devanagari",
    ),
    Source(
        "NotoSansBengali-Regular.ttf", "9bb35b3547829ecc42041b6017e87fd4c5f1da1edcd00f59171777050f346018", "Bengali"
    ),
    Source(
        "NotoSansGujarati-Regular.ttf", "4468a3a24516831874fb4a867b760a22257944584e478d32a97e3c4d4bfc6400", "Gujarati"
    ),
    Source(
        "NotoSansGurmukhi-Regular.ttf", "1db960ff6f506a98f5b3ece78f54618388c6187e7edf8ceee5ab63389c0db3ab", "Gurmukhi"
    ),
    Source("NotoSansTamil-Regular.ttf", "a7bb7f92f165479af2f0556c4fd669b74c5959f464f603e18389b532f4d07a71", "Tamil"),
    Source("NotoSansTelugu-Regular.ttf", "cb3165071121b1e80c55a041d0c1f79b3bbc68e4b0eab37b0d881958dfc3ed7a", "Telugu"),
    Source("NotoSansKhmer-Regular.ttf", "bc9a5e2afcee249849e409aabe6e22330c479b878ea3e59bf5e7c84482d7ee53", "Khmer"),
    Source("NotoSansLao-Regular.ttf", "6c3de7db369e85cba20255d161eeeb3d934ea3c4c51e2574c2ddcce79a25025c", "Lao"),
    Source("NotoEmoji-Regular.ttf", "24aaa2a20c9c06ffe9bf04284bfd1f14376a329d10122f902abe2770817eb504", "Emoji"),
)


def make(source: Source, directory: Path) -> Path:
    """Writes the subset of one source into `DIRECTORY`.

    Raises:
        SystemExit: the file is missing or another version.
    """
    path = directory / source.file
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise SystemExit(f"{path} is missing or not the version with SHA-256 {source.sha256}.")
    font = TTFont(path) if source.number is None else TTCollection(path, lazy=True).fonts[source.number]
    options = subset.Options(hinting=False, notdef_outline=True, name_IDs=["*"], glyph_names=False)
    options.drop_tables += ["BASE", "VORG", "vhea", "vmtx", "DSIG"]
    if source.number is not None:
        # Only the collection's composition features; variants would add their glyphs.
        options.layout_features = ["ccmp", "mark", "mkmk"]
    subsetter = subset.Subsetter(options)
    kept = font.getBestCmap().keys()
    if source.blocks is not None:
        kept = [code for low, high in source.blocks for code in range(low, high) if code in kept]
    subsetter.populate(unicodes=kept)
    subsetter.subset(font)
    family = f"Babelrec Plots {source.script}"
    names = font["name"]
    for record in list(names.names):
        if record.nameID in (1, 4, 6, 16, 17, 3):
            names.removeNames(nameID=record.nameID)
    for number, text in ((1, family), (2, "Regular"), (3, family), (4, family), (6, family.replace(" ", ""))):
        names.setName(text, number, 3, 1, 0x409)
    written = DIRECTORY / f"{family.replace(' ', '')}{'.otf' if 'CFF ' in font else '.ttf'}"
    font["head"].modified = font["head"].created
    font.recalcTimestamp = False
    font.save(written)
    return written


def main() -> None:
    """Builds all fonts."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for source in SOURCES:
        written = make(source, Path(sys.argv[1]))
        print(f"{written}: {written.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
