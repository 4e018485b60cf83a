"""What the items are called: products made of words, or real films."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from trainer.errors import BabelrecError

_DEPARTMENTS = Path(__file__).with_name("departments.yaml")
_WORDS = Path(__file__).parents[1] / "quality" / "shop.yaml"


@dataclass(frozen=True, slots=True)
class Named:
    """An item's text.

    Attributes:
        item_id: Its id.
        language: BCP 47, its own.
        titles: Language -> title; its own language is one of them.
        categories: Labels.
        kind, detail: Of a product: what it is, and which of the adjectives it has; '' and -1 for films.
    """

    item_id: str
    language: str
    titles: Mapping[str, str]
    categories: tuple[str, ...]
    kind: str = ""
    detail: int = -1


def shop_items(languages: list[str], translated: float, random: np.random.Generator) -> list[Named]:
    """Products, one for each entry of ``languages``, which is the product's own.

    A title is a brand, a kind and an adjective: all titles of an item say the same.

    Raises:
        BabelrecError: There are no words of a language.
    """
    words = yaml.safe_load(_WORDS.read_text(encoding="utf-8"))
    departments = yaml.safe_load(_DEPARTMENTS.read_text(encoding="utf-8"))
    category = {kind: name for name, kinds in departments.items() for kind in kinds}
    known, kinds = list(words["details"]), list(words["kinds"])
    if unknown := sorted(set(languages) - set(known)):
        raise BabelrecError(
            f"The shop has no words of {', '.join(unknown)}. Remedy: use {', '.join(known)}, or add words to {_WORDS}."
        )
    present = [each for each in known if each in languages]
    chosen = random.integers(len(kinds), size=len(languages))
    brands = random.integers(len(words["brands"]), size=len(languages))
    details = random.integers(len(words["details"][known[0]]), size=len(languages))
    also = random.random((len(languages), len(present))) < translated
    found = []
    for number, own in enumerate(languages):
        kind, detail = kinds[chosen[number]], int(details[number])
        titles = {
            each: f"{words['brands'][brands[number]]} {words['kinds'][kind][each]} {words['details'][each][detail]}"
            for place, each in enumerate(present)
            if each == own or also[number, place]
        }
        found.append(Named(f"p{number}", own, titles, (category[kind],), kind, detail))
    return found


def films(source: Literal["movielens-100k", "kmrd"], languages: tuple[str, ...]) -> list[Named]:
    """Films that have a title in one of the languages, in the source's order: MovieLens en, KMRD ko and en.

    Raises:
        BabelrecError: The source's files can't be had.
    """
    # Only these worlds read data, and the rest starts faster without.
    from trainer.data.settings import KmrdSource, MovieLens100kSource
    from trainer.data.sources import prepare

    dataset = prepare(MovieLens100kSource() if source == "movielens-100k" else KmrdSource(title_language="both"))
    translations = dataset.translations()
    more: dict[str, dict[str, str]] = {}
    if translations is not None:
        for row in translations.select("item_id", "language", "title").collect().iter_rows():
            more.setdefault(row[0], {})[row[1]] = row[2]
    found = []
    for row in dataset.items().select("item_id", "language", "title", "categories").collect().iter_rows():
        known = {row[1]: row[2], **more.get(row[0], {})}
        titles = {tag: known[tag] for tag in [row[1], *languages] if tag in languages and known.get(tag)}
        if titles:
            found.append(Named(row[0], next(iter(titles)), titles, tuple(row[3])))
    return found
