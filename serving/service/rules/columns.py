"""The columns of an item as rules see them, and how their values are compared.

A column is looked for among the item's own fields (`ITEM_FIELDS`), then its numbers, then its attributes. An item
lacks a column that it does not have, and one whose value says nothing: empty text, no label, NaN.

* Text is compared letter by letter, after Unicode's normal form C: ``é`` is the same however it was typed.
* A part of a text is looked for without regard to case, width and presentation forms (normal form KC, case folded).
* ``pt`` names every Portuguese: a language is compared as in RFC 4647's basic filtering, without regard to case.
* Numbers are compared as numbers, and ``true`` is not 1.
"""

import functools
import math
import unicodedata
from collections.abc import Iterable
from typing import Final

from serving.service.types import Item, Scalar

LABELS: Final = "categories"
LANGUAGE: Final = "language"
TEXTS: Final = ("item_id", "title", "description")
TIMES: Final = ("valid_from", "valid_until")
ITEM_FIELDS: Final = frozenset((LABELS, LANGUAGE, *TEXTS, *TIMES))

Key = tuple[str, Scalar]
"""A value with its kind, such that two are equal if and only if rules take them as equal."""


def values(item: Item, column: str) -> tuple[Scalar, ...]:
    """What an item has in a column: several labels or one value; nothing if it lacks the column."""
    if column == LABELS:
        return tuple(label for label in item.categories if label)
    value: Scalar | None
    if column in ITEM_FIELDS:
        value = getattr(item, column)
    elif column in item.numbers:
        value = item.numbers[column]
    else:
        value = item.attributes.get(column)
    lacks = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
    return () if lacks or value is None else (value,)


def number(item: Item, column: str) -> float | None:
    """The number that an item has in a column; None if it has none there."""
    found = values(item, column)
    if len(found) != 1 or isinstance(found[0], str | bool):
        return None
    return found[0]


def key(value: Scalar) -> Key:
    """What a value is compared by."""
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, str):
        return "text", unicodedata.normalize("NFC", value)
    return "number", value


def keys(item: Item, column: str) -> tuple[Key, ...]:
    """What an item's values in a column are compared by; a language is one value, in lower case."""
    found = values(item, column)
    if column == LANGUAGE:
        return tuple(key(language_tag(str(value))) for value in found)
    return tuple(key(value) for value in found)


def language_tag(text: str) -> str:
    """A language as it is compared."""
    return text.strip().replace("_", "-").lower()


def language_ranges(text: str) -> tuple[str, ...]:
    """The ranges that a language falls into: ``pt-BR`` into ``pt-br`` and ``pt``."""
    parts = language_tag(text).split("-")
    return tuple("-".join(parts[:size]) for size in range(len(parts), 0, -1))


# Several rules look at the same title, one after the other.
@functools.lru_cache(maxsize=1024)
def folded(text: str) -> str:
    """Text in which a part is looked for."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def columns_of(items: Iterable[Item]) -> frozenset[str]:
    """Columns that at least one of the items has."""
    found: set[str] = set()
    for item in items:
        names = {*ITEM_FIELDS, *item.numbers, *item.attributes} - found
        found.update(name for name in names if values(item, name))
    return frozenset(found)
