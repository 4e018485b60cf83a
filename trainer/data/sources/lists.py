"""Lists written as text, in JSON, Python or PostgreSQL notation."""

import json
import logging
import re
from typing import Final

import polars as pl

from trainer.data.faults import Origin
from trainer.data.sources.refusal import refuse
from trainer.data.tables import TEXTS

# Entries in Python notation: a string in either quote, None, a number or a Boolean.
_PYTHON: Final = re.compile(
    r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(None)|(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|True|False))\s*(,|$)""",
    re.DOTALL,
)
_POSTGRES: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\\]*))\s*(,|$)', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_SIMPLE: Final = {"n": "\n", "t": "\t", "r": "\r"}
_BRACKETED: Final = r"(?s)^\s*(?:\[.*\]|\{.*\})\s*$"


def to_list(frame: pl.LazyFrame, name: str, separator: str, origin: Origin) -> pl.LazyFrame:
    """Lists of text; empty if the file has nothing.

    Text in brackets is read as a list (`parse`), other text is split at the separator.

    Raises:
        DatasetError: A row has brackets that don't enclose a list, or the type is not text.
    """
    schema = frame.collect_schema()
    if name not in schema:
        return frame.with_columns(pl.lit([], TEXTS).alias(name))
    dtype = schema[name]
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        given = pl.col(name).cast(pl.String)
        bracketed = given.str.contains(_BRACKETED)
        parsed = pl.when(bracketed).then(given).map_batches(parse_list, return_dtype=TEXTS, is_elementwise=True)
        refuse(
            frame,
            bracketed & parsed.is_null(),
            name,
            origin,
            "is in brackets but is not a list of texts",
            'write `["a", "b"]`, or the entries without brackets, separated by `list_separator`',
        )
        entries = pl.when(bracketed).then(parsed).otherwise(given.str.split(separator))
        _hint_at_separator(frame.filter(~bracketed), name, separator, origin)
    elif isinstance(dtype, (pl.List, pl.Array)) and not _inner(dtype).is_nested():
        entries = pl.col(name).cast(TEXTS)
    elif dtype == pl.Null:
        entries = pl.lit(None, TEXTS)
    else:
        raise origin.fault(name, f"type {dtype} instead of a list of texts", "write a list of strings")
    entries = entries.list.eval(pl.element().str.strip_chars()).list.eval(pl.element().filter(pl.element() != ""))
    return frame.with_columns(entries.fill_null([]).alias(name))


def _inner(dtype: pl.List | pl.Array) -> pl.DataType:
    return pl.List(dtype.inner).inner  # type: ignore[return-value]


def _hint_at_separator(frame: pl.LazyFrame, name: str, separator: str, origin: Origin) -> None:
    signs = [sign for sign in (",", ";", "|", "/") if sign != separator]
    text = pl.col(name).cast(pl.String)
    present, separated, *counts = origin.aggregate(
        frame.filter(text != ""),
        present=pl.len(),
        **{f"with {sign}": text.str.contains(sign, literal=True).sum() for sign in (separator, *signs)},
    )
    if not present or separated:
        return
    count, best = max(zip(counts, signs, strict=True), key=lambda pair: pair[0])
    if count * 2 >= present and present > 1:
        origin.note(
            name,
            f"no value holds the list separator {separator!r}, {count:,} of {present:,} hold {best!r}: set "
            f"`list_separator: {best!r}` if it separates entries",
            logging.WARNING,
        )


def parse_list(texts: pl.Series) -> pl.Series:
    """Parses each text, once per distinct text; null if it is not a list."""
    known: dict[str, list[str] | None] = {}
    out: list[list[str] | None] = []
    for text in texts:
        if text is None:
            out.append(None)
            continue
        if text not in known:
            known[text] = parse(text)
        out.append(known[text])
    return pl.Series(texts.name, out, TEXTS)


def parse(text: str) -> list[str] | None:
    """Parses a list written as text: JSON, Python's ``['a', 'b']`` or PostgreSQL's ``{a,"b c"}``.

    Returns:
        Its entries as text, without nulls; None if the text is not such a list.
    """
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return None
    if text.startswith("["):
        try:
            return _entries(json.loads(text))
        except (ValueError, RecursionError):
            return _tokens(_PYTHON, text[1:-1])
    return _tokens(_PYTHON if text[1:].lstrip().startswith("'") else _POSTGRES, text[1:-1])


def _entries(parsed: object) -> list[str] | None:
    if not isinstance(parsed, list) or any(isinstance(entry, (list, dict)) for entry in parsed):
        return None
    return [_spell(entry) for entry in parsed if entry is not None]


def _spell(entry: object) -> str:
    if isinstance(entry, bool):
        return "true" if entry else "false"
    return entry if isinstance(entry, str) else str(entry)


def _tokens(pattern: re.Pattern[str], inside: str) -> list[str] | None:
    entries: list[str] = []
    position = 0
    if not inside.strip():
        return entries
    while position < len(inside):
        match = pattern.match(inside, position)
        if match is None or match.end() == position:
            return None
        entry = _entry(match, pattern is _PYTHON)
        if entry is not None:
            entries.append(entry)
        position = match.end()
    return entries


def _entry(match: re.Match[str], python: bool) -> str | None:
    if python:
        quoted = match[1] if match[1] is not None else match[2]
        return _ESCAPE.sub(_unescape, quoted) if quoted is not None else match[4]
    if match[1] is not None:
        return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL)
    bare = match[2].strip()
    return None if bare == "NULL" or not bare else bare


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _SIMPLE.get(code, code)
