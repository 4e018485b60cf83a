"""Text preprocessing before the encoder: normalisation, masks, stop words, stems; each optional and per language.

All but stems and lemmas are TensorFlow operations. Catalogue texts and queries to an exported graph
go through the same code, so both are processed identically.
"""

import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final, Literal

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from trainer.errors import BabelrecError
from trainer.text import word_lists
from trainer.text.settings import PreprocessingStep, TextConfig
from trainer.text.translation.base import replace_surrogates

_LOG = logging.getLogger(__name__)
_OTHERS: Final = "*"

_WORD_STEPS: Final = ("stop_words", "stem", "lemmatize")
_PYTHON_STEPS: Final = ("stem", "lemmatize")

Steps = Mapping[str, Sequence[PreprocessingStep]]


class Preprocessor(tf.Module):
    """The steps of all languages that TensorFlow supports: string [n] -> string [n].

    Args:
        steps: As in ``text.preprocessing``; ``stem`` and ``lemmatize`` are skipped.

    Raises:
        BabelrecError: A step does not exist for a language that requests it.
    """

    def __init__(self, steps: Steps) -> None:
        super().__init__(name="preprocessor")
        check_steps(steps)
        self._languages = [language for language in steps if language != _OTHERS]
        self._pipelines = [
            [step for step in steps.get(language, []) if step not in _PYTHON_STEPS]
            for language in (_OTHERS, *self._languages)
        ]
        if self._languages:
            self._places = _string_table(
                [tag.lower() for tag in self._languages], range(1, len(self._languages) + 1), 0
            )
        if any("stop_words" in pipeline for pipeline in self._pipelines):
            words = [
                f"{language}\t{word}"
                for language in word_lists.stop_word_languages()
                for word in word_lists.stop_words(language)
            ]
            folded = tf_text.case_fold_utf8(tf.constant(words)).numpy()
            self._stop_words = _string_table(list(dict.fromkeys(folded.tolist())), None, -1)

    def __call__(self, texts: tf.Tensor, languages: tf.Tensor | None = None) -> tf.Tensor:
        """Preprocesses texts.

        Args:
            texts: String [n] in UTF-8.
            languages: String [n], the texts' BCP 47 tags; empty or None if unknown, in which case the steps of
                ``*`` apply, without stop words.
        """
        tags = tf.zeros_like(texts) if languages is None else tf.strings.lower(languages)
        bases = tf.strings.regex_replace(tags, "[-_].*", "")
        if not self._languages:
            return self._apply(self._pipelines[0], texts, bases)
        exact = self._places.lookup(tags)
        place = tf.where(exact > 0, exact, self._places.lookup(bases))
        result = texts
        for number, pipeline in enumerate(self._pipelines):
            if pipeline:
                rows = tf.where(place == number)
                done = self._apply(pipeline, tf.gather_nd(texts, rows), tf.gather_nd(bases, rows))
                result = tf.tensor_scatter_nd_update(result, rows, done)
        return result

    def _apply(self, pipeline: Sequence[PreprocessingStep], texts: tf.Tensor, bases: tf.Tensor) -> tf.Tensor:
        for step in pipeline:
            texts = self._without_stop_words(texts, bases) if step == "stop_words" else _GRAPH_STEPS[step](texts)
        return texts

    def _without_stop_words(self, texts: tf.Tensor, bases: tf.Tensor) -> tf.Tensor:
        """Removes stop words; a text of nothing else is kept unchanged (a film may be called `It`)."""
        words = tf.strings.split(_one_blank(texts))
        bare = tf.strings.regex_replace(words.values, r"^[\pP\pS]+|[\pP\pS]+$", "")
        keys = tf.strings.join([tf.gather(bases, words.value_rowids()), "\t", tf_text.case_fold_utf8(bare)])
        kept = tf.ragged.boolean_mask(words, words.with_values(self._stop_words.lookup(keys) < 0))
        rest = tf.strings.reduce_join(kept, axis=1, separator=" ")
        return tf.where(tf.strings.length(rest) > 0, rest, texts)


def preprocess(texts: Sequence[str], languages: Sequence[str], steps: Steps) -> list[str]:
    """Preprocesses a catalogue's texts with all steps, including stems and lemmas.

    Args:
        texts: N texts; lone surrogates become U+FFFD if there is any step.
        languages: Their N BCP 47 tags; a tag with a region falls back to the steps of its language.
        steps: As in ``text.preprocessing``.

    Returns:
        N texts.

    Raises:
        BabelrecError: A step does not exist for a language that requests it.
    """
    check_steps(steps)
    result = [replace_surrogates(text) for text in texts] if steps else list(texts)
    rows_of: dict[tuple[str, str], list[int]] = {}
    own = {language.lower(): language for language in steps}
    for row, tag in enumerate(languages):
        base = _base(tag)
        key = own.get(tag.lower(), own.get(base, _OTHERS))
        rows_of.setdefault((key, base), []).append(row)
    for (key, base), rows in rows_of.items():
        values = [result[row] for row in rows]
        for run in _runs(steps.get(key, [])):
            if run[0] in _PYTHON_STEPS:
                change = word_lists.stemmer(base) if run[0] == "stem" else word_lists.lemmatizer(base)
                values = values if change is None else [_each_word(value, change) for value in values]
            else:
                done = Preprocessor({_OTHERS: run})(tf.constant(values, tf.string), tf.fill([len(values)], base))
                values = [value.decode() for value in done.numpy().tolist()]
        for row, value in zip(rows, values, strict=True):
            result[row] = value
    return result


def query_preprocessor(config: TextConfig) -> Preprocessor | None:
    """Preprocessing of text queries in an exported graph; None if there is nothing to do.

    Warns about catalogue steps that can't run there.

    Raises:
        BabelrecError: As for :class:`Preprocessor`.
    """
    if config.translation.translator is not None:
        _LOG.warning(
            "text.translation translated the catalogue into %r, and an exported graph can't call a translator: typed "
            "queries are encoded in the language they are written in.",
            config.translation.target,
        )
    left_out = sorted({step for steps in config.preprocessing.values() for step in steps if step in _PYTHON_STEPS})
    if left_out:
        _LOG.warning(
            "text.preprocessing has %s, which no TensorFlow operation supports: typed queries are encoded without it, "
            "the catalogue's texts were encoded with it. Remove it to serve free-text queries.",
            " and ".join(left_out),
        )
    if not any(step not in _PYTHON_STEPS for steps in config.preprocessing.values() for step in steps):
        return None
    return Preprocessor(config.preprocessing)


def check_steps(steps: Steps) -> None:
    """Refuses steps that an explicitly listed language doesn't support.

    Under ``*`` such a step skips the languages without it.

    Raises:
        BabelrecError: Gives the language and step.
    """
    available: dict[str, Callable[[], list[str]]] = {
        "stop_words": word_lists.stop_word_languages,
        "stem": word_lists.stem_languages,
        "lemmatize": word_lists.lemma_languages,
    }
    for language, chosen in steps.items():
        for step in chosen:
            if language == _OTHERS or step not in _WORD_STEPS:
                continue
            if _base(language) not in available[step]():
                raise BabelrecError(
                    f"text.preprocessing.{language} has {step!r}, which is not available for {language!r} (available "
                    f"for {', '.join(available[step]())}). Remove it."
                )


def _base(tag: str) -> str:
    return re.split("[-_]", tag.lower())[0]


def _runs(steps: Sequence[PreprocessingStep]) -> list[list[PreprocessingStep]]:
    """Steps in order, split so that each Python step is separate."""
    runs: list[list[PreprocessingStep]] = []
    for step in steps:
        if runs and step not in _PYTHON_STEPS and runs[-1][0] not in _PYTHON_STEPS:
            runs[-1].append(step)
        else:
            runs.append([step])
    return runs


def _each_word(text: str, change: Callable[[str], str]) -> str:
    """Changes each word, keeping the punctuation around it."""
    return re.sub(r"\S+", lambda match: _one_word(match.group(), change), text)


def _one_word(token: str, change: Callable[[str], str]) -> str:
    inside = [position for position, character in enumerate(token) if unicodedata.category(character)[0] in "LMN"]
    if not inside:
        return token
    begin, end = inside[0], inside[-1] + 1
    return token[:begin] + change(token[begin:end]) + token[end:]


def _normalize(form: Literal["NFC", "NFKC"]) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda texts: tf_text.normalize_utf8(texts, form)


def _one_blank(texts: tf.Tensor) -> tf.Tensor:
    return tf.strings.strip(tf.strings.regex_replace(texts, r"[\s\pZ\x{0085}]+", " "))


def _without_controls(texts: tf.Tensor) -> tf.Tensor:
    return _one_blank(tf.strings.regex_replace(texts, _CONTROLS, ""))


def _with_masked_numbers(texts: tf.Tensor) -> tf.Tensor:
    digit = _digits()
    return tf.strings.regex_replace(texts, f"{digit}+(?:[.,\u066b\u066c']{digit}+)*", "0")


def _with_one_width(texts: tf.Tensor) -> tf.Tensor:
    """Full-width Latin and half-width Katakana and Hangul to their usual width, character by character."""
    table = tf.constant(_widths(), tf.int32)
    points = tf.strings.unicode_decode(texts, "UTF-8")
    flat = points.values
    there = (flat >= _WIDTH_BEGIN) & (flat < _WIDTH_END)
    mapped = tf.gather(table, tf.where(there, flat - _WIDTH_BEGIN, 0))
    flat = tf.where(there, mapped, tf.where(flat == 0x3000, 0x20, flat))
    return tf.strings.unicode_encode(points.with_values(flat), "UTF-8")


# Unicode's block of halfwidth and fullwidth forms.
_WIDTH_BEGIN: Final = 0xFF00
_WIDTH_END: Final = 0xFFF0

# Controls except white space; soft hyphen, directions, invisible marks. The joiners U+200C and U+200D stay: they spell
# Persian and Indic words and emoji.
_CONTROLS: Final = (
    r"[\x{0}-\x{8}\x{E}-\x{1F}\x{7F}-\x{84}\x{86}-\x{9F}\x{AD}\x{61C}\x{180E}\x{200B}\x{200E}\x{200F}\x{202A}-\x{202E}"
    r"\x{2060}-\x{206F}\x{FEFF}\x{FFF9}-\x{FFFB}]"
)

_GRAPH_STEPS: Final[dict[str, Callable[[tf.Tensor], tf.Tensor]]] = {
    "nfc": _normalize("NFC"),
    "nfkc": _normalize("NFKC"),
    # Unicode's NFKC_Casefold: it also normalises and removes invisible characters.
    "casefold": tf_text.case_fold_utf8,
    "width": _with_one_width,
    "controls": _without_controls,
    "numbers": _with_masked_numbers,
}


@cache
def _widths() -> list[int]:
    mapped = []
    for point in range(_WIDTH_BEGIN, _WIDTH_END):
        usual = unicodedata.normalize("NFKC", chr(point))
        mapped.append(ord(usual) if len(usual) == 1 else point)
    return mapped


@cache
def _digits() -> str:
    """A class of all decimal digits, spelled out: libraries with other Unicode versions know fewer or more."""
    zeros = [point for point in range(sys.maxunicode + 1) if unicodedata.decimal(chr(point), -1) == 0]
    return "[" + "".join(rf"\x{{{zero:X}}}-\x{{{zero + 9:X}}}" for zero in zeros) + "]"


def _string_table(keys: Sequence[str | bytes], values: range | None, default: int) -> tf.lookup.StaticHashTable:
    places = np.arange(len(keys)) if values is None else np.array(values)
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(list(keys), tf.string), tf.constant(places, tf.int64))
    return tf.lookup.StaticHashTable(initializer, default)
