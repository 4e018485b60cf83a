"""Small real servers that tests script and that record their requests, and both clients asking them."""

import asyncio
import json
import socket
import ssl
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import trustme
from tensorflow_serving.apis import predict_pb2

from serving.client import AsyncRecommenderClient, RecommenderClient, RetryPolicy
from serving.tensors import to_proto

if TYPE_CHECKING:
    _Handler = grpc.GenericRpcHandler[bytes, bytes]
else:
    # Generic in its stub alone.
    _Handler = grpc.GenericRpcHandler

Arrays = dict[str, npt.NDArray[Any]]
Headers = dict[str, str | bytes]
# Calls a method of a client for a target: ``use(lambda client: client.status(), "localhost:8500", timeout=5)``.
Use = Callable[..., Any]

X: Arrays = {"x": np.array([1.0, 2.0], np.float32)}
QUICK = RetryPolicy(initial_backoff=0.01, max_backoff=0.02)
# How the REST API answers what gRPC answers with a code: ``model_servers/http_server.cc``, and proxies.
_HTTP_STATUSES = {
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 429,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "INTERNAL": 500,
}


def blocking(call: Callable[[Any], Any], target: str, model_name: str = "m", **options: Any) -> Any:
    """By ``RecommenderClient``."""
    with RecommenderClient(target, model_name, **options) as client:
        return call(client)


def in_a_loop(call: Callable[[Any], Any], target: str, model_name: str = "m", **options: Any) -> Any:
    """By ``AsyncRecommenderClient``."""

    async def run() -> Any:
        async with AsyncRecommenderClient(target, model_name, **options) as client:
            return await call(client)

    return asyncio.run(run())


both = pytest.mark.parametrize("use", [blocking, in_a_loop])


def predict(use: Use, target: str, inputs: Arrays = X, signature: str = "", **options: object) -> Arrays:
    output_filter = options.pop("output_filter", ())
    outputs: Arrays = use(lambda client: client.predict(signature, inputs, output_filter), target, **options)
    return outputs


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


@dataclass
class Rpcs:
    """Requests that a gRPC server received, and the failures that it returns first."""

    address: str = ""
    failures: list[tuple[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)

    def fail(self, code: str, details: str, times: int = 1) -> None:
        """Answers the next requests with a failure."""
        self.failures += [(code, details)] * times

    @property
    def calls(self) -> int:
        """Predict requests received."""
        return len(self.paths)

    @property
    def absent(self) -> str:
        """An address of this kind where nobody listens."""
        return f"localhost:{free_port()}"


def predict_response() -> bytes:
    """``y`` = [1, 2]."""
    response = predict_pb2.PredictResponse()
    response.outputs["y"].CopyFrom(to_proto(np.array([1.0, 2.0], np.float32)))
    return bytes(response.SerializeToString())


@contextmanager
def grpc_server(
    credentials: grpc.ServerCredentials | None = None, answer: Callable[[], bytes] = predict_response
) -> Iterator[Rpcs]:
    """A gRPC server that answers every RPC the same way."""
    rpcs = Rpcs()

    def respond(path: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def method(request: bytes, context: grpc.ServicerContext) -> bytes:
            rpcs.paths.append(path)
            rpcs.requests.append(request)
            rpcs.headers.append(dict(context.invocation_metadata()))
            rpcs.peers.add(context.peer())
            if rpcs.failures:
                code, details = rpcs.failures.pop(0)
                context.abort(grpc.StatusCode[code], details)
            return answer()

        return method

    class Handler(_Handler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
            return grpc.unary_unary_rpc_method_handler(respond(handler_call_details.method))

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Handler(),))
    if credentials is None:
        port = server.add_insecure_port("localhost:0")
    else:
        port = server.add_secure_port("localhost:0", credentials)
    rpcs.address = f"localhost:{port}" if credentials is None else f"grpcs://localhost:{port}"
    server.start()
    try:
        yield rpcs
    finally:
        server.stop(None).wait()


@dataclass(frozen=True)
class Exchange:
    """A request that an HTTP server received."""

    verb: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Http:
    """Requests that an HTTP server received, and its responses: first the scripted ones, then by route."""

    address: str = ""
    script: list[tuple[int, bytes]] = field(default_factory=list)
    routes: dict[str, bytes] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0

    @property
    def predicts(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.path.endswith(":predict")]

    def fail(self, code: str, details: str, times: int = 1) -> None:
        """Answers the next requests with a failure."""
        self.script += [(_HTTP_STATUSES[code], json.dumps({"error": details}).encode())] * times

    @property
    def calls(self) -> int:
        """Predict requests received."""
        return len(self.predicts)

    @property
    def headers(self) -> list[Headers]:
        """Of each Predict request, as gRPC would have them."""
        lower = ({key.lower(): value for key, value in each.headers.items()} for each in self.predicts)
        return [{key: b64decode(value) if key.endswith("-bin") else value for key, value in h.items()} for h in lower]

    @property
    def absent(self) -> str:
        """An address of this kind where nobody listens."""
        return f"http://localhost:{free_port()}"


@contextmanager
def http_server(routes: Mapping[str, bytes], context: Any = None) -> Iterator[Http]:
    """An HTTP/1.1 server; scripted responses are for predict requests.

    Args:
        routes: bodies by the end of the path.
        context: an ``ssl.SSLContext`` for HTTPS.
    """
    http = Http(routes=dict(routes))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            http.connections += 1
            super().setup()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            http.exchanges.append(Exchange(self.command, self.path, dict(self.headers), body))
            if self.path.endswith(":predict") and http.script:
                status, answer = http.script.pop(0)
            else:
                found = [text for end, text in http.routes.items() if self.path.endswith(end)]
                status, answer = (200, found[0]) if found else (404, b'{"error": "Not found"}')
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = _answer  # noqa: N815
        do_POST = _answer  # noqa: N815

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    http.address = f"http{'s' if context is not None else ''}://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield http
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    return {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(n), "name": ""} for n in shape]}, "name": "t:0"}


def metadata(version: int = 3, **signatures: dict[str, Any]) -> bytes:
    """The REST API's answer, written by hand from ``g3doc/api_rest.md``."""
    definitions = {
        name: {**signature, "method_name": "tensorflow/serving/predict"} for name, signature in signatures.items()
    }
    document = {
        "model_spec": {"name": "m", "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }
    return json.dumps(document).encode()


ONE = {"inputs": {"x": tensor("DT_FLOAT", -1)}, "outputs": {"y": tensor("DT_FLOAT", -1)}}
# The REST API's answers to what ``grpc_server`` answers with ``predict_response``.
ROUTES = {"/metadata": metadata(serving_default=ONE), ":predict": b'{"outputs": [1.0, 2.0]}'}


@contextmanager
def tls_server(kind: str, authority: trustme.CA, name: str, *, mutual: bool = False) -> Iterator[Rpcs | Http]:
    """A server with a certificate for a name; it requires one of the client if ``mutual``."""
    certificate = authority.issue_cert(name)
    if kind == "grpc":
        credentials = grpc.ssl_server_credentials(
            [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())],
            root_certificates=authority.cert_pem.bytes() if mutual else None,
            require_client_auth=mutual,
        )
        with grpc_server(credentials) as rpcs:
            yield rpcs
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if mutual:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with http_server(ROUTES, context) as http:
        yield http
