"""Connections whose requests begin in time: uvicorn bounds neither the size nor the time of headers."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADER_BYTES: Final = 65_536


def bounded_protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which closes connections whose headers take longer or are too large."""

    class BoundedProtocol(HttpToolsProtocol):
        """Counts what comes before the headers of a request are complete."""

        _deadline: asyncio.TimerHandle | None = None
        _in_headers = True
        _size = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """A client has connected."""
            super().connection_made(transport)
            self._expect()

        def data_received(self, data: bytes) -> None:
            """Something came."""
            if self._in_headers:
                self._size += len(data)
                # The last part may contain a body too, and is as large as a read.
                if self._size - len(data) > _HEADER_BYTES:
                    self._abort()
                    return
            super().data_received(data)

        def on_message_begin(self) -> None:
            """A request begins."""
            super().on_message_begin()
            self._expect()

        def on_headers_complete(self) -> None:
            """Its headers have ended."""
            self._in_headers = False
            self._size = 0
            self._stop_waiting()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            """The client has gone."""
            self._stop_waiting()
            super().connection_lost(exc)

        def _expect(self) -> None:
            self._in_headers = True
            # A request that dribbles in does not begin anew with each byte.
            if self._deadline is None:
                self._deadline = self.loop.call_later(seconds, self._abort)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _abort(self) -> None:
            self._stop_waiting()
            if not self.transport.is_closing():
                self.transport.abort()

    return BoundedProtocol
