"""Parses JSON documents and prints JSON values for error messages, with RapidJSON like the real server.

Source: ``util/json_tensor.cc`` (``ParseJson``, ``JsonValueToString``).
"""

import binascii
import re
from base64 import b64decode
from itertools import takewhile
from typing import Any, TypeGuard

import rapidjson

from serving.server.errors import StatusError, invalid_argument
from serving.server.rest.json_numbers import decimal32, decimal64

# C numbers: an integer too large for 64 bits becomes a double, as in C++.
_NUMBERS = rapidjson.NM_NATIVE | rapidjson.NM_NAN
_UTF8_BOM = b"\xef\xbb\xbf"
_MORE = "The document root must not be followed by other values."
_ERROR = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)
# Longer values are truncated in messages.
_MAX_BYTES = 256
_MAX_FLOAT = 3.4028234e38
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_TYPE_NAMES: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
_SPACE = re.compile(r"[ \t\n\v\f\r]+")


def parse(body: bytes) -> dict[str, Any]:
    """Reads a request's document: strict JSON in UTF-8, plus NaN, Infinity and -Infinity.

    Anything after the document is ignored.

    Raises:
        StatusError: INVALID_ARGUMENT with RapidJSON's message and offset.
    """
    start = len(_UTF8_BOM) if body.startswith(_UTF8_BOM) else 0
    try:
        document = _first_value(body[start:] if start else body)
    except UnicodeDecodeError as error:
        raise _parse_error("Invalid encoding in string.", start + error.start) from None
    except rapidjson.JSONDecodeError as error:
        found = _ERROR.match(str(error))
        if found is None:
            raise invalid_argument(f"JSON Parse error: {error}") from None
        if not body:
            raise invalid_argument("JSON Parse error: The document is empty") from None
        raise _parse_error(found[2], start + int(found[1])) from None
    except RecursionError:
        raise invalid_argument("JSON Parse error: Values are nested too deeply.") from None
    if type(document) is not dict:
        raise format_error(document, "Is not object")
    return document


def format_error(value: object, problem: str) -> StatusError:
    """The error for a value of the wrong form."""
    return invalid_argument(f"JSON Value: {value_text(value)} {problem}")


def value_text(value: object) -> str:
    """A parsed value as the real server prints it in messages: on one line, truncated."""
    if type(value) is float:
        return decimal32(value) if -_MAX_FLOAT <= value <= _MAX_FLOAT else decimal64(value)
    text = str(rapidjson.dumps(_pruned(value, [_MAX_BYTES], 0), ensure_ascii=False, number_mode=_NUMBERS)).encode()
    return text.decode() if len(text) <= _MAX_BYTES else text[:_MAX_BYTES].decode(errors="ignore") + "..."


def type_name(value: object) -> str:
    """RapidJSON's name for a parsed value's type."""
    if value is None:
        return "Null"
    if type(value) is bool:
        return "True" if value else "False"
    return _TYPE_NAMES.get(type(value), "Number")


def is_base64(value: object) -> TypeGuard[dict[str, str]]:
    """Whether the value is an object that represents bytes: ``{"b64": "..."}`` and nothing else."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def base64_bytes(value: object) -> bytes:
    """The bytes that a ``{"b64": "..."}`` object represents.

    Whitespace is skipped and padding may be left out, as in Abseil.

    Raises:
        StatusError: INVALID_ARGUMENT: another object, or not base64.
    """
    if not is_base64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    text = _SPACE.sub("", value["b64"])
    digits = text.rstrip("=.")
    padding = len(text) - len(digits)
    missing = -len(digits) % 4
    if missing == 3 or padding not in (0, missing) or not _BASE64.fullmatch(digits):
        raise invalid_argument("Unable to base64 decode")
    try:
        return b64decode(digits + "=" * missing)
    except binascii.Error:
        raise invalid_argument("Unable to base64 decode") from None


def _first_value(text: bytes) -> object:
    try:
        return rapidjson.loads(text, number_mode=_NUMBERS)
    except rapidjson.JSONDecodeError as error:
        found = _ERROR.match(str(error))
        if found is None or found[2] != _MORE:
            raise
        return rapidjson.loads(text[: int(found[1])], number_mode=_NUMBERS)


def _pruned(value: object, budget: list[int], depth: int) -> object:
    """As much of a value as fits into a message: each part of it takes at least one character."""
    budget[0] -= 1
    if type(value) is str:
        budget[0] -= len(value)
        return value[: _MAX_BYTES + 1]
    if type(value) is list:
        items = value if depth <= _MAX_BYTES else []
        return [_pruned(item, budget, depth + 1) for item in takewhile(lambda _: budget[0] > 0, items)]
    if type(value) is not dict:
        return value
    pruned: dict[str, object] = {}
    if depth > _MAX_BYTES:
        return pruned
    for key, item in value.items():
        if budget[0] <= 0:
            break
        budget[0] -= len(key)
        pruned[key[: _MAX_BYTES + 1]] = _pruned(item, budget, depth + 1)
    return pruned


def _parse_error(message: str, offset: int) -> StatusError:
    return invalid_argument(f"JSON Parse error: {message} at offset: {offset}")
