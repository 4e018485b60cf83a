"""Checked access to the values of a document, with errors that name the place and the remedy."""

import difflib
import math
import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from serving.service.rules.errors import RulesError
from serving.service.rules.reading import Document, Path
from serving.service.types import Scalar

MAX_TEXT: Final = 1_000
"""Characters of a text in a document."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxdict = 3
_short.maxlevel = 2


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a document, with its place.

    Attributes:
        document: The document.
        path: Where in it.
        content: The value.
    """

    document: Document
    path: Path
    content: object

    def error(self, problem: str) -> RulesError:
        """An error about it."""
        return self.document.error(self.path, problem)

    def unexpected(self, wanted: str) -> RulesError:
        """An error that says what is wanted and what was received."""
        return self.error(f"{wanted}, received {self.shown()}.")

    def shown(self) -> str:
        """The content in short, for messages."""
        if isinstance(self.content, bool) or self.content is None:
            return {True: "true", False: "false", None: "nothing"}[self.content]
        if isinstance(self.content, int) and abs(self.content) >= 10**40:
            return "a number of more than 40 digits"
        return _short.repr(self.content).encode("utf-8", "backslashreplace").decode()

    def mapping(self, wanted: str) -> dict[str, "Value"]:
        """Its entries."""
        if not isinstance(self.content, dict):
            raise self.unexpected(wanted)
        for key in self.content:
            if not isinstance(key, str) or len(key) > MAX_TEXT:
                raise self.error(
                    f"the key {_short.repr(key)} is not text of at most {MAX_TEXT:,} characters. Rename it."
                )
        return {key: Value(self.document, (*self.path, key), inner) for key, inner in self.content.items()}

    def sequence(self, wanted: str, most: int) -> list["Value"]:
        """Its elements, at least one."""
        if not isinstance(self.content, list) or not self.content:
            raise self.unexpected(wanted)
        if len(self.content) > most:
            raise self.error(f"{len(self.content):,} values where at most {most:,} are allowed. Shorten the list.")
        return [Value(self.document, (*self.path, place), inner) for place, inner in enumerate(self.content)]

    def text(self, wanted: str) -> str:
        """Text that is not blank."""
        if not isinstance(self.content, str):
            numeric = isinstance(self.content, bool | int | float)
            raise self.unexpected(f"{wanted} (put it into quotes)" if numeric else wanted)
        if not self.content.strip():
            raise self.unexpected(wanted)
        if len(self.content) > MAX_TEXT:
            raise self.error(f"text of {len(self.content):,} characters where {MAX_TEXT:,} are allowed. Shorten it.")
        if any("\ud800" <= character <= "\udfff" for character in self.content):
            raise self.error("half of a surrogate pair, which is not Unicode. Write the character itself.")
        return self.content

    def number(self, wanted: str) -> float:
        """A finite number."""
        if isinstance(self.content, bool) or not isinstance(self.content, int | float):
            raise self.unexpected(wanted)
        if not math.isfinite(self.content) if isinstance(self.content, float) else abs(self.content) >= 10**300:
            raise self.unexpected(f"{wanted}, finite and below 1e300")
        return self.content

    def integer(self, wanted: str, least: int, most: int) -> int:
        """A whole number within bounds."""
        if isinstance(self.content, bool) or not isinstance(self.content, int):
            raise self.unexpected(wanted)
        if not least <= self.content <= most:
            raise self.unexpected(f"{wanted} from {least:,} to {most:,}")
        return self.content

    def scalar(self, wanted: str) -> Scalar:
        """Text, a finite number or a boolean."""
        if isinstance(self.content, bool):
            return self.content
        if isinstance(self.content, int | float):
            return self.number(wanted)
        return self.text(wanted)


def refuse_unknown(fields: dict[str, Value], known: Collection[str], what: str) -> None:
    """Refuses a key that is not among those known.

    Args:
        fields: The entries of a mapping.
        known: Keys it may have.
        what: It, for the message.

    Raises:
        RulesError: there is such a key.
    """
    for name, value in fields.items():
        if name not in known:
            raise value.error(f"{what} has no {name!r:.60}.{suggestion(name, known)}")


def suggestion(name: str, known: Collection[str]) -> str:
    """A sentence with the known name that is most like one, or with all of them."""
    # The comparison is quadratic in the length of the name.
    near = difflib.get_close_matches(name[:60], known, n=1)
    return f" Did you mean {near[0]!r}?" if near else f" It may have: {', '.join(known)}."
