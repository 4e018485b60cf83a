"""The protocols of a model server: gRPC, REST (in ``rest``), or one with the other as a fallback."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
import numpy.typing as npt

from serving.client.calls import Call, CallFailed, Rpc, RpcMethod, Steps
from serving.client.errors import BadRequestError, ServerFaultError, is_unreachable
from serving.client.settings import Settings
from serving.protos import (
    error_codes_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)
from serving.tensors import TensorParseError, to_numpy, to_proto

Arrays = dict[str, npt.NDArray[Any]]

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
class Served:
    """A served version: name, number, a ``SignatureDefMap``."""

    name: str
    version: int
    signatures: Any


class ServingProtocol(Protocol):
    """A protocol to reach a server. Generators as in ``calls``; all may raise ``CallFailed`` and ``ServingError``."""

    def predict(self, prediction: Prediction, call: Call) -> Steps[Arrays]:
        """Runs a signature."""
        ...

    def status(self, call: Call) -> Steps[Any]:
        """Returns a ``GetModelStatusResponse``."""
        ...

    def served(self, call: Call) -> Steps[Served]:
        """Returns the served version and its signatures."""
        ...

    def reload(self, config: Any, call: Call) -> Steps[None]:
        """Makes the server load a ``ModelServerConfig``."""
        ...

    def health(self, service: str, call: Call) -> Steps[str]:
        """Returns SERVING, NOT_SERVING, ..."""
        ...


class GrpcProtocol:
    """TensorFlow Serving's gRPC services and gRPC's health service.

    Args:
        settings: the client's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._target = settings.target.text

    def predict(self, prediction: Prediction, call: Call) -> Steps[Arrays]:
        """See ``ServingProtocol``."""
        request = predict_pb2.PredictRequest(output_filter=prediction.output_filter)
        self._set_spec(request.model_spec)
        request.model_spec.signature_name = prediction.signature_name
        for name, array in prediction.inputs.items():
            try:
                request.inputs[name].CopyFrom(to_proto(array))
            except TensorParseError as error:
                raise BadRequestError(f"input {name}: {error}") from None
        response = yield Rpc(_PREDICT, request, call)
        try:
            return {name: to_numpy(proto) for name, proto in response.outputs.items()}
        except TensorParseError as error:
            raise ServerFaultError(f"{self._target} sent a tensor that can't be read: {error}") from None

    def status(self, call: Call) -> Steps[Any]:
        """See ``ServingProtocol``."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._set_spec(request.model_spec)
        return (yield Rpc(_STATUS, request, call))

    def served(self, call: Call) -> Steps[Served]:
        """See ``ServingProtocol``."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._set_spec(request.model_spec)
        response = yield Rpc(_METADATA, request, call)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return Served(response.model_spec.name, response.model_spec.version.value, signatures)

    def reload(self, config: Any, call: Call) -> Steps[None]:
        """See ``ServingProtocol``."""
        request = model_management_pb2.ReloadConfigRequest(config=config)
        status = (yield Rpc(_RELOAD, request, call)).status
        # The real server gives the same error as the call's status; a proxy may not.
        if status.error_code != error_codes_pb2.OK:
            code = _CODES.get(status.error_code, grpc.StatusCode.UNKNOWN)
            raise CallFailed(code, status.error_message, self._target)

    def health(self, service: str, call: Call) -> Steps[str]:
        """See ``ServingProtocol``."""
        try:
            from grpc_health.v1 import health_pb2
        except ImportError:
            raise BadRequestError(
                "health needs a package that is not installed. Remedy: `pip install grpcio-health-checking`"
            ) from None
        method = RpcMethod("/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse)
        response = yield Rpc(method, health_pb2.HealthCheckRequest(service=service), call)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))

    def _set_spec(self, spec: Any) -> None:
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

    def predict(self, prediction: Prediction, call: Call) -> Steps[Arrays]:
        """See ``ServingProtocol``."""
        return self._ask(lambda protocol: protocol.predict(prediction, call), call)

    def status(self, call: Call) -> Steps[Any]:
        """See ``ServingProtocol``."""
        return self._ask(lambda protocol: protocol.status(call), call)

    def served(self, call: Call) -> Steps[Served]:
        """See ``ServingProtocol``."""
        return self._ask(lambda protocol: protocol.served(call), call)

    def health(self, service: str, call: Call) -> Steps[str]:
        """See ``ServingProtocol``."""
        return self._ask(lambda protocol: protocol.health(service, call), call)

    def reload(self, config: Any, call: Call) -> Steps[None]:
        """See ``ServingProtocol``; there is no REST route for it."""
        return self._first.reload(config, call)

    def _ask(self, ask: Callable[[ServingProtocol], Steps[_T]], call: Call) -> Steps[_T]:
        order = [self._first, self._second]
        if time.monotonic() < self._second_until:
            order.reverse()
        try:
            result = yield from self._remembering(order[0], ask)
        except CallFailed as failure:
            if not is_unreachable(failure.code, failure.details) or not call.deadline.allows(0):
                raise
            missed = failure
        else:
            return result
        try:
            return (yield from self._remembering(order[1], ask))
        except CallFailed as failure:
            if not is_unreachable(failure.code, failure.details):
                raise
            details = f"{missed.details}; nor does {failure.target}: {failure.details}"
            raise CallFailed(missed.code, details, missed.target) from None

    def _remembering(self, protocol: ServingProtocol, ask: Callable[[ServingProtocol], Steps[_T]]) -> Steps[_T]:
        """Uses one of the two; if it answers, even with an error, it is tried first from now on."""
        try:
            result = yield from ask(protocol)
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
