"""Reads a document of rules: YAML 1.2 with neither tags nor anchors, every value with its line.

The values are built from the parser's events, so a document that is too deep or too long is refused while it is read,
nothing in it can name a Python type, and nothing can multiply by reference. Only ``true`` and ``false`` are booleans:
``no`` is Norwegian, ``0123`` and ``2024-01-01`` are text. JSON is YAML, so it is read as well, but for escapes of
surrogate pairs (``\\ud83d\\ude00``): parse such a text as JSON.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from serving.service.rules.errors import RulesError

MAX_BYTES: Final = 1024 * 1024
MAX_NODES: Final = 100_000
"""Values in a document, with those inside of others."""
MAX_LEVELS: Final = 40

Path = tuple[str | int, ...]

# The parser in C takes a fifteenth of the time; both send the same events.
_PARSER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_NULL: Final = re.compile(r"~|null|Null|NULL|")
_TRUE: Final = re.compile(r"true|True|TRUE")
_FALSE: Final = re.compile(r"false|False|FALSE")
# `010` is eight in YAML 1.1 and ten in 1.2: it stays text.
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_SPECIAL: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
# Longer integers are slow to convert, and no double is as large.
_MAX_DIGITS: Final = 310


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a document and its positions.

    Attributes:
        content: Mappings, lists, text, numbers, booleans and None.
        origin: The document's name in messages, such as its file.
        lines: Line of a value by its path, from 1; empty if the document had no lines, such as a body of JSON.
    """

    content: object
    origin: str
    lines: Mapping[Path, int] = field(default_factory=dict)

    def error(self, path: Path, problem: str) -> RulesError:
        """An error that names the place of a value, or of the innermost one around it whose line is known."""
        known = next((path[:size] for size in range(len(path), -1, -1) if path[:size] in self.lines), None)
        where = self.origin if known is None else f"{self.origin}, line {self.lines[known]}"
        return RulesError(f"{where}: {path_text(path)}: {problem}" if path else f"{where}: {problem}")


def path_text(path: Path) -> str:
    """A path as in ``rules[0].where.price``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part[:60]}" if text else part[:60]
    return text.encode("utf-8", "backslashreplace").decode()


def read_yaml(text: str, origin: str) -> Document:
    """The content of one YAML or JSON document.

    Args:
        text: The document.
        origin: Its name in messages.

    Raises:
        RulesError: it is not valid YAML, has a tag, an anchor or a repeated key, or is too large.
    """
    # A character has at least one byte: what is far too long is not encoded first.
    if len(text) > MAX_BYTES or _size(text, origin) > MAX_BYTES:
        raise RulesError(
            f"{origin} is larger than {MAX_BYTES // 1024**2} MiB. Keep long lists of items out of the rules: mark the "
            "items with a column and name that."
        )
    try:
        return _Builder(text, origin).document()
    except yaml.MarkedYAMLError as error:
        raise RulesError(_explain(error, text, origin)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RulesError(
            f"{origin}, line {line}: YAML does not allow the character U+{int(error.character):04X}. Remove it, or "
            'write it as an escape such as "\\u0007" in double quotes.'
        ) from error


def _size(text: str, origin: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        problem = "half of a surrogate pair, which is not Unicode. Save the document as UTF-8."
        raise RulesError(f"{origin}, line {line}: {problem}") from error


class _Builder:
    def __init__(self, text: str, origin: str) -> None:
        self._events: Iterator[Event] = yaml.parse(text, Loader=_PARSER)
        self._origin = origin
        self._lines: dict[Path, int] = {}

    def document(self) -> Document:
        next(self._events)
        content = None
        if isinstance(next(self._events), DocumentStartEvent):
            content = self._value(next(self._events), ())
            if not isinstance(end := next(self._events), DocumentEndEvent):
                raise self._error(end, (), "a second value. Keep one value in a document.")
            if isinstance(after := next(self._events), DocumentStartEvent):
                raise self._error(after, (), "a second document begins here (`---`). Keep one document in a file.")
        return Document(content, self._origin, self._lines)

    def _value(self, event: Event, path: Path) -> object:
        self._check(event, path)
        self._lines[path] = _line(event)
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path)
        if len(path) >= MAX_LEVELS:
            raise self._error(event, path, f"nested more than {MAX_LEVELS} levels deep. Make it flatter.")
        if isinstance(event, SequenceStartEvent):
            values: list[object] = []
            while not isinstance(inner := next(self._events), SequenceEndEvent):
                values.append(self._value(inner, (*path, len(values))))
            return values
        return self._mapping(path)

    def _mapping(self, path: Path) -> dict[str, object]:
        content: dict[str, object] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            self._check(event, path)
            if not isinstance(event, ScalarEvent):
                raise self._error(event, path, "a key that is a mapping or a list. Give text before the colon.")
            key = self._scalar(event, path)
            if not isinstance(key, str):
                raise self._error(event, path, f"the key {event.value!r:.40} is not text. Put it into quotes.")
            inner = (*path, key)
            if key in content:
                problem = (
                    f"the key {key!r:.60} already occurs in line {self._lines[inner]}; one of the two would be lost. "
                    "Put both into one, or remove one."
                )
                raise self._error(event, path, problem)
            content[key] = self._value(next(self._events), inner)
            # An error names the line of the key: the value may begin below it.
            self._lines[inner] = _line(event)
        return content

    def _check(self, event: Event, path: Path) -> None:
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            problem = (
                "anchors (`&`) and aliases (`*`) are not supported. Write the value out; quote text that begins so."
            )
            raise self._error(event, path, problem)
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            raise self._error(event, path, f"the tag {event.tag!r:.80}: tags are not supported. Remove it.")
        if len(self._lines) >= MAX_NODES:
            raise self._error(event, path, f"more than {MAX_NODES:,} values. Split the document or shorten its lists.")

    def _scalar(self, event: ScalarEvent, path: Path) -> object:
        text: str = event.value
        if not event.implicit[0]:
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
            return bool(_TRUE.fullmatch(text))
        if _INTEGER.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise self._error(event, path, f"a number of {len(text)} digits. Put it into quotes if it is text.")
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        if special := _SPECIAL.fullmatch(text):
            return float("nan") if special[1] is None else float(f"{special[1]}inf")
        return text

    def _error(self, event: Event, path: Path, problem: str) -> RulesError:
        return Document(None, self._origin, {path: _line(event)}).error(path, problem)


def _line(event: Event) -> int:
    # Only events that a program makes have no mark.
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _explain(error: yaml.MarkedYAMLError, text: str, origin: str) -> str:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "broken"
    if mark is None:
        return f"{origin}: not valid YAML: {problem}. Correct it."
    place = f"{origin}, line {mark.line + 1}, column {mark.column + 1}"
    line = (text.splitlines() or [""])[mark.line : mark.line + 1]
    around = line[0][max(0, mark.column - 1) : mark.column + 1] if line else ""
    if ">" in around:
        return f"{place}: `>` begins a block of text in YAML. Put the operator into quotes: '\">\"' or '\">=\"'."
    if "\t" in around:
        return f"{place}: a tab where YAML needs spaces. Indent with spaces."
    return (
        f"{place}: not valid YAML: {problem}. Quote text that contains `: ` or begins with a sign, and indent the keys "
        "of a rule equally."
    )
