"""What the encoder reads of a catalogue: its texts translated, then preprocessed, as ``text`` says."""

from collections.abc import Sequence

from trainer.data.languages import UNDETERMINED
from trainer.text.settings import TextConfig


def prepare_texts(texts: Sequence[str], languages: Sequence[str], config: TextConfig) -> list[str]:
    """Texts as they go into the encoder; a list comes back as it is when nothing is switched on.

    The cache of vectors is keyed by what the encoder reads, so texts prepared in two ways never share a vector
    unless they came out equal.

    Args:
        texts: N texts.
        languages: Their N BCP 47 tags.
        config: ``translation`` and ``preprocessing``.

    Raises:
        BabelrecError: As of the translator and the steps.
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
    """Category labels for the encoder: no language is known of them, so they get the steps of ``*`` alone."""
    untranslated = config.model_copy(update={"translation": type(config.translation)()})
    return prepare_texts(labels, [UNDETERMINED] * len(labels), untranslated)
