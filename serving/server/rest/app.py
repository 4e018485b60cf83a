"""The REST API: maps each request to a response.

Routes, statuses and headers follow ``model_servers/http_server.cc`` and ``http_rest_api_handler.cc``.
"""

import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import grpc

from serving.protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)
from serving.server.errors import StatusError, from_exception, invalid_argument
from serving.server.execution.servable import DEFAULT_SIGNATURE, Signature
from serving.server.operations.metric_values import Family, Histogram, Number, Snapshot
from serving.server.rest import json_decode, json_defaults, json_encode, json_examples, routes
from serving.server.rest.body import BodyError, Budget, gunzip
from serving.server.rest.messages import CLOSE, JSON, Request, Response
from serving.server.rest.statuses import HTTP_STATUS

_LOGGER = logging.getLogger(__name__)
_CORS = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
]
# The methods that the real server's HTTP library passes to its routes.
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_ENTRYPOINT = "REST"
_HEALTH_PATH = "/healthz"
# Speed matters more than the last bytes.
_GZIP_LEVEL = 1


class Handlers(Protocol):
    """The part of ``serving.server.api.handlers.Handlers`` that the REST API needs."""

    def predict(
        self, request: predict_pb2.PredictRequest, timeout: float | None = None, entrypoint: str = ...
    ) -> predict_pb2.PredictResponse:
        """``PredictRequest`` -> ``PredictResponse``."""
        ...

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout: float | None = None, entrypoint: str = ...
    ) -> classification_pb2.ClassificationResponse:
        """``ClassificationRequest`` -> ``ClassificationResponse``."""
        ...

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout: float | None = None, entrypoint: str = ...
    ) -> regression_pb2.RegressionResponse:
        """``RegressionRequest`` -> ``RegressionResponse``."""
        ...

    def signatures(self, spec: model_pb2.ModelSpec) -> Mapping[str, Signature]:
        """The signatures of the version that a ``ModelSpec`` selects."""
        ...

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, timeout: float | None = None
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """``GetModelMetadataRequest`` -> ``GetModelMetadataResponse``."""
        ...

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest, timeout: float | None = None
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """``GetModelStatusRequest`` -> ``GetModelStatusResponse``."""
        ...


class Metrics(Protocol):
    """The part of ``serving.server.operations.metrics.Metrics`` that the REST API needs."""

    request_count: Family[Number]  # with the labels model_name and status
    request_latency: Family[Histogram]  # with the labels model_name, API and entrypoint

    def add_source(self, source: Callable[[], Snapshot]) -> None:
        """Adds the counts of another source."""
        ...

    def render(self) -> bytes:
        """Returns the metrics in Prometheus' text format."""
        ...


@dataclass(frozen=True, slots=True)
class AppOptions:
    """Settings of the application.

    Attributes:
        timeout: seconds that a request may take once its body is read; None for no limit.
        threads: requests processed concurrently.
        cors: whether responses have CORS headers.
        metrics_path: path of the metrics page for Prometheus; None for no page.
        gzip_min_bytes: size from which responses are compressed for clients that accept it; None for never.
    """

    timeout: float | None = 30.0
    threads: int = 8
    cors: bool = False
    metrics_path: str | None = None
    gzip_min_bytes: int | None = 1024


@dataclass(slots=True)
class _MetricLabels:
    """A request's target as the metrics name it: the method name is empty for all but inference."""

    model: str = ""
    api: str = ""


class RestApp:
    """The application. Thread-safe.

    Args:
        handlers: answers requests.
        metrics: for the metrics page.
        options: settings.
        budget: memory for decompressed bodies.
        is_serving: whether new requests are accepted, for ``/healthz``.
    """

    def __init__(
        self,
        handlers: Handlers,
        metrics: Metrics,
        options: AppOptions,
        budget: Budget,
        is_serving: Callable[[], bool] = lambda: True,
    ) -> None:
        self._handlers = handlers
        self._metrics = metrics
        self._options = options
        self._cors = _CORS if options.cors else []
        self._budget = budget
        self._is_serving = is_serving
        # Threads that wait for slow clients don't take any of these.
        self._slots = threading.BoundedSemaphore(options.threads)

    def answer(self, request: Request) -> Response:
        """Answers a request; never fails."""
        response = self._respond(request, routes.target_path(request.target))
        self._compress(request, response)
        return response

    def is_for_a_model(self, request: Request) -> bool:
        """Whether a request is for inference or metadata: those count for ``--max_concurrent_requests``."""
        return routes.is_for_a_model(request.method, routes.target_path(request.target))

    def refuse(self, error: StatusError) -> Response:
        """The response to a request that fails, or that is not even processed."""
        return Response(HTTP_STATUS[error.code], [JSON, *self._cors], json_encode.error_response(error.message))

    def _respond(self, request: Request, path: str) -> Response:
        method = request.method
        if method not in _METHODS:
            return _page("501 Not Implemented")
        bare_path = path.partition("?")[0]
        if bare_path == self._options.metrics_path:
            return self._metrics_page(path)
        if bare_path == _HEALTH_PATH and method in ("GET", "HEAD"):
            return self._health_page()
        if not routes.is_api(path):
            return _page("404 Not Found")
        start = time.perf_counter()
        cors = self._cors
        labels = _MetricLabels()
        code = grpc.StatusCode.OK
        if method == "OPTIONS":
            if not _is_preflight(request):
                code = grpc.StatusCode.FAILED_PRECONDITION
            response = Response(HTTP_STATUS[code], [*cors], b"")
        else:
            try:
                response = Response(HTTP_STATUS[code], [JSON, *cors], self._answer(request, path, labels))
            except BodyError as error:
                # Not counted for the model: the request never reached it.
                return Response(error.status, [JSON, *cors], json_encode.error_response(str(error)))
            except Exception as error:
                failure = error if isinstance(error, StatusError) else from_exception(error)
                if failure is not error:
                    _LOGGER.exception("unexpected failure of %s %s", method, path)
                code = failure.code
                response = self.refuse(failure)
        self._metrics.request_count.cell(labels.model, code.name).add()
        if code is grpc.StatusCode.OK:
            latency = self._metrics.request_latency.cell(labels.model, labels.api, _ENTRYPOINT)
            latency.observe((time.perf_counter() - start) * 1e6)
        return response

    def _health_page(self) -> Response:
        """The health page for probes; TensorFlow Serving has none."""
        headers = [("Content-Type", "text/plain"), ("Cache-Control", "no-store")]
        if self._is_serving():
            return Response("200 OK", headers, b"ok\n")
        return Response("503 Service Unavailable", headers, b"the server is stopping\n")

    def _metrics_page(self, path: str) -> Response:
        headers = [("Content-Type", "text/plain")]
        if path != self._options.metrics_path:
            message = f"Unexpected path: {path}. Should be {self._options.metrics_path}"
            return Response("400 Bad Request", headers, message.encode("latin-1"))
        return Response("200 OK", headers, self._metrics.render())

    def _answer(self, request: Request, path: str, labels: _MetricLabels) -> bytes:
        deadline = None if self._options.timeout is None else time.monotonic() + self._options.timeout
        route = routes.parse(request.method, path)
        labels.model = route.spec.name
        if route.method == "status":
            status = get_model_status_pb2.GetModelStatusRequest(model_spec=route.spec)
            return json_encode.status_response(self._handlers.get_model_status(status))
        if route.method == "metadata":
            metadata = get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=route.spec, metadata_field=["signature_def"]
            )
            return json_encode.metadata_response(self._handlers.get_model_metadata(metadata))
        labels.api = route.method
        if not self._slots.acquire(timeout=_left(deadline)):
            raise StatusError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "Deadline exceeded before the request was started: the server is busy",
            )
        try:
            # As in the real server, gzip anywhere in the header is enough.
            if not request.body or "gzip" not in request.headers.get("content-encoding", "").lower():
                return self._infer(route, request.body, deadline)
            body = gunzip(request.body, self._budget)
            try:
                return self._infer(route, body, deadline)
            finally:
                self._budget.give(len(body))
        finally:
            self._slots.release()

    def _infer(self, route: routes.Route, body: bytes, deadline: float | None) -> bytes:
        if route.method == "predict":
            request, layout = json_decode.predict_request(body, route.spec, self._inputs)
            predicted = self._handlers.predict(request, timeout=_remaining(deadline), entrypoint=_ENTRYPOINT)
            return json_encode.predict_response(predicted.outputs, layout)
        if route.method == "classify":
            examples = json_examples.classification_request(body, route.spec)
            classified = self._handlers.classify(examples, timeout=_remaining(deadline), entrypoint=_ENTRYPOINT)
            return json_encode.classification_response(classified.result)
        inputs = json_examples.regression_request(body, route.spec)
        regressed = self._handlers.regress(inputs, timeout=_remaining(deadline), entrypoint=_ENTRYPOINT)
        return json_encode.regression_response(regressed.result)

    def _inputs(self, spec: model_pb2.ModelSpec) -> json_defaults.Inputs:
        name = spec.signature_name or DEFAULT_SIGNATURE
        signatures = self._handlers.signatures(spec)
        if name not in signatures:
            raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
        signature = signatures[name]
        return json_defaults.Inputs(
            {alias: info.dtype for alias, info in signature.inputs.items()}, dict(signature.defaults)
        )

    def _compress(self, request: Request, response: Response) -> None:
        least = self._options.gzip_min_bytes
        if least is None or len(response.body) < least:
            return
        response.headers.append(("Vary", "Accept-Encoding"))
        if _accepts_gzip(request.headers.get("accept-encoding", "")):
            packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
            response.body = packer.compress(response.body) + packer.flush()
            response.headers.append(("Content-Encoding", "gzip"))


def _is_preflight(request: Request) -> bool:
    origin = request.headers.get("origin", "")
    return "http://" in origin or "https://" in origin


def _accepts_gzip(header: str) -> bool:
    for item in header.lower().split(","):
        coding, *parameters = [part.strip() for part in item.split(";")]
        if coding in ("gzip", "x-gzip"):
            weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
            return weight.strip("0.") != ""
    return False


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


def _left(deadline: float | None) -> float:
    # The longest possible wait for a semaphore.
    return threading.TIMEOUT_MAX if deadline is None else max(deadline - time.monotonic(), 0.0)


def _page(status: str) -> Response:
    """The page of the real server's HTTP library (libevent) for requests without a handler."""
    reason = status.partition(" ")[2]
    body = f"<HTML><HEAD>\n<TITLE>{status}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    return Response(status, [("Content-Type", "text/html"), CLOSE], body.encode())
