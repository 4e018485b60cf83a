"""GetModelMetadata and GetModelStatus over gRPC. Sources: get_model_metadata.proto, get_model_status.proto."""

from pathlib import Path

import grpc
import pytest
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tests.conformance.server import ADDRESS, SECONDS, State, Target, failure

_Code = grpc.StatusCode


def _metadata(model: str, *fields: str) -> get_model_metadata_pb2.GetModelMetadataRequest:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    return request


@pytest.mark.skipif(bool(ADDRESS), reason="compares with the model's files, which may be on another machine")
@pytest.mark.parametrize(("model", "version"), [("half_plus_two", "00000123"), ("multi", "1"), ("defaults", "1")])
def test_metadata_is_what_the_model_says(server: Target, models: Path, model: str, version: str) -> None:
    response = server.prediction.GetModelMetadata(_metadata(model, "signature_def"), timeout=SECONDS)
    assert (response.model_spec.name, response.model_spec.version.value) == (model, int(version))
    assert list(response.metadata) == ["signature_def"]
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    saved = saved_model_pb2.SavedModel.FromString((models / model / version / "saved_model.pb").read_bytes())
    expected = get_model_metadata_pb2.SignatureDefMap(signature_def=saved.meta_graphs[0].signature_def)
    assert found == expected


def test_metadata_of_versions_and_labels(server: Target) -> None:
    request = _metadata("numbered", "signature_def")
    assert server.prediction.GetModelMetadata(request, timeout=SECONDS).model_spec.version.value == 3
    request.model_spec.version.value = 2
    assert server.prediction.GetModelMetadata(request, timeout=SECONDS).model_spec.version.value == 2
    request.model_spec.version_label = "stable"
    assert server.prediction.GetModelMetadata(request, timeout=SECONDS).model_spec.version.value == 1


def test_metadata_mistakes(server: Target) -> None:
    call = server.prediction.GetModelMetadata
    nothing = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    assert failure(call, nothing) == (_Code.INVALID_ARGUMENT, "Missing ModelSpec")
    assert failure(call, _metadata("multi")) == (
        _Code.INVALID_ARGUMENT,
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    assert failure(call, _metadata("multi", "weights")) == (
        _Code.INVALID_ARGUMENT,
        "Metadata field weights is not supported",
    )
    assert failure(call, _metadata("nope", "signature_def")) == (
        _Code.NOT_FOUND,
        "Servable not found for request: Latest(nope)",
    )


def _status(model: str, version: int | None = None) -> get_model_status_pb2.GetModelStatusRequest:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    return request


def test_status(server: Target) -> None:
    for version, expected in ((None, [1, 2, 3]), (2, [2])):
        statuses = server.models.GetModelStatus(_status("numbered", version), timeout=SECONDS).model_version_status
        assert sorted(status.version for status in statuses) == expected
        for status in statuses:
            assert status.state == State.AVAILABLE
            assert (status.status.error_code, status.status.error_message) == (0, "")


def test_status_mistakes(server: Target) -> None:
    call = server.models.GetModelStatus
    assert failure(call, get_model_status_pb2.GetModelStatusRequest()) == (_Code.INVALID_ARGUMENT, "Missing ModelSpec")
    assert failure(call, _status("nope")) == (_Code.NOT_FOUND, "Could not find any versions of model nope")
    assert failure(call, _status("numbered", 9)) == (_Code.NOT_FOUND, "Could not find version 9 of model numbered")
