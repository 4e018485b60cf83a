"""Preparation of texts for the encoder: translation, then preprocessing, as configured in ``text``."""

from collections.abc import Sequence

from trainer.data.languages import UNDETERMINED
from trainer.text.settings import TextConfig


def prepare_texts(texts: Sequence[str], languages: Sequence[str], config: TextConfig) -> list[str]:
    """Prepares texts for the encoder; returns them unchanged if nothing is enabled.

    The cache of vectors is keyed by what the encoder reads, so differently prepared texts never share a vector
    unless the results are equal.

    Args:
        texts: N texts.
        languages: Their N BCP 47 tags.
        config: ``translation`` and ``preprocessing``.

    Raises:
        BabelrecError: From the translator or the preprocessing steps.
    """
    prepared = texts if isinstance(texts, list) else list(texts)
    if config.translation.translator is not None:
        from trainer.text.translation.catalogue import translate_catalogue

        prepared, languages = translate_catalogue(prepared, languages, config.translation)
    if config.preprocessing:
        from trainer.text.preprocessing import preprocess

        prepared = preprocess(prepared, languages, config.preprocessing)
    return prepared


def prepare_labels(labels: Sequence[str], config: TextConfig) -> list[str]:
    """Category labels for the encoder: their language is unknown, so only the steps of ``*`` apply."""
    untranslated = config.model_copy(update={"translation": type(config.translation)()})
    return prepare_texts(labels, [UNDETERMINED] * len(labels), untranslated)
