"""One client of the REST API: h11 reads and writes HTTP, asyncio waits for the client."""

import asyncio
import email.utils
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import h11

from serving.server.rest import json_encode
from serving.server.rest.body import BodyError, Budget
from serving.server.rest.messages import CLOSE, JSON, Request, Response

_MAX_HEADER_BYTES = 64 * 1024
_PIECE = 64 * 1024
# Idle connections are closed after this long.
_IDLE_SECONDS = 75.0
# A client may pause this long while it sends a request or reads the response; one that is slower than this uses up
# the time bit by bit.
_PATIENCE_SECONDS = 30.0
_MIN_BYTES_PER_SECOND = 16 * 1024
# A client that is still sending when it is refused gets the response if it finishes within this time.
_LINGER_SECONDS = 10.0
_VERSIONS = frozenset({b"1.0", b"1.1"})
_REASONS = {413: "Content Too Large", 431: "Request Header Fields Too Large", 501: "Not Implemented"}


@dataclass(frozen=True, slots=True)
class Service:
    """Shared state of all connections.

    Attributes:
        answer: turns a request into a response.
        budget: memory for bodies.
        is_stopping: whether this response is the connection's last.
    """

    answer: Callable[[Request], Awaitable[Response]]
    budget: Budget
    is_stopping: Callable[[], bool]


class Patience:
    """How long a client may take for its current step. A separate timeout for each byte would never expire."""

    def __init__(self) -> None:
        self._end = 0.0
        self.renew()

    def renew(self) -> None:
        """Starts the clock."""
        self._end = time.monotonic() + _PATIENCE_SECONDS

    def reward(self, size: int) -> None:
        """Gives back time for bytes that came through; never more than the initial amount."""
        self._end = min(self._end + size / _MIN_BYTES_PER_SECOND, time.monotonic() + _PATIENCE_SECONDS)

    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(self._end - time.monotonic(), 0.0)


class Connection:
    """A client connection, whose requests are answered one after another. Created in the task that runs `serve`.

    Attributes:
        is_idle: no part of the next request has arrived yet.
        task: the task that runs `serve`.
    """

    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.is_idle = True
        self._service = service
        self._reader = reader
        self._writer = writer
        # So that waiting for the buffer means waiting for the client.
        writer.transport.set_write_buffer_limits(high=0)
        self._patience = Patience()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADER_BYTES)

    async def serve(self) -> None:
        """Answers requests until the client or the server ends the connection.

        Raises:
            OSError, TimeoutError: the connection failed or was too slow.
        """
        while await self._serve_one():
            self._http.start_next_cycle()

    async def _serve_one(self) -> bool:
        """Answers one request; returns whether another may come."""
        held = 0
        try:
            head = await self._head()
            if head is None:
                return False
            body = await self._body()
            held = len(body)
            response = await self._service.answer(_request(head, body))
            await self._send(response, is_head=head.method == b"HEAD")
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, str(error))
        except BodyError as error:
            code, _, reason = error.status.partition(" ")
            await self._refuse(int(code), str(error), reason)
        finally:
            self._service.budget.give(held)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _head(self) -> h11.Request | None:
        """The next request without its body; None if the client has closed the connection."""
        self.is_idle = True
        while (event := self._http.next_event()) is h11.NEED_DATA:
            await self._receive()
        self.is_idle = False
        if not isinstance(event, h11.Request):
            return None
        self._patience.renew()
        if event.http_version not in _VERSIONS:
            raise h11.RemoteProtocolError("this server speaks HTTP/1.1", error_status_hint=505)
        if len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers) > _MAX_HEADER_BYTES:
            raise h11.RemoteProtocolError("the headers are too long", error_status_hint=431)
        names = {name for name, _ in event.headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            # Two parsers might disagree on where the next request begins (RFC 9112, 6.3).
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        length = next((value for name, value in event.headers if name == b"content-length"), b"0")
        self._service.budget.check(int(length))
        return event

    async def _body(self) -> bytes:
        """The body of the current request, taken from the budget."""
        parts: list[bytes] = []
        size = 0
        try:
            while not isinstance(event := self._http.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Data):
                    self._service.budget.check(size + len(event.data))
                    self._service.budget.take(len(event.data))
                    size += len(event.data)
                    parts.append(event.data)
                    continue
                if self._http.they_are_waiting_for_100_continue:
                    await self._write(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
                await self._receive()
        except BaseException:
            self._service.budget.give(size)
            raise
        return b"".join(parts)

    async def _receive(self) -> None:
        """Passes the client's next bytes to h11."""
        async with asyncio.timeout(_IDLE_SECONDS if self.is_idle else self._patience.left()):
            data = await self._reader.read(_PIECE)
        if self.is_idle:
            self.is_idle = False
            self._patience.renew()
        self._patience.reward(len(data))
        self._http.receive_data(data)

    async def _send(self, response: Response, *, is_head: bool = False) -> None:
        code, _, reason = response.status.partition(" ")
        headers = [("Date", email.utils.formatdate(usegmt=True)), *response.headers]
        if self._service.is_stopping() and CLOSE not in headers:
            headers.append(CLOSE)
        headers.append(("Content-Length", str(len(response.body))))
        body = [] if is_head else [h11.Data(data=response.body)]
        head = h11.Response(status_code=int(code), headers=headers, reason=reason.encode())
        await self._write(head, *body, h11.EndOfMessage())

    async def _write(self, *events: h11.Event) -> None:
        parts = [part for event in events for part in self._http.send_with_data_passthrough(event) or ()]
        if sum(map(len, parts)) <= _PIECE:  # usually in one packet
            parts = [b"".join(parts)]
        self._patience.renew()
        for part in parts:
            left = memoryview(part)
            while left:
                piece, left = left[:_PIECE], left[_PIECE:]
                self._writer.write(piece)
                async with asyncio.timeout(self._patience.left()):
                    await self._writer.drain()
                self._patience.reward(len(piece))

    async def _refuse(self, code: int, why: str, reason: str = "") -> None:
        """Rejects a request and ends the connection: what follows on it is not a request."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        status = f"{code} {reason or _REASONS.get(code, 'Bad Request')}"
        await self._send(Response(status, [JSON, CLOSE], json_encode.error_response(why)))
        # Closing while the client is still sending would discard the response as well.
        self._writer.write_eof()
        async with asyncio.timeout(_LINGER_SECONDS):
            while await self._reader.read(_PIECE):
                pass


def _request(head: h11.Request, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return Request(head.method.decode("latin-1"), head.target.decode("latin-1"), headers, body)
