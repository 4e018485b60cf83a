"""Languages as BCP 47 tags: canonical form, and detection if none is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import langcodes
import numpy as np
import numpy.typing as npt
from langcodes.tag_parser import LanguageTagError

from trainer.errors import BabelrecError

if TYPE_CHECKING:
    from lingua import LanguageDetector

UNDETERMINED: Final = "und"

# The languages of mUSE v3 first (Chinese in both scripts is zh), then those of xMIND that the detector knows, then
# a few cheap ones, mostly recognised by their script. More Latin-script ones would cost accuracy on short titles.
DETECTED: Final = (
    *("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"),
    *("fi", "id", "ka", "ro", "so", "sw", "ta", "vi"),
    *("bn", "el", "he", "hi", "sv"),
)
_CHUNK: Final = 8_192
# A language belongs to the collection if texts that need no context indicate it: at least this share of the texts of
# which the detector alone is this sure, and at least two texts, as single ones are names.
_SURE: Final = 0.95
_SHARE_OF_SURE: Final = 0.02
_LEAST_SURE: Final = 2
# The smallest weight of a language relative to the most frequent one: for those in the collection, which keeps rare
# ones visible, and for all others. Measured on catalogues of one to six languages (docs/data.md).
_FLOOR: Final = 0.2
_FLOOR_OF_OTHERS: Final = 0.01
_PRIOR_STEPS: Final = 20
# The detector's values fit a text of about this many letters, however long it really is.
_LETTERS: Final = 20
_LONGEST: Final = 5.0
DOUBTFUL_BELOW: Final = 0.8


class LanguageError(BabelrecError):
    """An invalid BCP 47 language tag."""


@cache
def normalise(tag: str) -> str:
    """Returns the canonical BCP 47 form of a language tag.

    Case, separators, deprecated codes and three-letter codes are corrected, and an encompassed language is
    replaced by its macrolanguage: ``EN_us`` -> ``en-US``, ``iw`` -> ``he``, ``cmn`` -> ``zh``, ``swh`` -> ``sw``.

    Args:
        tag: A language tag in any of the usual spellings.

    Raises:
        LanguageError: ``tag`` is malformed or names no registered language.
    """
    remedy = "Remedy: write a BCP 47 tag such as `en`, `pt-BR` or `zh-Hant`, or `und` if unknown."
    if not tag.strip():
        raise LanguageError(f"The language tag is empty. {remedy}")
    try:
        canonical = langcodes.standardize_tag(tag.strip(), macro=True)
    except LanguageTagError as error:
        raise LanguageError(f"{tag!r} is not a language tag: {error}. {remedy}") from error
    if not langcodes.tag_is_valid(canonical):
        raise LanguageError(f"{tag!r} names no registered language, script or region. {remedy}")
    return canonical


@dataclass(frozen=True, eq=False)
class Detection:
    """The detected language of each text.

    Attributes:
        tags: One of `DETECTED` per text; ``und`` if nothing can be detected (no letters).
        confidence: float32 [texts], the probability of that language; 0 for ``und``.
    """

    tags: list[str]
    confidence: npt.NDArray[np.float32]

    @property
    def doubtful(self) -> npt.NDArray[np.bool_]:
        """Bool [texts]: whether another language is about as likely, or nothing can be detected."""
        return self.confidence < DOUBTFUL_BELOW


def detect(texts: Sequence[str]) -> list[str]:
    """The tags of `detect_with_confidence`."""
    return detect_with_confidence(texts).tags


def detect_with_confidence(texts: Sequence[str]) -> Detection:
    """Detects the language of each text in a collection, such as a catalogue's titles.

    A title of two words fits several languages, so the collection's own mix of languages, estimated from all of its
    texts, is taken into account (naive Bayes with the prior fitted by expectation maximisation). Languages that no
    confident text indicates can hardly win; those that some do never weigh less than a fifth of the most frequent
    one, which keeps rare languages visible.

    Args:
        texts: Titles or longer texts in any script.
    """
    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    fit = _by_length(_confidences(list(distinct)), list(distinct))
    known = fit.sum(axis=1) > 0
    weighed = fit * _prior(fit[known])
    total = weighed.sum(axis=1)
    confidence = np.divide(weighed.max(axis=1, initial=0.0), total, out=np.zeros_like(total), where=total > 0)
    chosen = weighed.argmax(axis=1)
    rows = np.array([distinct[text] for text in texts], np.int64)
    return Detection(
        [DETECTED[chosen[row]] if known[row] else UNDETERMINED for row in rows], confidence[rows].astype(np.float32)
    )


def _prior(fit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Language shares (languages,), estimated from each text's fit to each language (texts, languages)."""
    sure = np.bincount(fit.argmax(axis=1)[fit.max(axis=1, initial=0.0) >= _SURE], minlength=fit.shape[1])
    present = (sure >= _LEAST_SURE) & (sure >= _SHARE_OF_SURE * sure.sum())
    floor = np.where(present, _FLOOR, _FLOOR_OF_OTHERS)
    prior = np.full(fit.shape[1], 1 / fit.shape[1])
    for _ in range(_PRIOR_STEPS if len(fit) else 0):
        share = fit * prior
        prior = (share / share.sum(axis=1, keepdims=True)).sum(axis=0)
        prior = np.maximum(prior, floor * prior.max())
        prior /= prior.sum()
    return prior


def _by_length(fit: npt.NDArray[np.float32], texts: list[str]) -> npt.NDArray[np.float64]:
    """The fit, weighted by the evidence in longer texts; rows sum to 1, or 0, as before."""
    letters = np.array([sum(character.isalpha() for character in text) for text in texts], np.float64)
    sharper = fit.astype(np.float64) ** np.clip(letters / _LETTERS, 1.0, _LONGEST)[:, None]
    total = sharper.sum(axis=1, keepdims=True)
    shares: npt.NDArray[np.float64] = np.divide(sharper, total, out=np.zeros_like(sharper), where=total > 0.0)
    return shares


def _confidences(texts: list[str]) -> npt.NDArray[np.float32]:
    """Each text's fit to each language of `DETECTED`: (texts, languages); rows sum to 1, or 0 if undetermined."""
    column = {tag: index for index, tag in enumerate(DETECTED)}
    fit = np.zeros((len(texts), len(DETECTED)), np.float32)
    # In batches, because the library returns one object per text and language.
    for start in range(0, len(texts), _CHUNK):
        answers = _detector().compute_language_confidence_values_in_parallel(texts[start : start + _CHUNK])
        for row, values in enumerate(answers, start):
            for value in values:
                fit[row, column[value.language.iso_code_639_1.name.lower()]] = value.value
    return fit


@cache
def _detector() -> "LanguageDetector":
    # Imported here: the n-gram models take a second to load, and most runs don't need detection.
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, tag.upper()) for tag in DETECTED]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()
