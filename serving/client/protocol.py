"""The requests to a model server, over gRPC (``rest``: over REST) or over one with the other as a fallback."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
import numpy.typing as npt

from serving.client.connections import Call, CallFailed, Connections, RpcMethod
from serving.client.errors import BadRequestError, ServerFaultError, is_unreachable
from serving.client.settings import Settings
from serving.client.types import Arrays, ModelMetadata, SignatureSpec, TensorSpec, VersionStatus
from serving.protos import (
    error_codes_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    meta_graph_pb2,
    model_management_pb2,
    model_pb2,
    model_server_config_pb2,
    predict_pb2,
)
from serving.tensors import TensorParseError, dtype_name, to_numpy, to_proto

_PREDICTION_SERVICE = "/tensorflow.serving.PredictionService/"
_MODEL_SERVICE = "/tensorflow.serving.ModelService/"
_PREDICT = RpcMethod(_PREDICTION_SERVICE + "Predict", predict_pb2.PredictResponse)
_METADATA = RpcMethod(_PREDICTION_SERVICE + "GetModelMetadata", get_model_metadata_pb2.GetModelMetadataResponse)
_STATUS = RpcMethod(_MODEL_SERVICE + "GetModelStatus", get_model_status_pb2.GetModelStatusResponse)
_RELOAD = RpcMethod(_MODEL_SERVICE + "HandleReloadConfigRequest", model_management_pb2.ReloadConfigResponse)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A call of a signature: its inputs by name, and the outputs to return (none: all)."""

    signature_name: str
    inputs: Mapping[str, npt.NDArray[Any]]
    output_filter: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Predicted:
    """Outputs of a signature by name, and the version of the model that gave them; 0: the protocol doesn't say."""

    outputs: Arrays
    version: int = 0


class ServingProtocol(Protocol):
    """A protocol to reach a server. All methods may raise ``CallFailed`` and ``ServingError``."""

    async def predict(self, prediction: Prediction, call: Call) -> Predicted:
        """Runs a signature."""
        ...

    async def status(self, call: Call) -> list[VersionStatus]:
        """Returns the states of the model's versions, newest first."""
        ...

    async def metadata(self, call: Call) -> ModelMetadata:
        """Returns the served version and its signatures."""
        ...

    async def reload(self, config: model_server_config_pb2.ModelServerConfig | str, call: Call) -> None:
        """Makes the server load a ``ModelServerConfig``, or its text form."""
        ...

    async def health(self, service: str, call: Call) -> str:
        """Returns SERVING, NOT_SERVING, ..."""
        ...


class GrpcProtocol:
    """TensorFlow Serving's gRPC services and gRPC's health service.

    Args:
        settings: the client's settings.
        connections: of the client.
    """

    def __init__(self, settings: Settings, connections: Connections) -> None:
        assert settings.grpc is not None
        self._settings = settings
        self._connections = connections
        self._target = settings.grpc.text

    async def predict(self, prediction: Prediction, call: Call) -> Predicted:
        """See ``ServingProtocol``."""
        request = predict_pb2.PredictRequest(output_filter=prediction.output_filter)
        self._set_spec(request.model_spec)
        request.model_spec.signature_name = prediction.signature_name
        for name, array in prediction.inputs.items():
            try:
                request.inputs[name].CopyFrom(to_proto(array))
            except TensorParseError as error:
                raise BadRequestError(f"input {name}: {error}") from None
        response = await self._connections.rpc(_PREDICT, request, call)
        try:
            outputs = {name: to_numpy(proto) for name, proto in response.outputs.items()}
        except TensorParseError as error:
            raise ServerFaultError(f"{self._target} sent a tensor that can't be read: {error}") from None
        return Predicted(outputs, response.model_spec.version.value)

    async def status(self, call: Call) -> list[VersionStatus]:
        """See ``ServingProtocol``."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._set_spec(request.model_spec)
        return version_statuses(await self._connections.rpc(_STATUS, request, call))

    async def metadata(self, call: Call) -> ModelMetadata:
        """See ``ServingProtocol``."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._set_spec(request.model_spec)
        response = await self._connections.rpc(_METADATA, request, call)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return model_metadata(response.model_spec.name, response.model_spec.version.value, signatures)

    async def reload(self, config: model_server_config_pb2.ModelServerConfig | str, call: Call) -> None:
        """See ``ServingProtocol``."""
        request = model_management_pb2.ReloadConfigRequest(config=_model_server_config(config))
        status = (await self._connections.rpc(_RELOAD, request, call)).status
        # The real server gives the same error as the call's status; a proxy may not.
        if status.error_code != error_codes_pb2.OK:
            code = _CODES.get(status.error_code, grpc.StatusCode.UNKNOWN)
            raise CallFailed(code, status.error_message, self._target)

    async def health(self, service: str, call: Call) -> str:
        """See ``ServingProtocol``."""
        try:
            from grpc_health.v1 import health_pb2
        except ImportError:
            raise BadRequestError(
                "health needs a package that is not installed. Remedy: `pip install grpcio-health-checking`"
            ) from None
        method = RpcMethod("/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse)
        response = await self._connections.rpc(method, health_pb2.HealthCheckRequest(service=service), call)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))

    def _set_spec(self, spec: model_pb2.ModelSpec) -> None:
        spec.name = self._settings.model_name
        if self._settings.version is not None:
            spec.version.value = self._settings.version
        elif self._settings.version_label is not None:
            spec.version_label = self._settings.version_label


class FallbackProtocol:
    """Uses the first protocol; if that can't be reached, the second, which is then tried first for a while.

    Args:
        first: used normally.
        second: used when the first reaches no server.
        seconds: how long the second is preferred after it was needed.
    """

    def __init__(self, first: ServingProtocol, second: ServingProtocol, seconds: float) -> None:
        self._first = first
        self._second = second
        self._seconds = seconds
        self._second_until = -float("inf")

    async def predict(self, prediction: Prediction, call: Call) -> Predicted:
        """See ``ServingProtocol``."""
        return await self._ask(lambda protocol: protocol.predict(prediction, call), call)

    async def status(self, call: Call) -> list[VersionStatus]:
        """See ``ServingProtocol``."""
        return await self._ask(lambda protocol: protocol.status(call), call)

    async def metadata(self, call: Call) -> ModelMetadata:
        """See ``ServingProtocol``."""
        return await self._ask(lambda protocol: protocol.metadata(call), call)

    async def health(self, service: str, call: Call) -> str:
        """See ``ServingProtocol``."""
        return await self._ask(lambda protocol: protocol.health(service, call), call)

    async def reload(self, config: model_server_config_pb2.ModelServerConfig | str, call: Call) -> None:
        """See ``ServingProtocol``; there is no REST route for it."""
        await self._first.reload(config, call)

    async def _ask(self, ask: Callable[[ServingProtocol], Awaitable[_T]], call: Call) -> _T:
        order = [self._first, self._second]
        if time.monotonic() < self._second_until:
            order.reverse()
        try:
            result = await self._remembering(order[0], ask)
        except CallFailed as failure:
            if not is_unreachable(failure.code, failure.details) or not call.deadline.allows(0):
                raise
            missed = failure
        else:
            return result
        try:
            return await self._remembering(order[1], ask)
        except CallFailed as failure:
            if not is_unreachable(failure.code, failure.details):
                raise
            details = f"{missed.details}; nor does {failure.target}: {failure.details}"
            raise CallFailed(missed.code, details, missed.target) from None

    async def _remembering(self, protocol: ServingProtocol, ask: Callable[[ServingProtocol], Awaitable[_T]]) -> _T:
        """Uses one of the two; if it answers, even with an error, it is tried first from now on."""
        try:
            result = await ask(protocol)
        except CallFailed as failure:
            if not is_unreachable(failure.code, failure.details):
                self._note(protocol)
            raise
        self._note(protocol)
        return result

    def _note(self, answering: ServingProtocol) -> None:
        if answering is self._first:
            self._second_until = -float("inf")
        elif time.monotonic() >= self._second_until:
            # Not extended by each answer: the first is tried again when the time is up.
            self._second_until = time.monotonic() + self._seconds


def version_statuses(response: get_model_status_pb2.GetModelStatusResponse) -> list[VersionStatus]:
    """What a ``GetModelStatusResponse`` says, newest first."""
    states = get_model_status_pb2.ModelVersionStatus.State
    return [
        VersionStatus(
            entry.version,
            states.Name(entry.state),
            error_codes_pb2.Code.Name(entry.status.error_code),
            entry.status.error_message,
        )
        for entry in sorted(response.model_version_status, key=lambda entry: -entry.version)
    ]


def model_metadata(name: str, version: int, definitions: get_model_metadata_pb2.SignatureDefMap) -> ModelMetadata:
    """What a ``SignatureDefMap`` says."""
    signatures = {
        key: SignatureSpec(_specs(definition.inputs), _specs(definition.outputs))
        for key, definition in sorted(definitions.signature_def.items())
        if not key.startswith("__")  # initialisers and other internal ones, not for clients
    }
    return ModelMetadata(name, version, signatures)


def _specs(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            dtype_name(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(d.size for d in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }


def _model_server_config(
    config: model_server_config_pb2.ModelServerConfig | str,
) -> model_server_config_pb2.ModelServerConfig:
    if isinstance(config, model_server_config_pb2.ModelServerConfig):
        return config
    if not isinstance(config, str):
        raise BadRequestError(
            f"the configuration must be a ModelServerConfig or its text form, got {type(config).__name__}"
        )
    from google.protobuf import text_format

    try:
        return text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise BadRequestError(f"the configuration is not a ModelServerConfig in text form: {error}") from None
