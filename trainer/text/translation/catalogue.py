"""Translate-then-encode: texts of a catalogue in many languages into one, each distinct text once."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.data.languages import UNDETERMINED, normalise
from trainer.errors import BabelrecError
from trainer.files import cache_root
from trainer.text.settings import TranslationConfig
from trainer.text.translation.base import Translator, replace_surrogates
from trainer.text.translation.store import TranslationStore


def make_translator(config: TranslationConfig) -> Translator:
    """The translator that ``config.translator`` names.

    Raises:
        BabelrecError: None is named, or what it needs is not there.
    """
    if config.translator == "apertium":
        from trainer.text.translation.apertium import Apertium

        return Apertium(config.apertium)
    if config.translator == "openai":
        from trainer.text.translation.openai import ChatTranslator

        return ChatTranslator(config.openai)
    raise BabelrecError("text.translation.translator is not set; it is apertium or openai.")


def translation_store() -> TranslationStore:
    """The store in the cache directory."""
    return TranslationStore(cache_root() / "translations" / "translations.sqlite")


def translate_catalogue(
    texts: Sequence[str], languages: Sequence[str], config: TranslationConfig, *, progress: bool = True
) -> tuple[list[str], list[str]]:
    """Translates into ``config.target`` what is in one of ``config.sources``.

    Args:
        texts: N texts.
        languages: Their N languages.
        config: Translator, target, sources.
        progress: Show a progress bar (on standard error).

    Returns:
        N texts, and the N languages that they are in now.

    Raises:
        BabelrecError: The translator can't be had, has no way from a language of ``config.sources``, fails, or
            comes to the end of its budget. What it translated is kept on disk.
    """
    target = normalise(config.target)
    wanted = None if config.sources is None else {normalise(tag) for tag in config.sources}
    translator = make_translator(config)
    result, now = list(texts), list(languages)
    try:
        _check_sources(translator, wanted, target)
        for language in sorted(set(languages)):
            if not _to_be_translated(translator, language, wanted, target):
                continue
            rows = [row for row, tag in enumerate(languages) if tag == language]
            translations = translate_texts(
                [texts[row] for row in rows], language, target, translator, translation_store(), progress=progress
            )
            for row, translation in zip(rows, translations, strict=True):
                result[row], now[row] = translation, target
    finally:
        translator.close()
    return result, now


def translate_texts(
    texts: Sequence[str],
    source: str,
    target: str,
    translator: Translator,
    store: TranslationStore,
    *,
    progress: bool = True,
) -> list[str]:
    """Translates texts of one language, from the store where they were translated before.

    Each batch is stored as soon as it is there: an interrupted call goes on where it stopped. Blank texts stay
    as they are, and characters that UTF-8 can't write become U+FFFD.

    Args:
        texts: N texts in any order, repeats allowed.
        source: Their language.
        target: The language wanted.
        translator: Has a way between them.
        store: What is there already, and where new translations go.
        progress: Show a progress bar (on standard error).

    Returns:
        N translations.

    Raises:
        BabelrecError: As of the translator and the store.
    """
    clean = [replace_surrogates(text) for text in texts]
    distinct = [text for text in dict.fromkeys(clean) if text.strip()]
    identity = translator.identity(source, target)
    known = store.look_up(identity, source, target, distinct)
    missing = [text for text in distinct if text not in known]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not (progress and missing)) as bar:
        task = bar.add_task(f"Translating {source} to {target}", total=len(missing))
        place = 0
        for part in translator.translate(missing, source, target) if missing else ():
            translations = dict(zip(missing[place : place + len(part)], part, strict=True))
            store.add(identity, source, target, translations)
            known |= translations
            place += len(part)
            bar.advance(task, len(part))
    return [known.get(text, text) for text in clean]


def _check_sources(translator: Translator, wanted: set[str] | None, target: str) -> None:
    for source in sorted(wanted or ()):
        if source != target and not translator.offers(source, target):
            # The translator's own error says which pairs there are.
            translator.identity(source, target)
            raise BabelrecError(f"text.translation has no way from {source!r} to {target!r}.")


def _to_be_translated(translator: Translator, language: str, wanted: set[str] | None, target: str) -> bool:
    base, target_base = language.split("-")[0], target.split("-")[0]
    if language == UNDETERMINED or base == target_base:
        return False
    if wanted is not None:
        return language in wanted or base in wanted
    return translator.offers(language, target)
