"""Values on the command line: each function parses a text, and raises ValueError saying what is wrong with it."""

import re
from collections.abc import Callable
from typing import TypeVar

V = TypeVar("V", bound=str)


def at_least(lowest: int) -> Callable[[str], int]:
    """A parser of integers from ``lowest``."""

    def parse(text: str) -> int:
        value = integer(text)
        if value < lowest:
            raise ValueError(f"{value} is less than {lowest}")
        return value

    return parse


def integer(text: str) -> int:
    """An integer."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an integer") from None


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def port(text: str) -> int:
    """A TCP port; 0 for a free one."""
    value = integer(text)
    if not 0 <= value <= 65535:
        raise ValueError(f"{value} is not between 0 and 65535")
    return value


def port_or_free(text: str) -> int:
    """A TCP port; 0 for none, -1 for a free one."""
    return -1 if text == "-1" else port(text)


def seconds(text: str) -> float:
    """A finite number of seconds, at least 0."""
    value = number(text)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text} is not a number of seconds")
    return value


def fraction(text: str) -> float:
    """A number between 0 and 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text} is not between 0 and 1")
    return value


def boolean(text: str) -> bool:
    """``true`` or ``false``, also as a letter or a digit."""
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """``key=value,...``; integers become such."""
    pairs: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise ValueError(f"{part!r} is not key=value")
        pairs.append((key, int(value) if re.fullmatch(r"[+-]?[0-9]+", value) else value))
    return tuple(pairs)


def one_of(*values: V) -> Callable[[str], V]:
    """A parser of some texts."""

    def parse(text: str) -> V:
        for value in values:
            if value == text:
                return value
        raise ValueError(f"{text!r} is none of {', '.join(map(repr, values))}")

    return parse
