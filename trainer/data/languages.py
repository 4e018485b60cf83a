"""Languages as BCP 47 tags: canonical form, and detection where nothing is given."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

import langcodes
import numpy as np
from langcodes.tag_parser import LanguageTagError

from trainer.errors import BabelrecError

if TYPE_CHECKING:
    from lingua import LanguageDetector

UNDETERMINED: Final = "und"

# The languages of mUSE v3 first (Chinese in both scripts is zh), then those of xMIND that the detector knows, then
# a few that cost little, most of them told by their script. More Latin ones would cost accuracy on short titles.
DETECTED: Final = (
    *("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"),
    *("fi", "id", "ka", "ro", "so", "sw", "ta", "vi"),
    *("bn", "el", "he", "hi", "sv"),
)
_CHUNK: Final = 8_192
# Measured on English film titles with 2 % of Spanish and French ones: without the prior 74 % right, with this
# floor 93 %; a lower floor gains little and loses the Spanish and French ones.
_PRIOR_FLOOR: Final = 0.2
_PRIOR_STEPS: Final = 20


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
    """Detects the language of each text of one collection, such as a catalogue's titles.

    A title of two words fits several languages. So the collection's own mix of languages, estimated from all
    of its texts, weighs in (naive Bayes with the prior fitted by expectation maximisation). No language is
    weighed at less than a fifth of the most frequent one, which keeps rare languages visible.

    Args:
        texts: Titles or longer texts in any script.

    Returns:
        One tag of `DETECTED` a text, in the same order; ``und`` where there is nothing to tell by
        (no letters).
    """
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return []
    fit = _confidences(distinct)
    told = fit.sum(axis=1) > 0
    chosen = (fit * _prior(fit[told])).argmax(axis=1)
    tags = {
        text: DETECTED[index] if known else UNDETERMINED
        for text, index, known in zip(distinct, chosen, told, strict=True)
    }
    return [tags[text] for text in texts]


def _prior(fit: np.ndarray) -> np.ndarray:
    """Shares of the languages, of shape (languages,), from each text's fit to each, (texts, languages)."""
    prior = np.full(fit.shape[1], 1 / fit.shape[1])
    for _ in range(_PRIOR_STEPS if len(fit) else 0):
        share = fit * prior
        prior = (share / share.sum(axis=1, keepdims=True)).sum(axis=0)
        prior = np.maximum(prior, _PRIOR_FLOOR * prior.max())
        prior /= prior.sum()
    return prior


def _confidences(texts: list[str]) -> np.ndarray:
    """Each text's fit to each language of `DETECTED`: (texts, languages); rows sum to 1, or 0 if untold."""
    column = {tag: index for index, tag in enumerate(DETECTED)}
    fit = np.zeros((len(texts), len(DETECTED)), np.float32)
    # In chunks, because the library answers with an object for every text and language.
    for start in range(0, len(texts), _CHUNK):
        answers = _detector().compute_language_confidence_values_in_parallel(texts[start : start + _CHUNK])
        for row, values in enumerate(answers, start):
            for value in values:
                fit[row, column[value.language.iso_code_639_1.name.lower()]] = value.value
    return fit


@cache
def _detector() -> "LanguageDetector":
    # Imported here: the n-gram models take a second to load, and most runs have their languages given.
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, tag.upper()) for tag in DETECTED]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()
