"""Where moving rows to files can stop."""

from collections.abc import Callable

STEPS = ("parts", "announced", "written", "renamed", "recorded", "deleted")
KillAt = Callable[[str, int], None]
"""A step, and which time that it is reached."""


class Killed(BaseException):
    """The process ends here."""
