"""Ids that mean the same but are spelled differently: how they differ, and how to fix it."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import polars as pl

from trainer.errors import shortened

# Zero-width characters, joiners and marks of direction, soft hyphen and byte order mark.
_INVISIBLE: Final = "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
# How a spreadsheet or pandas writes whole numbers in a column with missing values.
_DECIMAL: Final = r"^(\s*[+-]?\d+)\.0+(\s*)$"


@dataclass(frozen=True, slots=True)
class _Form:
    """A normalisation of ids.

    Attributes:
        difference: How the ids that it makes equal differ.
        rewrite: Normalises ids.
        remedy: How to fix the files.
        may_be_meant: Whether one table may legitimately contain two ids that differ in this way.
    """

    difference: str
    rewrite: Callable[[pl.Expr], pl.Expr]
    remedy: str
    may_be_meant: bool = False


_FORMS: Final = (
    _Form("blanks around the id", lambda ids: ids.str.strip_chars(), "strip them in the file that has them"),
    _Form(
        "a trailing `.0`",
        lambda ids: ids.str.replace(_DECIMAL, "$1$2"),
        "write whole numbers as text or integers (they became decimals where they were exported)",
    ),
    _Form("their Unicode form", lambda ids: ids.str.normalize("NFC"), "normalise the ids of both files to NFC"),
    _Form(
        "full-width or other compatibility characters",
        lambda ids: ids.str.normalize("NFKC"),
        "normalise the ids of both files to NFKC",
    ),
    _Form(
        "invisible characters",
        lambda ids: ids.str.replace_all(_INVISIBLE, ""),
        "remove zero-width characters and byte order marks from the ids",
    ),
    _Form(
        "leading zeros",
        lambda ids: ids.str.replace(r"^0+(\d)", "$1"),
        "export the ids as text in both files",
        may_be_meant=True,
    ),
    _Form(
        "upper and lower case",
        lambda ids: ids.str.to_lowercase(),
        "write the ids the same way in both files",
        may_be_meant=True,
    ),
    _Form("quotes around the id", lambda ids: ids.str.replace(r"""^["'](.*)["']$""", "$1"), "remove the quotes"),
    _Form(
        "thousands separators",
        lambda ids: ids.str.replace_all(r"(\d)[,'\u202f\u00a0](\d{3})", "$1$2"),
        "export the ids without them",
    ),
)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Ids that would be known if they were spelled as in the other table.

    Attributes:
        difference: How they differ, such as ``a trailing `.0```.
        count: Number of distinct ids.
        example: One of them, and the matching id in the other table.
        remedy: How to fix it.
    """

    difference: str
    count: int
    example: tuple[str, str]
    remedy: str

    def __str__(self) -> str:
        verb = "differs" if self.count == 1 else "differ"
        one, other = map(_shown, self.example)
        return f"{self.count:,} {verb} in {self.difference} only ({one}, {other})"


def mismatches(unknown: pl.Series, known: pl.Series) -> list[Mismatch]:
    """How ids of one table differ from those of another, most frequent difference first.

    Each id is counted under the first difference that explains it; if no single one does, under all combined.

    Args:
        unknown: Distinct ids that are not in ``known``.
        known: The ids of the other table.
    """
    left = pl.DataFrame({"id": unknown.unique(maintain_order=True).drop_nulls()})
    others = pl.DataFrame({"other": known.unique(maintain_order=True).drop_nulls()})
    found = []
    for form in _FORMS:
        left, mismatch = _explained(left, others, form.rewrite, form.difference, form.remedy)
        found += mismatch
    left, mismatch = _explained(left, others, _plain, "several of these", "write the ids the same way in both files")
    return sorted([*found, *mismatch], key=lambda each: -each.count)


def explain(unknown: pl.Series, known: pl.Series) -> tuple[str, str]:
    """`mismatches` as two half-sentences, problem and remedy; both empty if the ids are simply absent."""
    found = mismatches(unknown, known)
    return "; ".join(map(str, found)), "; ".join(dict.fromkeys(each.remedy for each in found))


def look_alikes(ids: pl.Series) -> list[Mismatch]:
    """Ids of ONE table that are spelled in two ways and so count as two users or items.

    Case and leading zeros are left out: such differences may be intended.
    """
    frame = pl.DataFrame({"id": ids.unique(maintain_order=True).drop_nulls()})
    found = []
    for form in _FORMS:
        if form.may_be_meant:
            continue
        groups = (
            frame.with_columns(form.rewrite(pl.col("id")).alias("plain"))
            .group_by("plain", maintain_order=True)
            .agg(pl.col("id"))
            .filter(pl.col("id").list.len() > 1)
        )
        if not groups.is_empty():
            first, second = groups["id"][0].to_list()[:2]
            found.append(Mismatch(form.difference, groups.height, (first, second), form.remedy))
            # What one form explains, a broader one would explain again.
            frame = frame.join(groups.explode("id").select("id"), on="id", how="anti", maintain_order="left")
    return found


def _plain(ids: pl.Expr) -> pl.Expr:
    for form in _FORMS:
        ids = form.rewrite(ids)
    return ids.str.strip_chars()


def _explained(
    left: pl.DataFrame, others: pl.DataFrame, rewrite: Callable[[pl.Expr], pl.Expr], difference: str, remedy: str
) -> tuple[pl.DataFrame, list[Mismatch]]:
    """The ids that remain unexplained, and those that match once both sides are normalised."""
    plain = others.with_columns(rewrite(pl.col("other")).alias("plain")).unique("plain", maintain_order=True)
    joined = left.with_columns(rewrite(pl.col("id")).alias("plain")).join(
        plain, on="plain", how="left", maintain_order="left"
    )
    hits = joined.filter(pl.col("other").is_not_null())
    if hits.is_empty():
        return left, []
    rest = joined.filter(pl.col("other").is_null()).select("id")
    return rest, [Mismatch(difference, hits.height, (hits["id"][0], hits["other"][0]), remedy)]


def _shown(value: str) -> str:
    """The id with combining, invisible and full-width characters made visible."""
    hides = value != unicodedata.normalize("NFKC", value) or any(
        unicodedata.category(character) in ("Cf", "Mn") for character in value
    )
    return shortened(ascii(value) if hides else repr(value), 60)
