"""Which ids the interface takes, and how they are read from a path."""

import re
import unicodedata
from typing import Annotated, Final
from urllib.parse import unquote_to_bytes

from fastapi import Path
from pydantic import AfterValidator, Field

from serving.service.errors import InvalidRequestError

ID_BYTES: Final = 256
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def mistake_of(value: str) -> str:
    """What is wrong with an id; empty: nothing."""
    if value.isascii():
        if len(value) <= ID_BYTES and value.isprintable():
            return ""
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            return "has half of a surrogate pair. Remedy: send valid Unicode"
        # Else two ids that look the same would be two users.
        if not unicodedata.is_normalized("NFC", value):
            return "is not in Unicode's normal form C. Remedy: normalise ids once, where they are made"
    if size > ID_BYTES:
        return f"has {size:,} bytes in UTF-8; at most {ID_BYTES}. Remedy: shorten it"
    if _CONTROL.search(value):
        return "has a control character. Remedy: remove it"
    return ""


def check_id(name: str, value: str) -> str:
    """An id, if it is one.

    Raises:
        InvalidRequestError: it is empty or malformed.
    """
    mistake = mistake_of(value) if value else "is empty. Remedy: give it"
    if mistake:
        raise InvalidRequestError(f"`{name}` {mistake}.")
    return value


def _checked(value: str) -> str:
    if mistake := mistake_of(value):
        raise ValueError(mistake)
    return value


Id = Annotated[str, Field(min_length=1), AfterValidator(_checked)]
"""An id in a body."""
OptionalId = Annotated[str, AfterValidator(_checked)]
"""An id in a body, which may be empty."""


def path_id(name: str, quoted: str) -> str:
    """An id from a path, of which the routes see the quoted form: it may contain a slash.

    Raises:
        InvalidRequestError: it is malformed.
    """
    try:
        value = unquote_to_bytes(quoted.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"`{name}` in the path is not UTF-8. Remedy: percent-encode it as UTF-8.") from None
    return check_id(name, value)


ItemIdPath = Annotated[str, Path(alias="item_id", description="Id of the item, percent-encoded as UTF-8.")]
UserIdPath = Annotated[str, Path(alias="user_id", description="Id of the user, percent-encoded as UTF-8.")]
SessionIdPath = Annotated[str, Path(alias="session_id", description="Id of the session, percent-encoded as UTF-8.")]
