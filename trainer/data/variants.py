"""Additional item texts: translations, and texts with words or whole fields dropped."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue, joined
from trainer.data.dataset import Dataset

# Scripts written without spaces (Thai, Lao, Burmese, Khmer, kana, Han): there a character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


@dataclass(frozen=True, eq=False)
class TextVariants:
    """M texts that may replace an item's own.

    Attributes:
        rows: Int32 [M], the item's row.
        languages: M BCP 47 tags.
        texts: M texts for the sentence encoder.
    """

    rows: npt.NDArray[np.int32]
    languages: list[str]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def none(cls) -> "TextVariants":
        """No variants."""
        return cls(np.zeros(0, np.int32), [], [])

    def __add__(self, other: "TextVariants") -> "TextVariants":
        return TextVariants(
            np.concatenate([self.rows, other.rows]), self.languages + other.languages, self.texts + other.texts
        )


def translations(dataset: Dataset, catalogue: Catalogue) -> TextVariants:
    """The items' texts in additional languages; empty if the dataset has no translations."""
    table = dataset.translations()
    if table is None:
        return TextVariants.none()
    found = table.collect().filter(pl.col("item_id").is_in(catalogue.item_ids)).sort("item_id", "language")
    titles = found["title"].fill_null("")
    descriptions = found["description"].fill_null("") if "description" in found.columns else [""] * found.height
    texts = [joined(title, description) for title, description in zip(titles, descriptions, strict=True)]
    kept = [place for place, text in enumerate(texts) if text.strip()]
    return TextVariants(
        catalogue.rows(found["item_id"])[kept],
        [found["language"][place] for place in kept],
        [texts[place] for place in kept],
    )


def with_words_dropped(catalogue: Catalogue, others: TextVariants, share: float, views: int, seed: int) -> TextVariants:
    """Copies of each text with random words dropped (token dropout).

    A word is the text between spaces, or a character in scripts without spaces. At least one word
    always remains, and a text of one word has no variant.

    Args:
        catalogue: The items' own texts.
        others: Additional texts that get variants too.
        share: Probability of dropping each word.
        views: Maximum number of variants per text; duplicates count once.
        seed: The dropped words depend only on it and the text.
    """
    own = TextVariants(np.arange(len(catalogue), dtype=np.int32), catalogue.languages, catalogue.texts)
    rows, languages, texts = [], [], []
    every = own + others
    for row, language, text in zip(every.rows.tolist(), every.languages, every.texts, strict=True):
        for variant in dropped(text, share, views, seed):
            rows.append(row)
            languages.append(language)
            texts.append(variant)
    return TextVariants(np.array(rows, np.int32), languages, texts)


def dropped(text: str, share: float, views: int, seed: int) -> list[str]:
    """Up to ``views`` distinct versions of a text with some words dropped."""
    spans = [match.span() for match in _WORD.finditer(text)]
    if len(spans) < 2:
        return []
    rng = np.random.default_rng([seed, *text.encode("utf-8", "surrogatepass")])
    found: dict[str, None] = {}
    for _ in range(views):
        kept = rng.random(len(spans)) >= share
        kept[rng.integers(len(spans))] = True
        if kept.all():
            continue
        # Cut out backwards, so that the positions of what is left don't shift; the spaces between words stay.
        shorter = text
        for (start, end), keep in reversed(list(zip(spans, kept, strict=True))):
            if not keep:
                shorter = shorter[:start] + shorter[end:]
        found[" ".join(shorter.split())] = None
    return list(found)


def single_fields(dataset: Dataset, catalogue: Catalogue) -> TextVariants:
    """The title alone and the description alone of each item that has both (field dropout)."""
    items = dataset.items().sort("item_id").collect()
    if "description" not in items.columns:
        return TextVariants.none()
    rows, languages, texts = [], [], []
    for row, (title, description) in enumerate(
        zip(items["title"].fill_null(""), items["description"].fill_null(""), strict=True)
    ):
        if title and description:
            rows += [row, row]
            languages += [catalogue.languages[row]] * 2
            texts += [title, description]
    return TextVariants(np.array(rows, np.int32), languages, texts)
