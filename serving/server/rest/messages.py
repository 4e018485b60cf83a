"""Requests and responses of the REST API, as its application sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]
JSON = ("Content-Type", "application/json")
CLOSE = ("Connection", "close")
"""Tells the client that the connection ends with the response."""


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request.

    Attributes:
        method: as it was sent.
        target: as it was sent, usually a path.
        headers: by lower-case name; repeated ones are joined by a comma.
        body: decoded from chunks, but not from gzip.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class Response:
    """A complete response.

    Attributes:
        status: code and reason.
        headers: all except those that HTTP itself adds.
        body: the response body.
    """

    status: str
    headers: Headers
    body: bytes = b""
