"""Attacks on a model server, used by its tests and its soak benchmark."""

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator

from benchmarks.speed import http2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
# Streams per write.
_TOGETHER = 100


def half_sent(method: str, count: int) -> bytes:
    """``count`` gRPC calls of which only the first bytes of the message are sent."""
    return b"".join(http2.call(each, method) + http2.half_message(each) for each in range(1, 2 * count, 2))


def reset_streams(port: int, method: str, count: int) -> None:
    """Starts ``count`` gRPC calls on one connection, and cancels each immediately.

    Responses are read: a client that does not read is a different attack.
    """
    with contextlib.closing(http2.connect(port)) as connection:
        threading.Thread(target=_drain, args=(connection,), daemon=True).start()
        with contextlib.suppress(OSError):  # the server may close the connection
            for first in range(1, 2 * count, 2 * _TOGETHER):
                streams = range(first, first + 2 * _TOGETHER, 2)
                connection.sendall(b"".join(http2.call(each, method) + http2.reset(each) for each in streams))


@contextlib.contextmanager
def few_descriptors(pid: int, spare: int) -> Iterator[None]:
    """Limits a process to ``spare`` descriptors more than it has open."""
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = max(int(number) for number in os.listdir(f"/proc/{pid}/fd")) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + spare, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


def _drain(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass
