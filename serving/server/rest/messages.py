"""Requests and responses of the REST API, as its application sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]
JSON = ("Content-Type", "application/json")
CLOSE = ("Connection", "close")
"""Says that the connection ends with the response."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request.

    Attributes:
        method: as it was sent.
        target: as it was sent, most often a path.
        headers: by name in lower case; those that came twice are joined by a comma.
        body: decoded from chunks, but not from gzip.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class Response:
    """A whole response.

    Attributes:
        status: code and reason.
        headers: all but what HTTP itself adds.
        body: what comes after them.
    """

    status: str
    headers: Headers
    body: bytes = b""
