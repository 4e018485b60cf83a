"""What every translator offers: the one interface behind which rules, models and services are exchanged."""

import abc
import re
from collections.abc import Iterator, Sequence


class Translator(abc.ABC):
    """Translates texts between languages, which are BCP 47 tags."""

    @abc.abstractmethod
    def offers(self, source: str, target: str) -> bool:
        """Whether there is a way from ``source`` to ``target``, two different languages."""

    @abc.abstractmethod
    def identity(self, source: str, target: str) -> str:
        """Names what translates: program or endpoint, version or model, data. Equal names give equal translations."""

    @abc.abstractmethod
    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[list[str]]:
        """Translates texts, each for itself, a batch at a time; the caller keeps each batch before the next begins.

        Args:
            texts: N texts, none of them blank.
            source: Their language.
            target: The language wanted; :meth:`offers` has said that there is a way.

        Yields:
            The next translations, in the texts' order; N in all.

        Raises:
            BabelrecError: The translator failed, or its budget does not allow for the texts.
        """

    def close(self) -> None:  # noqa: B027  most translators hold nothing
        """Gives back connections; the translator is not used afterwards."""


def replace_surrogates(text: str) -> str:
    """``text`` with U+FFFD for lone surrogates, which UTF-8 can't write."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
