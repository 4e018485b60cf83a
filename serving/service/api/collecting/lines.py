"""The lines of a request with events: JSON or one JSON document per line."""

from http import HTTPStatus
from typing import Final

import msgspec

from serving.service.api.problems import ProblemError

MOST_LINES: Final = 1_000
NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A body with events.

    Attributes:
        events: The lines.
        token: Of the browser, where a header can't be sent (`navigator.sendBeacon`).
    """

    events: msgspec.Raw
    token: str = ""


_envelope: Final = msgspec.json.Decoder(Envelope)
_lines: Final = msgspec.json.Decoder(list[msgspec.Raw])


def open_envelope(body: bytes, content_type: str, *, lone_line: bool = False) -> tuple[bytes, str]:
    """The lines of a body as a JSON array, and the token sent with them.

    Args:
        body: Of the request.
        content_type: Its header.
        lone_line: Whether an object without `events` is a line itself.

    Raises:
        ProblemError: it is not JSON.
    """
    if content_type.partition(";")[0].strip().lower() in NDJSON:
        # A line is a document, so commas between them make an array.
        return b"[" + b",".join(line for line in body.splitlines() if line.strip()) + b"]", ""
    start = body.lstrip()[:1]
    if start == b"[":
        return body, ""
    try:
        envelope = _envelope.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if lone_line and start == b"{" and isinstance(error, msgspec.ValidationError):
            return b"[" + body + b"]", ""
        raise malformed(error) from None
    return bytes(envelope.events), envelope.token


def split(array: bytes) -> list[msgspec.Raw]:
    """The lines of a JSON array.

    Raises:
        ProblemError: it is not one, or has too many.
    """
    try:
        lines = _lines.decode(array)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    check_number(len(lines))
    return lines


def check_number(number: int) -> None:
    """Refuses too many lines.

    Raises:
        ProblemError: there are.
    """
    if number > MOST_LINES:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"{number:,} events in one request; at most {MOST_LINES:,}. Remedy: send them in parts.",
        )


def malformed(error: Exception) -> ProblemError:
    """The answer to a body that is not JSON, or not of the form."""
    status = HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(error, msgspec.ValidationError) else HTTPStatus.BAD_REQUEST
    return ProblemError(status, f"The body can't be read: {error}. Remedy: send JSON in UTF-8; see /docs.")
