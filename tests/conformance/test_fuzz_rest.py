"""Fuzzed HTTP requests: no crash, no hang, no 5xx."""

import json
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.server import SECONDS, Target

_LIMITS = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def _answers_afterwards(server: Target) -> Any:
    yield
    assert server.post("/v1/models/half_plus_two:predict", {"instances": [2.0]}) == {"predictions": [3.0]}


def _raw(server: Target, request: bytes) -> bytes:
    """The server's response until it closes the connection, after the client has closed its side."""
    host, _, port = server.rest_address.rpartition(":")
    parts = []
    with socket.create_connection((host, int(port)), SECONDS) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                parts.append(part)
        except (ConnectionResetError, BrokenPipeError):
            pass
    return b"".join(parts)


def _statuses_of(answer: bytes) -> list[int]:
    first = answer.split(b"\r\n", 1)[0].split(b" ")
    return [int(first[1])] if answer else []


_JSON_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.just({"b64": "aGVsbG8="}),
    st.text(max_size=6).map(lambda text: {"b64": text}),
)
_JSON: st.SearchStrategy[Any] = st.recursive(
    _JSON_LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["x", "signal", "tag", "b64", ""]), inner, max_size=3),
    ),
    max_leaves=12,
)
_KEYS = st.sampled_from(["instances", "inputs", "signature_name", "examples", "context", "other"])
_MODELS = st.sampled_from(["half_plus_two", "echo", "multi", "labels", "nope"])
_VERBS = st.sampled_from(["predict", "classify", "regress"])
_SIGNATURES = st.sampled_from(
    [
        "serving_default",
        "string",
        "int8",
        "uint64",
        "float16",
        "bool",
        "bytes",
        "complex64",
        "regress_x_to_y",
        "positive",
    ]
)


@_LIMITS
@given(model=_MODELS, verb=_VERBS, document=st.dictionaries(_KEYS, _JSON, max_size=4))
def test_any_document(server: Target, model: str, verb: str, document: dict[str, Any]) -> None:
    answer = server.rest("POST", f"/v1/models/{model}:{verb}", json.dumps(document))
    assert answer.status < 500, answer


@_LIMITS
@given(model=_MODELS, signature=_SIGNATURES, key=st.sampled_from(["instances", "inputs"]), value=_JSON)
def test_any_value(server: Target, model: str, signature: str, key: str, value: object) -> None:
    body = json.dumps({"signature_name": signature, key: value})
    answer = server.rest("POST", f"/v1/models/{model}:predict", body)
    assert answer.status < 500, answer
    assert answer.json


@_LIMITS
@given(verb=_VERBS, body=st.one_of(st.binary(max_size=80), st.text('{}[]",:0123456789.eE+-aNfInity\\u ', max_size=60)))
def test_any_body(server: Target, verb: str, body: bytes | str) -> None:
    answer = server.rest("POST", f"/v1/models/half_plus_two:{verb}", body)
    assert answer.status < 500, answer


def test_deep_documents(server: Target) -> None:
    for depth in (100, 10_000, 1_000_000):
        for body in ("[" * depth, '{"instances": ' + "[" * depth + "]" * depth + "}", '{"a":' * depth):
            answer = server.rest("POST", "/v1/models/half_plus_two:predict", body)
            # TensorFlow supports tensors of up to 254 dimensions.
            assert answer.status == 400 or (answer.status == 200 and depth == 100), (depth, answer)


@_LIMITS
@given(
    method=st.sampled_from(["GET", "POST"]),
    parts=st.lists(
        st.one_of(
            st.sampled_from(
                ["v1", "models", "half_plus_two", "versions", "123", "labels", "metadata", ":predict", "..", ""]
            ),
            st.text("abz:%/?#é日;=&.~", max_size=6),
            st.integers().map(str),
        ),
        max_size=7,
    ),
)
def test_any_path(server: Target, method: str, parts: list[str]) -> None:
    path = ("/" + "/".join(parts)).replace("/:", ":").encode()
    body = b'{"instances": [1.0]}'
    head = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    answer = _raw(server, head % (method.encode(), path, len(body)) + body)
    assert answer
    assert all(status < 500 for status in _statuses_of(answer)), answer


_HEADERS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(
                [
                    "Content-Type",
                    "Content-Encoding",
                    "Accept-Encoding",
                    "Expect",
                    "Origin",
                    "Transfer-Encoding",
                    "Range",
                ]
            ),
            st.text("abcXYZ-_09", min_size=1, max_size=10),
        ),
        st.one_of(
            st.sampled_from(
                ["gzip", "chunked", "identity", "100-continue", "application/json", "*", "bytes=0-", "close"]
            ),
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
            st.text(st.characters(min_codepoint=128, max_codepoint=255), max_size=5),
        ),
    ),
    max_size=5,
)


@_LIMITS
@given(headers=_HEADERS, lie=st.integers(-5, 5), is_said=st.booleans())
def test_any_headers(server: Target, headers: list[tuple[str, str]], lie: int, is_said: bool) -> None:
    body = b'{"instances": [1.0]}'
    lines = [b"POST /v1/models/half_plus_two:predict HTTP/1.1", b"Host: x", b"Connection: close"]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    if is_said:
        lines.append(b"Content-Length: %d" % (len(body) + lie))
    answer = _raw(server, b"\r\n".join(lines) + b"\r\n\r\n" + body)
    # An unknown transfer coding is 501 according to RFC 9112.
    codings = [value.strip().lower() for name, value in headers if name == "Transfer-Encoding"]
    known = all(coding in ("chunked", "") for coding in codings)
    assert all(status < 500 or (status == 501 and not known) for status in _statuses_of(answer)), answer


@_LIMITS
@given(st.binary(max_size=120))
def test_anything_but_http(server: Target, content: bytes) -> None:
    answer = _raw(server, content)
    # 505: an unsupported HTTP version; 501: an unknown method.
    assert all(status < 500 or status in (501, 505) for status in _statuses_of(answer)), answer
