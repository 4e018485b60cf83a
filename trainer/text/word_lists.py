"""Stop words, stems and lemmas by BCP 47 language, from maintained packages that work offline."""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Final

from trainer.errors import BabelrecError

# Written without blanks between words: finding a word requires a segmenter.
_UNSPACED: Final = frozenset({"zh", "ja", "th", "lo", "km", "my"})
# Snowball's algorithms by language; `porter` and `dutch_porter` are older ones.
_SNOWBALL: Final = {
    **{"ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english"},
    **{"eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish"},
    **{"fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian"},
    **{"it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish"},
    **{"pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish"},
    **{"ta": "tamil", "tr": "turkish", "yi": "yiddish"},
}


@cache
def stop_word_languages() -> list[str]:
    """Languages with a list of stop words and blanks between words."""
    return sorted(_import("stopwordsiso").langs() - _UNSPACED)


@cache
def stop_words(language: str) -> list[str]:
    """The stop words of a language, in lower case; empty if there is no list."""
    if language not in stop_word_languages():
        return []
    return sorted(word for word in _import("stopwordsiso").stopwords(language) if word and len(word.split()) == 1)


@cache
def stem_languages() -> list[str]:
    """Languages with a Snowball stemmer."""
    there = set(_import("snowballstemmer").algorithms())
    return sorted(language for language, algorithm in _SNOWBALL.items() if algorithm in there)


@cache
def stemmer(language: str) -> Callable[[str], str] | None:
    """Maps a word to its lower-case stem, or to itself if the stem is equal; None without a stemmer."""
    if language not in stem_languages():
        return None
    stem = _import("snowballstemmer").stemmer(_SNOWBALL[language]).stemWord

    def change(word: str) -> str:
        lower = word.lower()
        found: str = stem(lower)
        return word if found == lower else found

    return change


@cache
def lemma_languages() -> list[str]:
    """Languages with a dictionary of lemmas."""
    _import("simplemma")
    from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

    return sorted(SUPPORTED_LANGUAGES)


@cache
def lemmatizer(language: str) -> Callable[[str], str] | None:
    """Maps a word to its lemma; None for a language without a dictionary."""
    if language not in lemma_languages():
        return None
    lemmatize = _import("simplemma").lemmatize
    return lambda word: lemmatize(word, lang=language)


def _import(name: str) -> ModuleType:
    try:
        return __import__(name)
    except ImportError as error:
        raise BabelrecError(f"text.preprocessing needs {name}: pip install 'babelrec[preprocessing]'") from error
