"""The HTTP server under the REST API: cheroot, hardened against slow and hostile clients."""

import contextlib
import errno
import io
import logging
import re
import select
import socket
import sys
import threading
import time
from typing import Any

from cheroot import wsgi
from cheroot.connections import ConnectionManager
from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest, KnownLengthRFile
from cheroot.workers.threadpool import ThreadPool, WorkerThread

from serving.server.rest.app import RestApp
from serving.server.rest.body import ChunkedInput

_LOGGER = logging.getLogger(__name__)
_BACKLOG = 1024
_MAX_HEADER_BYTES = 64 * 1024
# Idle connections are closed after this long.
_IDLE_SECONDS = 75
# A client that sends a request or reads its answer may stop for this long; one that does so more slowly than this
# uses the time up bit by bit.
_PATIENCE_SECONDS = 30.0
_MIN_BYTES_PER_SECOND = 16 * 1024
# Threads for clients that are slow in sending or reading, beyond those for requests that are worked on.
_IO_THREADS = 32
# A client that still sends when it is refused gets to read why if it stops for, or ends within, so long.
_LINGER_PAUSE_SECONDS = 0.5
_LINGER_SECONDS = 10.0
# Connections made before the port closes are still answered if their request comes within this time.
_LAST_CALL_SECONDS = 0.2
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ONCE = frozenset({b"Content-Length", b"Host", b"Transfer-Encoding"})


class HttpServer(wsgi.Server):  # type: ignore[misc]
    """cheroot's WSGI server with limits on what a client may take.

    Args:
        address: host and port to listen on; port 0 takes a free one.
        app: the application.
        threads: requests that the application works on at once.
        reuse_port: share the port with other processes.
    """

    max_request_header_size = _MAX_HEADER_BYTES
    keep_alive_conn_limit: Any = None
    # Also the time that the accepting loop takes to see that it has to stop.
    expiration_interval = 0.1
    _connections: ConnectionManager

    def __init__(self, address: tuple[str, int], app: RestApp, threads: int, *, reuse_port: bool = False) -> None:
        super().__init__(
            address,
            app,
            server_name="Babelrec",
            request_queue_size=_BACKLOG,
            timeout=_IDLE_SECONDS,
            reuse_port=reuse_port,
        )
        self.ConnectionClass = _Connection
        self.requests = _Threads(self, min=threads + _IO_THREADS)

    def prepare(self) -> None:
        """Binds the port and starts the threads."""
        super().prepare()
        self._connections.close()
        self._connections = _Connections(self)

    def process_conn(self, conn: "_Connection") -> None:
        """Gives a connection to a thread, once something was received on it."""
        if conn.last_used is None:
            self.put_conn(conn)
        else:
            super().process_conn(conn)

    def put_conn(self, conn: "_Connection") -> None:
        """Waits for the next request of a connection, without a thread."""
        try:
            super().put_conn(conn)
        except (OSError, ValueError, KeyError):  # the connection is gone
            conn.close()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Passes cheroot's messages on to logging; those about clients' mistakes only for debugging."""
        _LOGGER.log(level if level >= logging.ERROR else logging.DEBUG, "%s", msg, exc_info=traceback)
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            # Nothing can be accepted just now; trying again at once would only burn the processor.
            time.sleep(self.expiration_interval)


class _Connections(ConnectionManager):  # type: ignore[misc]
    """Connections that wait for a request."""

    _selector: Any
    _from_server_socket: Any
    server: Any

    def stop(self) -> None:
        super().stop()
        # What came in before the port closes is still answered.
        self.server.socket.settimeout(0)
        waiting: dict[int, Any] = {d: conn for d, conn in self._selector.connections if conn is not self.server}
        for descriptor in waiting:
            self._selector.unregister(descriptor)
        with contextlib.suppress(OSError):
            while (conn := self._from_server_socket(self.server.socket)) is not None:
                waiting[conn.socket.fileno()] = conn
        poll = select.poll()
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        time.sleep(_LAST_CALL_SECONDS if waiting else 0)
        ready = {descriptor for descriptor, _ in poll.poll(0)}
        for descriptor, conn in waiting.items():
            if descriptor in ready:
                self.server.requests.put(conn)
            else:
                conn.close()


class _Threads(ThreadPool):  # type: ignore[misc]
    """Worker threads that don't keep the process alive."""

    def _spawn_worker(self) -> WorkerThread:
        worker = WorkerThread(self.server)
        worker.name = f"rest-{worker.name}"
        worker.daemon = True
        worker.start()
        return worker


class _Patience:
    """How long a connection may take for what it is doing. A socket's own time-out starts anew with each byte."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.renew()

    def renew(self) -> None:
        """Starts the clock."""
        self._end = time.monotonic() + _PATIENCE_SECONDS

    def set_timeout(self) -> None:
        """Lets the next operation on the socket take as long as there is left.

        Raises:
            TimeoutError: nothing is left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            # cheroot knows it by these words.
            raise TimeoutError("timed out")
        self._socket.settimeout(left)

    def reward(self, size: int) -> None:
        """Gives time back for bytes that came through; never more than there was at first."""
        self._end = min(self._end + size / _MIN_BYTES_PER_SECOND, time.monotonic() + _PATIENCE_SECONDS)


class _RawReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, patience: _Patience) -> None:
        super().__init__()
        self._socket = sock
        self._patience = patience
        self.asleep = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.asleep:
            return None
        self._patience.set_timeout()
        size = self._socket.recv_into(buffer)
        self._patience.reward(size)
        return size


class _Reader(io.BufferedReader):
    """The reading end of a connection; C code, where cheroot's own is Python."""

    bytes_read = 0

    def __init__(self, raw: _RawReader) -> None:
        super().__init__(raw, io.DEFAULT_BUFFER_SIZE)
        self._raw = raw

    def has_data(self) -> bool:
        """Whether bytes were received that nobody has read: the next of several requests in a row."""
        self._raw.asleep = True
        try:
            return bool(self.peek(1))
        finally:
            self._raw.asleep = False


class _Writer:
    """The writing end of a connection."""

    bytes_written = 0
    closed = False

    def __init__(self, sock: socket.socket, patience: _Patience) -> None:
        self._socket = sock
        self._patience = patience

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        self._patience.renew()
        while left:
            self._patience.set_timeout()
            size = self._socket.send(left)
            self._patience.reward(size)
            left = left[size:]
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class _HeaderReader(HeaderReader):  # type: ignore[misc]
    """Header lines by RFC 9112; cheroot's own trips over some that are malformed."""

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {} if hdict is None else hdict
        while (line := rfile.readline()) != b"\r\n":
            name, colon, value = line.partition(b":")
            if not line.endswith(b"\r\n") or not colon or not _TOKEN.fullmatch(name):
                raise ValueError("Illegal header line." if line else "Illegal end of headers.")
            name, value = name.title(), value.strip()
            known = headers.get(name)
            if known is not None:
                if name in _ONCE:
                    raise ValueError(f"Repeated header {name.decode()}.")
                value = known + b", " + value
            headers[name] = value
        return headers


class _Request(HTTPRequest):  # type: ignore[misc]
    """A request, with stricter checks than cheroot's."""

    header_reader = _HeaderReader()

    def __init__(self, server: HttpServer, conn: "_Connection") -> None:
        # Absolute URIs are to be taken by every server (RFC 9112, 3.2.2).
        super().__init__(server, conn, proxy_mode=True)

    def read_request_line(self) -> bool:
        try:
            return bool(super().read_request_line())
        except ValueError:  # urllib.parse's, for example about brackets in a host
            self.simple_response("400 Bad Request", "Malformed Request-URI")
            return False

    def read_request_headers(self) -> bool:
        if not super().read_request_headers():
            return False
        length = self.inheaders.get(b"Content-Length")
        if length is not None and (self.chunked_read or not length.isdigit() or len(length) > 18):
            self.simple_response("400 Bad Request", "Malformed Content-Length Header.")
            return False
        return True

    def respond(self) -> None:
        if self.chunked_read:
            self.rfile = ChunkedInput(self.conn.rfile)
        else:
            self.rfile = KnownLengthRFile(self.conn.rfile, int(self.inheaders.get(b"Content-Length", 0)))
        self.server.gateway(self).respond()
        self.ensure_headers_sent()

    def send_headers(self) -> None:
        if (b"Connection", b"close") in self.outheaders:
            self.close_connection = True
        self.conn.unread = self.close_connection and self.rfile.remaining > 0
        super().send_headers()

    def simple_response(self, status: str, msg: str = "") -> None:
        self.conn.unread = True
        self.close_connection = True
        super().simple_response(status, msg)


class _Connection(HTTPConnection):  # type: ignore[misc]
    """A connection that does not wait for ever."""

    RequestHandlerClass = _Request

    def __init__(self, server: HttpServer, sock: socket.socket, makefile: Any = None) -> None:
        self.patience = _Patience(sock)

        def make(sock: socket.socket, mode: str, size: int) -> Any:
            return _Reader(_RawReader(sock, self.patience)) if "r" in mode else _Writer(sock, self.patience)

        super().__init__(server, sock, make)
        # Whether there may be bytes of the client that were not read: closing the socket would then throw the
        # answer away, too.
        self.unread = False

    def communicate(self) -> bool:
        self.patience.renew()
        return bool(super().communicate())

    def close(self) -> None:
        # An exception here would end the thread, and with it cheroot the server.
        try:
            if self.unread:
                self._linger()
            super().close()
        except (OSError, ValueError):
            _LOGGER.debug("closing a connection failed", exc_info=True)

    def _linger(self) -> None:
        end = time.monotonic() + _LINGER_SECONDS
        buffer = bytearray(1 << 16)
        try:
            self.socket.shutdown(socket.SHUT_WR)
            self.socket.settimeout(_LINGER_PAUSE_SECONDS)
            while time.monotonic() < end and self.socket.recv_into(buffer):
                pass
        except OSError:
            pass


class RestServer:
    """A running REST API.

    Attributes:
        port: the TCP port it listens on.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        server.prepare()
        self.port = int(server.bind_addr[1])
        self._thread = threading.Thread(target=server.serve, name="rest-accept", daemon=True)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Takes no new requests, and returns once running ones are answered, or after about ``grace`` seconds."""
        self._server.shutdown_timeout = max(grace, 0.01)
        # In a thread: cheroot waits for ever for a request that does not end.
        stopper = threading.Thread(target=self._server.stop, name="rest-stop", daemon=True)
        stopper.start()
        stopper.join(grace + 2 * (self._server.expiration_interval + _LAST_CALL_SECONDS))
        self._thread.join(self._server.expiration_interval)
