"""Parallel texts of a dataset: translation pairs, some held out of training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trainer.data.catalogue import Catalogue
from trainer.data.languages import UNDETERMINED
from trainer.data.variants import TextVariants

if TYPE_CHECKING:
    from trainer.text.cooccurrence import CoOccurrence


@dataclass(frozen=True, eq=False)
class TextPairs:
    """P pairs of texts in two languages.

    Attributes:
        first: P texts.
        second: P texts.
        first_languages: P BCP 47 tags.
        second_languages: P BCP 47 tags.
        keys: P ids of what each pair is about; pairs with the same id stay in one part.
    """

    first: list[str]
    second: list[str]
    first_languages: list[str]
    second_languages: list[str]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def none(cls) -> "TextPairs":
        """No pairs."""
        return cls([], [], [], [], [])

    def take(self, places: npt.NDArray[np.integer]) -> "TextPairs":
        """The pairs at int ``places``."""
        return TextPairs(*([column[place] for place in places] for column in self._columns()))

    def __add__(self, other: "TextPairs") -> "TextPairs":
        return TextPairs(*(one + two for one, two in zip(self._columns(), other._columns(), strict=True)))

    def languages(self) -> set[str]:
        """All languages on either side."""
        return {*self.first_languages, *self.second_languages}

    def hold_out(self, share: float, seed: int) -> "tuple[TextPairs, TextPairs]":
        """Divides the pairs into (training, held out), by id, in an order that depends only on the seed."""
        distinct = sorted(set(self.keys))
        order = np.random.default_rng(seed).permutation(len(distinct))
        held = {distinct[place] for place in order[: round(share * len(distinct))]}
        inside = np.array([key in held for key in self.keys], bool)
        return self.take(np.flatnonzero(~inside)), self.take(np.flatnonzero(inside))

    def of_languages(self, first: str, second: str) -> "tuple[list[str], list[str]]":
        """Texts of the pairs between two languages, swapped where needed so that ``first`` comes first."""
        pairs = []
        for one, two, tag_one, tag_two, _ in zip(*self._columns(), strict=True):
            if (tag_one, tag_two) == (first, second):
                pairs.append((one, two))
            elif (tag_two, tag_one) == (first, second):
                pairs.append((two, one))
        return [one for one, _ in pairs], [two for _, two in pairs]

    def language_pairs(self) -> list[tuple[str, str]]:
        """The distinct pairs of languages, each in alphabetical order."""
        found = zip(self.first_languages, self.second_languages, strict=True)
        return sorted({(min(pair), max(pair)) for pair in found})

    def _columns(self) -> tuple[list[str], ...]:
        return self.first, self.second, self.first_languages, self.second_languages, self.keys


def parallel_texts(catalogue: Catalogue, translations: TextVariants) -> TextPairs:
    """Pairs each item's own text with each of its translations; texts of undetermined language are left out."""
    kept = []
    for row, language, text in zip(translations.rows, translations.languages, translations.texts, strict=True):
        own = catalogue.languages[row]
        if own != language and UNDETERMINED not in (own, language) and catalogue.texts[row].strip():
            kept.append((catalogue.texts[row], text, own, language, catalogue.item_ids[row]))
    return _from_rows(kept)


def co_consumed_texts(catalogue: Catalogue, together: "CoOccurrence", least: int) -> TextPairs:
    """Pairs the texts of items in two languages consumed by the same users (`CoOccurrence.cross_language_pairs`)."""
    kept = []
    for one, two in together.cross_language_pairs(least):
        tags = catalogue.languages[one], catalogue.languages[two]
        if UNDETERMINED not in tags:
            kept.append((catalogue.texts[one], catalogue.texts[two], *tags, f"{one} {two}"))
    return _from_rows(kept)


def _from_rows(rows: list[tuple[str, str, str, str, str]]) -> TextPairs:
    return TextPairs(*([row[column] for row in rows] for column in range(5)))
