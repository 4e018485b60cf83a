"""Traces by OpenTelemetry."""

import sys

import pytest

from serving.service.api.tracing import tracer_of
from serving.service.errors import InvalidRequestError
from tests.serving.service.api.inside import EmptyStore, Inside


def test_requests_are_spans_in_the_trace_of_the_caller(
    empty_store: EmptyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    monkeypatch.setattr(module, "OTLPSpanExporter", lambda: memory)
    with Inside(*empty_store, tracing=True) as service:
        parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        service.call("GET", "/v1/users/대한", headers=parent)
        service.call("GET", "/healthz", key=None)
    users, health = memory.get_finished_spans()
    assert (users.name, health.name) == ("GET /v1/users/{user_id}", "GET /healthz")
    assert users.attributes["http.response.status_code"] == 404
    assert f"{users.context.trace_id:x}" == "af7651916cd43dd8448eb211c80319c"
    assert health.context.trace_id != users.context.trace_id
    assert "대한" not in str(users.to_json())


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    tracer_of(False)
    with pytest.raises(InvalidRequestError, match="tracing"):
        tracer_of(True)
