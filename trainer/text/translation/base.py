"""The translator interface, common to rule-based systems, models and services."""

import abc
import re
from collections.abc import Iterator, Sequence


class Translator(abc.ABC):
    """Translates texts between languages given as BCP 47 tags."""

    @abc.abstractmethod
    def offers(self, source: str, target: str) -> bool:
        """Whether it can translate from ``source`` to ``target``, two different languages."""

    @abc.abstractmethod
    def identity(self, source: str, target: str) -> str:
        """Identifies the translator: program or endpoint, version or model, data. Equal ids give equal translations."""

    @abc.abstractmethod
    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[list[str]]:
        """Translates texts independently, one batch at a time; the caller stores each batch before the next begins.

        Args:
            texts: N texts, none of them blank.
            source: Their language.
            target: The target language, for which :meth:`offers` is true.

        Yields:
            The next translations, in the texts' order; N in all.

        Raises:
            BabelrecError: The translator failed, or its budget does not cover the texts.
        """

    def close(self) -> None:  # noqa: B027  most translators hold nothing
        """Releases connections; the translator must not be used afterwards."""


def replace_surrogates(text: str) -> str:
    """``text`` with U+FFFD for lone surrogates, which UTF-8 can't encode."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
