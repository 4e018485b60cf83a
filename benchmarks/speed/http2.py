"""Hand-written HTTP/2 (RFC 9113), for traffic that no client library sends."""

import socket
import ssl
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_HEADERS = 4
_CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame with its header."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(text: str) -> bytes:
    content = text.encode()
    assert len(content) < 127
    return bytes([len(content)]) + content


def call(stream: int, method: str) -> bytes:
    """The headers of a gRPC call; HPACK literals that are not indexed (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(b"\0" + _literal(name) + _literal(value) for name, value in fields.items())
    return frame(HEADERS, END_HEADERS, stream, block)


def half_message(stream: int) -> bytes:
    """The first five bytes of a message with a declared length of a thousand."""
    return frame(DATA, 0, stream, b"\0" + struct.pack(">I", 1000) + b"hello")


def reset(stream: int) -> bytes:
    """Cancels a stream."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", _CANCEL))


def connect(port: int, tls: ssl.SSLContext | None = None) -> socket.socket:
    """A connection whose preface has been sent."""
    connection = socket.create_connection(("localhost", port), timeout=60)
    if tls is not None:
        connection = tls.wrap_socket(connection, server_hostname="localhost")
    connection.sendall(_PREFACE + frame(SETTINGS, 0, 0))
    return connection
