"""The gRPC services, thin: requests in, the other parts' answers out."""

import logging
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.server.errors import StatusError, from_exception, invalid_argument, not_found
from serving.server.manager import AspiredVersionsManager
from serving.server.predict import run_predict
from serving.server.servable import SavedModelServable
from serving.server.states import ServableStateMonitor

_LOGGER = logging.getLogger(__name__)
_METADATA_FIELD = "signature_def"

Manager = AspiredVersionsManager[SavedModelServable]


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """``tensorflow.serving.PredictionService``: Predict and GetModelMetadata."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Runs a signature; see ``run_predict``."""
        return _answer(self._predict, request, context)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Describes the signatures of a version."""
        return _answer(self._metadata, request, context)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802
        """Not there yet."""
        _unimplemented("Classify", context)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802
        """Not there yet."""
        _unimplemented("Regress", context)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802
        """Not there yet."""
        _unimplemented("MultiInference", context)

    def _predict(self, request: Any) -> Any:
        name, version = _wanted(request)
        with self._manager.acquire(name, version) as (number, servable):
            return run_predict(servable, name, number, request)

    def _metadata(self, request: Any) -> Any:
        name, version = _wanted(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _METADATA_FIELD:
                raise invalid_argument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._manager.acquire(name, version) as (number, servable):
            response.model_spec.name = name
            response.model_spec.version.value = number
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        response.metadata[_METADATA_FIELD].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """``tensorflow.serving.ModelService``: GetModelStatus."""

    def __init__(self, monitor: ServableStateMonitor) -> None:
        self._monitor = monitor

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Tells the state of one version or of all that the server has seen."""
        return _answer(self._status, request, context)

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802
        """Not there yet."""
        _unimplemented("HandleReloadConfigRequest", context)

    def _status(self, request: Any) -> Any:
        name, version = _wanted(request)
        states = self._monitor.versions(name)
        if not states:
            raise not_found(f"Could not find any versions of model {name}")
        if version is not None:
            if version not in states:
                raise not_found(f"Could not find version {version} of model {name}")
            states = {version: states[version]}
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state in states.items():
            status = response.model_version_status.add(version=number, state=int(state.manager_state))
            status.status.SetInParent()
            if state.error is not None:
                status.status.error_code = state.error.number
                status.status.error_message = state.error.message
        return response


def _answer(handler: Callable[[Any], Any], request: Any, context: grpc.ServicerContext) -> Any:
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        # The client has given up while the request waited for a thread: the work would be for nobody.
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before the request was started")
    try:
        return handler(request)
    except StatusError as error:
        failure = error
    except Exception as error:
        _LOGGER.exception("unexpected failure in %s", handler.__name__)
        failure = from_exception(error)
    context.abort(failure.code, failure.grpc_details)


def _wanted(request: Any) -> tuple[str, int | None]:
    """The model name and version that a request's ModelSpec asks for."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise invalid_argument("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
    return spec.name, spec.version.value if choice == "version" else None


def _unimplemented(method: str, context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented by this server yet")
    raise AssertionError("abort raises")
