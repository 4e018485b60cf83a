"""What the encoder reads of a catalogue: its texts translated, then preprocessed, as ``text`` says."""

from collections.abc import Sequence

from trainer.config import TextConfig
from trainer.data.languages import UNDETERMINED


def prepare_texts(texts: list[str], languages: Sequence[str], config: TextConfig) -> list[str]:
    """Texts as they go into the encoder; ``texts`` itself when nothing is switched on.

    The cache of vectors is keyed by what the encoder reads, so texts prepared in two ways never share a vector
    unless they came out equal.

    Args:
        texts: N texts.
        languages: Their N BCP 47 tags.
        config: ``translation`` and ``preprocessing``.

    Raises:
        BabelrecError: As of the translator and the steps.
    """
    if config.translation.translator is not None:
        from trainer.text.translation.catalogue import translate_catalogue

        texts, languages = translate_catalogue(texts, languages, config.translation)
    if config.preprocessing:
        from trainer.text.preprocessing import preprocess

        texts = preprocess(texts, languages, config.preprocessing)
    return texts


def prepare_labels(labels: list[str], config: TextConfig) -> list[str]:
    """Category labels for the encoder: no language is known of them, so they get the steps of ``*`` alone."""
    untranslated = config.model_copy(update={"translation": type(config.translation)()})
    return prepare_texts(labels, [UNDETERMINED] * len(labels), untranslated)
