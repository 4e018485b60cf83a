"""Translate-then-encode: translates a multilingual catalogue to one language, each distinct text once."""

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
    """Creates the translator selected by ``config.translator``.

    Raises:
        BabelrecError: None is selected, or its requirements are missing.
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
    """Translates texts in one of ``config.sources`` to ``config.target``.

    Args:
        texts: N texts.
        languages: Their N languages.
        config: Translator, target, sources.
        progress: Show a progress bar (on standard error).

    Returns:
        N texts, and their N languages now.

    Raises:
        BabelrecError: The translator is not available, can't translate a language of ``config.sources``, fails, or
            exhausts its budget. Its translations so far are kept on disk.
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
    """Translates texts of one language, using stored translations where available.

    Each batch is stored as soon as it is complete: an interrupted call resumes where it stopped. Blank texts are
    unchanged, and characters that UTF-8 can't encode become U+FFFD.

    Args:
        texts: N texts in any order, repeats allowed.
        source: Their language.
        target: The target language.
        translator: A translator for this pair.
        store: Existing translations; new ones are added.
        progress: Show a progress bar (on standard error).

    Returns:
        N translations.

    Raises:
        BabelrecError: From the translator or the store.
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
            # The translator's own error lists the available pairs.
            translator.identity(source, target)
            raise BabelrecError(f"text.translation can't translate from {source!r} to {target!r}.")


def _to_be_translated(translator: Translator, language: str, wanted: set[str] | None, target: str) -> bool:
    base, target_base = language.split("-")[0], target.split("-")[0]
    if language == UNDETERMINED or base == target_base:
        return False
    if wanted is not None:
        return language in wanted or base in wanted
    return translator.offers(language, target)
