"""Traces by OpenTelemetry, if its packages are there and `--tracing` is given."""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.types import Scope

from serving.service.errors import InvalidRequestError


class Span(Protocol):
    """A request in a trace."""

    def end(self, route: str, status: int) -> None:
        """Adds what is known at the end."""
        ...


class Tracer:
    """Traces nothing."""

    @contextlib.contextmanager
    def span(self, scope: Scope, headers: Headers) -> Iterator[Span]:
        """The span of a request."""
        yield _NO_SPAN

    def close(self) -> None:
        """Sends what is left."""


class _NoSpan:
    def end(self, route: str, status: int) -> None:
        pass


_NO_SPAN = _NoSpan()


class _OpenTelemetrySpan:
    def __init__(self, span: Any, method: str) -> None:  # noqa: ANN401  the package is optional
        self._span = span
        self._method = method

    def end(self, route: str, status: int) -> None:
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)


class OpenTelemetryTracer(Tracer):
    """Sends traces where the variables ``OTEL_EXPORTER_OTLP_...`` say."""

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise InvalidRequestError(
                "--tracing needs OpenTelemetry. Remedy: pip install 'babelrec[tracing]', or leave --tracing out."
            ) from None
        self._provider = TracerProvider(resource=Resource.create({"service.name": "babelrec-service"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("serving.service")
        self._extract = propagate.extract
        self._server = trace.SpanKind.SERVER

    @contextlib.contextmanager
    def span(self, scope: Scope, headers: Headers) -> Iterator[Span]:
        """The span of a request, in the trace of its caller."""
        method = scope["method"]
        attributes = {"http.request.method": method}
        with self._tracer.start_as_current_span(
            method, context=self._extract(dict(headers)), kind=self._server, attributes=attributes
        ) as span:
            yield _OpenTelemetrySpan(span, method)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def tracer_of(is_on: bool) -> Tracer:
    """The tracer for `--tracing`."""
    return OpenTelemetryTracer() if is_on else Tracer()
