"""Describes what is needed of a library, and reports what an installed version lacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

_NAMED = 3  # missing names in a message


class MissingInterfaceError(OSError):
    """An installed library lacks something that can't be done without."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A part of a library that its next version may lack.

    Attributes:
        package: the distribution that has it.
        works: versions that are known to have it.
        missing: returns the names of what the installed version lacks.
        without: what the server does when something is missing; empty: it does not start.
        purpose: what it is for.
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
