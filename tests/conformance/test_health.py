"""The standard gRPC health service, and server reflection. Sources: grpc.health.v1, grpc.reflection.v1alpha."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.conformance.server import SECONDS, Server, failure

pytestmark = pytest.mark.own_server
_PREDICTION = "tensorflow.serving.PredictionService"


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    flags = "--model_name=half", f"--model_base_path={models / 'half_plus_two'}"
    with Server(*flags, "--enable_grpc_healthcheck_service=true") as server:
        yield server.wait_until_ready()


def test_health(server: Server) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    response = stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert response.status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert next(iter(watch)).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    code, _ = failure(stub.Check, health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.babelrec_only
def test_health_of_services(server: Server) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    response = stub.Check(health_pb2.HealthCheckRequest(service=_PREDICTION), timeout=SECONDS)
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_no_health_service_by_default(models: Path) -> None:
    with Server("--model_name=half", f"--model_base_path={models / 'half_plus_two'}") as server:
        server.wait_until_ready()
        stub = health_pb2_grpc.HealthStub(server.channel)
        code, _ = failure(stub.Check, health_pb2.HealthCheckRequest())
        assert code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.babelrec_only
def test_reflection(server: Server) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=_PREDICTION),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Symbol"),
    ]
    listed, found, missing = stub.ServerReflectionInfo(iter(requests), timeout=SECONDS)
    names = {service.name for service in listed.list_services_response.service}
    assert {_PREDICTION, "tensorflow.serving.ModelService", "grpc.health.v1.Health"} <= names
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(content)
        for content in found.file_descriptor_response.file_descriptor_proto
    ]
    methods = [m.name for file in files for s in file.service if s.name == "PredictionService" for m in s.method]
    assert {"Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"} <= set(methods)
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.babelrec_only
def test_reflection_of_a_method(server: Server) -> None:
    # reflection.proto: <package>.<service>[.<method>]
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
        for symbol in (_PREDICTION, f"{_PREDICTION}.Predict")
    ]
    by_service, by_method = stub.ServerReflectionInfo(iter(requests), timeout=SECONDS)
    assert by_method.file_descriptor_response == by_service.file_descriptor_response
