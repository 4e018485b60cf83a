"""Describes required interfaces of a library, and reports those that an installed version lacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

_NAMED = 3  # missing names in a message


class MissingInterfaceError(OSError):
    """An installed library lacks a required interface."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An undocumented interface of a library, which other versions may lack.

    Attributes:
        package: the distribution that provides it.
        works: versions known to provide it.
        missing: returns the names that the installed version lacks.
        without: the consequence if any are missing; empty: the server does not start.
        purpose: its use.
    """

    package: str
    works: str
    purpose: str
    missing: Callable[[], Sequence[str]]
    without: str = ""

    def problem(self) -> str | None:
        """What is missing, in one line; None if nothing is."""
        names = self.missing()
        if not names:
            return None
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return (
            f"{self.package} {installed(self.package)} lacks {', '.join(names[:_NAMED])}{more}, needed {self.purpose}; "
            f"known to work: {self.works}. {self.without or 'The server does not start'}"
        )


def installed(package: str) -> str:
    """The installed version of a distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
