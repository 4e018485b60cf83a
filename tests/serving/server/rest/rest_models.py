"""Tiny models for the REST API, and plain sockets to talk to it with."""

import gzip
import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.conformance.models import wait_for_file
from tests.conformance.server import Answer
from tests.serving.models import save_session

DTYPES = (
    "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string",
    "float16", "bfloat16", "complex64",
)  # fmt: skip
PREDICT = "tensorflow/serving/predict"


def export_rest_model(directory: Path, offset: float = 2.0) -> Path:
    """A TF1 SavedModel.

    ``serving_default`` is x / 2 + offset, ``named`` has two inputs and four outputs, ``spin`` runs until it is
    cancelled or has counted to n, ``wait`` until a test releases it, and there is an identity for each of ``DTYPES``.
    """
    v1 = tf.compat.v1
    signatures: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, name="x")
        signatures["serving_default"] = ({"x": x}, {"y": x / 2 + offset})
        a, s = v1.placeholder(tf.int64, name="a"), v1.placeholder(tf.string, name="s")
        outputs = {
            "twice": a * 2,
            "half": tf.cast(a, tf.float32) / 2,
            "text": tf.identity(s),
            "raw_bytes": tf.identity(s),
        }
        signatures["named"] = ({"a": a, "s": s}, outputs)
        signatures["whole"] = ({"x": x}, {"total": tf.reduce_sum(x)})
        signatures["uneven"] = ({"x": x}, {"total": tf.identity(x), "two": tf.constant([1.0, 2.0])})
        n = v1.placeholder(tf.int32, name="n")
        count = tf.while_loop(lambda i: i < tf.reduce_max(n), lambda i: i + 1, [tf.constant(0)])
        signatures["spin"] = ({"n": n}, {"count": n + count})
        paths = {name: v1.placeholder(tf.string, [None], name=name) for name in ("started", "released")}
        signatures["wait"] = (paths, {"done": wait_for_file(paths["started"], paths["released"])})
        signatures["no_inputs"] = ({}, {"two": tf.constant([1.0, 2.0])})
        for dtype in DTYPES:
            value = v1.placeholder(dtype, name=f"value_{dtype}")
            signatures[dtype] = ({"value": value}, {"same": tf.identity(value)})
        predict = {key: (inputs, results, PREDICT) for key, (inputs, results) in signatures.items()}
        return save_session(session, directory, predict)


class Client:
    """A keep-alive connection with Python's own HTTP client."""

    def __init__(self, port: int, timeout: float = 120.0) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        data = body if body is None or isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body)
        self._connection.request(method, path, data, dict(headers or {}), **options)
        response = self._connection.getresponse()
        content = response.read()
        if response.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        return Answer(response.status, dict(response.headers), content)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def predict(self, body: object, model: str = "m", headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("POST", f"/v1/models/{model}:predict", body, headers)

    def close(self) -> None:
        self._connection.close()


def exchange(port: int, data: bytes, timeout: float = 120.0) -> bytes:
    """Sends bytes, closes the sending side, and returns everything received until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # refused while sending; the response can still be read
            pass
        parts: list[bytes] = []
        while True:
            try:
                part = sock.recv(1 << 16)
            except ConnectionError:
                break
            if not part:
                break
            parts.append(part)
        return b"".join(parts)


def statuses(data: bytes) -> list[int]:
    """The statuses of the responses in a stream of well-formed ones, each with a Content-Length."""
    found: list[int] = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        version, status, _ = lines[0].split(b" ", 2)
        assert version == b"HTTP/1.1", head
        found.append(int(status))
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        length = int(headers.get(b"content-length", b"0"))
        assert len(rest) >= length, (head, rest)
        data = rest[length:]
    return found
