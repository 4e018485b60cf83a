"""Languages as BCP 47 tags: canonical form, and detection where nothing is given."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

import langcodes
from langcodes.tag_parser import LanguageTagError

from trainer.errors import BabelrecError

if TYPE_CHECKING:
    from lingua import LanguageDetector

UNDETERMINED: Final = "und"

# The sixteen languages of mUSE v3 first, then those of xMIND that the detector knows, then languages that
# their script alone tells apart. More Latin-script languages would cost accuracy on titles of a few words.
DETECTED: Final = (
    *("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"),
    *("fi", "id", "ka", "ro", "so", "sw", "ta", "vi"),
    *("bn", "el", "he", "hi", "sv"),
)


class LanguageError(BabelrecError):
    """A language tag that is not BCP 47."""


@cache
def normalise(tag: str) -> str:
    """Returns the canonical BCP 47 form of a language tag.

    Case, separators, deprecated codes and three-letter codes are mended, and an encompassed language gives
    way to its macrolanguage: ``EN_us`` -> ``en-US``, ``iw`` -> ``he``, ``cmn`` -> ``zh``, ``swh`` -> ``sw``.

    Args:
        tag: A language tag in any of the usual spellings.

    Raises:
        LanguageError: ``tag`` is malformed or names no registered language.
    """
    remedy = "Remedy: write a BCP 47 tag such as `en`, `pt-BR` or `zh-Hant`, or `und` where it is unknown."
    if not tag.strip():
        raise LanguageError(f"The language tag is empty. {remedy}")
    try:
        canonical = langcodes.standardize_tag(tag.strip(), macro=True)
    except LanguageTagError as error:
        raise LanguageError(f"{tag!r} is not a language tag: {error}. {remedy}") from error
    if not langcodes.tag_is_valid(canonical):
        raise LanguageError(f"{tag!r} names no registered language, script or region. {remedy}")
    return canonical


def detect(texts: Sequence[str]) -> list[str]:
    """Detects the language of each text.

    Args:
        texts: Titles or longer texts in any script.

    Returns:
        One tag of `DETECTED` a text, in the same order; ``und`` where there is nothing to tell by (no letters).
    """
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return []
    found = _detector().detect_languages_in_parallel_of(distinct)
    tags = {
        text: UNDETERMINED if language is None else language.iso_code_639_1.name.lower()
        for text, language in zip(distinct, found, strict=True)
    }
    return [tags[text] for text in texts]


@cache
def _detector() -> "LanguageDetector":
    # Imported here: the n-gram models take a second to load, and most runs have their languages given.
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, tag.upper()) for tag in DETECTED]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()
