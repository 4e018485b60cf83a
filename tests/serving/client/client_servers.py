"""Small real servers that tests script and that record their requests."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving.tensors import to_proto

Failure = tuple[grpc.StatusCode, str]


@dataclass
class Rpcs:
    """Requests that a gRPC server received, and the failures that it returns first."""

    address: str = ""
    failures: list[Failure] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)


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
            rpcs.metadata.append(dict(context.invocation_metadata()))
            rpcs.peers.add(context.peer())
            if rpcs.failures:
                context.abort(*rpcs.failures.pop(0))
            return answer()

        return method

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(respond(handler_call_details.method))

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Handler(),))
    if credentials is None:
        port = server.add_insecure_port("localhost:0")
    else:
        port = server.add_secure_port("localhost:0", credentials)
    rpcs.address = f"localhost:{port}"
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

        def log_message(self, format: str, *args: Any) -> None:
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
