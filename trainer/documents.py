"""Strict reader for hand-written YAML: settings, headers and lists, with errors that give the line.

It reads the core schema of YAML 1.2, where only ``true`` and ``false`` are booleans: ``no`` is Norwegian, ``12:30`` a
time and ``2024-01-01`` a date, all as text. YAML 1.1 reads them as a boolean, 750 seconds and a date object.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from yaml.constructor import ConstructorError
from yaml.events import Event
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from trainer.errors import BabelrecError

_Content = TypeVar("_Content")

MAX_BYTES: Final = 16 * 1024 * 1024
# Limits for the document with all aliases expanded: nested aliases multiply ("billion laughs").
_MAX_NODES: Final = 1_000_000
_MAX_DEPTH: Final = 100
_MERGE: Final = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML's reader without tags, and with the scalars of YAML 1.2."""

    def get_event(self) -> Event:
        event: Event = super().get_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            mark = event.start_mark
            # Its other type is that of PyYAML's reader in C.
            raise ConstructorError(None, None, f"the tag {tag!r}: tags are not supported", mark)  # type: ignore[arg-type]
        return event


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, which also quotes what only YAML 1.2 takes for a number, such as the text ``1e3``."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    # `010` is eight in YAML 1.1 and ten in 1.2: it stays text, which a numeric setting refuses.
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F_]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?[0-9]+[eE][-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def parse_yaml(text: str, origin: str) -> object:
    """The content of one YAML document.

    Args:
        text: The document.
        origin: Its name in error messages, such as its file.

    Raises:
        BabelrecError: invalid YAML, a repeated key in a mapping, a tag, or an unbounded document.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node)
            content: object = loader.construct_document(node)
            return content
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise BabelrecError(_explain(error, origin)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        # An integer for text, bytes for bytes.
        raise BabelrecError(
            f"{origin}, line {line}: YAML does not allow the character U+{int(error.character):04X}. Remove it, or "
            'write it as an escape such as "\\u0007" in double quotes.'
        ) from error
    except RecursionError as error:
        raise BabelrecError(f"{origin} is nested more than {_MAX_DEPTH} levels deep. Make it flatter.") from error
    except ValueError as error:
        # Such as an integer with more digits than Python converts.
        raise BabelrecError(f"{origin} is not valid YAML: {error}. Correct the value.") from error


def dump_yaml(content: object) -> str:
    """Block-style YAML that `parse_yaml`, and readers of YAML 1.1, read back unchanged."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load_yaml(path: Path, *, what: str) -> object:
    """The content of a YAML file in UTF-8; None if it is empty.

    Args:
        path: The file.
        what: Description of the file for error messages, such as ``the config``.

    Raises:
        BabelrecError: missing, not a file, not UTF-8, or as for `parse_yaml`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except IsADirectoryError as error:
        raise BabelrecError(f"Can't read {what}: {path} is a directory. Give a YAML file in it.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BabelrecError(f"Can't read {what}: {path}: {reason}. Give an existing YAML file.") from error
    if len(content) > MAX_BYTES:
        raise BabelrecError(f"{path} is larger than {MAX_BYTES // 1024**2} MiB. Give {what}, not data.")
    return parse_yaml(_decode(content, path), str(path))


def read_yaml(path: Path, form: TypeAdapter[_Content], *, what: str, remedy: str) -> _Content:
    """Reads and checks a file.

    Args:
        path: The file.
        form: Type of its content.
        what: Description of the file for error messages.
        remedy: Description of the expected form for error messages.

    Raises:
        BabelrecError: as for `load_yaml`, or the content has another form.
    """
    content = load_yaml(path, what=what)
    try:
        return form.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BabelrecError(
            f"{path}: {place}: {first['msg']}, received {first['input']!r:.80}. Remedy: {remedy}"
        ) from error


def _decode(content: bytes, path: Path) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BabelrecError(f"{path} is written in UTF-16. Save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BabelrecError(
            f"{path}, line {line}: the byte 0x{content[error.start]:02X} is not UTF-8 (Latin-1 or Windows-1252?). Save "
            "the file as UTF-8."
        ) from error


def _check(root: Node) -> None:
    """Refuses repeated keys and documents that are infinite or too large once their aliases are expanded."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Node, depth: int) -> int:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if isinstance(node, ScalarNode):
            return 1
        if id(node) in open_nodes:
            raise ConstructorError(None, None, "an anchor that contains itself", node.start_mark)
        if depth > _MAX_DEPTH:
            raise ConstructorError(None, None, f"nested more than {_MAX_DEPTH} levels deep", node.start_mark)
        open_nodes.add(id(node))
        if isinstance(node, MappingNode):
            _refuse_repeated_keys(node)
        total = 1 + sum(size(child, depth + 1) for child in _children(node))
        if total > _MAX_NODES:
            problem = f"more than {_MAX_NODES:,} values once its aliases are expanded"
            raise ConstructorError(None, None, problem, node.start_mark)
        open_nodes.remove(id(node))
        sizes[id(node)] = total
        return total

    size(root, 0)


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _refuse_repeated_keys(node: MappingNode) -> None:
    first: dict[tuple[str, object], Node] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            continue
        earlier = first.setdefault(_identity(key), key)
        if earlier is not key:
            remedy = (
                "merge several anchors as `<<: [*a, *b]`" if key.tag == _MERGE else "put both into one, or remove one"
            )
            raise ConstructorError(
                None,
                None,
                f"the key {key.value!r} already occurs in line {earlier.start_mark.line + 1}; one of the two would "
                f"be lost: {remedy}",
                key.start_mark,
            )


def _identity(key: ScalarNode) -> tuple[str, object]:
    """Equal for keys that are equal in a Python dictionary: ``~`` and ``null``, ``1`` and ``1.0`` and ``true``."""
    kind, text = key.tag.rpartition(":")[2], key.value
    if kind == "null":
        return kind, None
    if kind == "bool":
        return "number", float(text.lower() == "true")
    if kind in ("int", "float"):
        plain = text.replace("_", "")
        try:
            return "number", float(int(plain, 0)) if kind == "int" else float(plain.replace(".inf", "inf"))
        except (ValueError, OverflowError):
            return kind, plain
    return kind, text


def _explain(error: yaml.MarkedYAMLError, origin: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{origin}, line {mark.line + 1}, column {mark.column + 1}" if mark is not None else origin
    problem = error.problem or error.context or "broken"
    if isinstance(error, ConstructorError):
        return f"{place}: {problem}."
    if "'\\t'" in problem:
        return f"{place}: a tab where YAML needs spaces. Indent with spaces."
    if "single document" in str(error.context):
        return f"{place}: a second document begins here (`---`). Keep one document in a file."
    context = f" {error.context}" if error.context and error.context != problem else ""
    hint = ""
    if "mapping values are not allowed" in problem:
        hint = " Quote text that contains `: `, and indent the keys of a section equally."
    elif "could not find expected ':'" in problem:
        hint = " A key is followed by a colon and a space (`epochs: 3`)."
    elif "found undefined alias" in problem or "scanning an alias" in str(error.context):
        hint = " Quote text that begins with `*`."
    return f"{place}: not valid YAML{context}: {problem}.{hint}"
