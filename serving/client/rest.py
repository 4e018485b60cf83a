"""Client side of TensorFlow Serving's REST API (``g3doc/api_rest.md``)."""

import math
import time
from typing import Any
from urllib.parse import quote

import grpc
import numpy.typing as npt

from serving.client import rest_json
from serving.client.calls import Call, CallFailed, HttpRequest, HttpResponse, Pause, Steps
from serving.client.errors import BadRequestError, ServerFaultError
from serving.client.options import DEFAULT_RETRY, RetryThrottle
from serving.client.protocols import Arrays, Prediction, Served
from serving.client.settings import Settings
from serving.client.targets import Target
from serving.protos import get_model_metadata_pb2, get_model_status_pb2

_DEFAULT_SIGNATURE = "serving_default"
# How long the newest version's signatures are cached; those of a specific version don't change.
_SIGNATURES_SECONDS = 60.0
_SHOWN_CHARACTERS = 200
_Status = grpc.StatusCode
# The reverse of the mapping in ``model_servers/http_server.cc``, plus the statuses that proxies return.
_CODES = {
    400: _Status.INVALID_ARGUMENT,
    401: _Status.UNAUTHENTICATED,
    403: _Status.PERMISSION_DENIED,
    404: _Status.NOT_FOUND,
    405: _Status.UNIMPLEMENTED,
    407: _Status.UNAUTHENTICATED,
    408: _Status.DEADLINE_EXCEEDED,
    409: _Status.ABORTED,
    411: _Status.INVALID_ARGUMENT,
    413: _Status.INVALID_ARGUMENT,
    415: _Status.INVALID_ARGUMENT,
    429: _Status.RESOURCE_EXHAUSTED,
    499: _Status.CANCELLED,
    501: _Status.UNIMPLEMENTED,
    502: _Status.UNAVAILABLE,
    503: _Status.UNAVAILABLE,
    504: _Status.DEADLINE_EXCEEDED,
}


class RestProtocol:
    """The REST API, with the retries that gRPC has built in.

    Args:
        target: its address.
        settings: the client's settings.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target.text
        self._retry = settings.retry
        self._throttle = RetryThrottle(settings.retry or DEFAULT_RETRY)
        self._path = f"/v1/models/{quote(settings.model_name, safe='')}"
        if settings.version is not None:
            self._path += f"/versions/{settings.version}"
        elif settings.version_label is not None:
            self._path += f"/labels/{quote(settings.version_label, safe='')}"
        self._keep_seconds = math.inf if settings.version is not None else _SIGNATURES_SECONDS
        self._served: tuple[float, Served] | None = None

    def predict(self, prediction: Prediction, call: Call) -> Steps[Arrays]:
        """See ``ServingProtocol``."""
        name = prediction.signature_name or _DEFAULT_SIGNATURE
        signature, is_fresh = yield from self._signature(name, call)
        self._check(prediction, signature)
        body = rest_json.request_body(name, prediction.inputs)
        answer = yield from self._ask("POST", f"{self._path}:predict", body, call)
        try:
            outputs = _outputs(answer, signature)
        except rest_json.MisfitError as error:
            # The answer may come from another version than the signature.
            if not is_fresh:
                signature, _ = yield from self._signature(name, call, fresh=True)
            try:
                outputs = _outputs(answer, signature)
            except rest_json.MisfitError:
                raise ServerFaultError(f"{self._target} sent a tensor that can't be read: {error}") from None
        return {alias: outputs[alias] for alias in prediction.output_filter} if prediction.output_filter else outputs

    def status(self, call: Call) -> Steps[Any]:
        """See ``ServingProtocol``."""
        answer = yield from self._ask("GET", self._path, None, call)
        return self._message(answer, get_model_status_pb2.GetModelStatusResponse())

    def served(self, call: Call) -> Steps[Served]:
        """See ``ServingProtocol``."""
        answer = yield from self._ask("GET", f"{self._path}/metadata", None, call)
        try:
            spec, definitions = answer["model_spec"], answer["metadata"]["signature_def"]
            name, version = spec["name"], int(spec["version"])
        except (KeyError, TypeError, ValueError):
            raise self._unreadable("model_spec and metadata.signature_def are missing") from None
        served = Served(name, version, self._message(definitions, get_model_metadata_pb2.SignatureDefMap()))
        self._served = (time.monotonic(), served)
        return served

    def reload(self, config: Any, call: Call) -> Steps[None]:
        """See ``ServingProtocol``; the REST API has none."""
        raise BadRequestError(
            f"{self._target} is a REST address, and the REST API can't reload a configuration: give the gRPC address"
        )
        yield

    def health(self, service: str, call: Call) -> Steps[str]:
        """See ``ServingProtocol``; the REST API has no health service, so this checks the model's status."""
        if service:
            raise BadRequestError(
                f"{self._target} is a REST address, where only the model's own state can be checked, not {service!r}"
            )
        state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        response = yield from self.status(call)
        return "SERVING" if any(each.state == state for each in response.model_version_status) else "NOT_SERVING"

    def _signature(self, name: str, call: Call, *, fresh: bool = False) -> Steps[tuple[Any, bool]]:
        """A signature, and whether it was fetched just now."""
        kept = self._served
        if not fresh and kept is not None and time.monotonic() - kept[0] < self._keep_seconds:
            found = kept[1].signatures.signature_def
            if name in found:
                return found[name], False
        served = yield from self.served(call)
        found = served.signatures.signature_def
        if name not in found:
            names = ", ".join(sorted(each for each in found if not each.startswith("__")))
            raise BadRequestError(f'the model has no signature "{name}"; it has {names}', _Status.FAILED_PRECONDITION)
        return found[name], True

    def _check(self, prediction: Prediction, signature: Any) -> None:
        # The REST API ignores unknown inputs, and has no output filter.
        surplus = sorted(prediction.inputs.keys() - signature.inputs.keys())
        if surplus:
            raise BadRequestError(
                f"the signature has no input {', '.join(surplus)}; it has {', '.join(sorted(signature.inputs))}",
                _Status.INVALID_ARGUMENT,
            )
        unknown = [alias for alias in prediction.output_filter if alias not in signature.outputs]
        if unknown:
            raise BadRequestError(
                f"the signature has no output {', '.join(unknown)}; it has {', '.join(sorted(signature.outputs))}",
                _Status.INVALID_ARGUMENT,
            )

    def _ask(self, verb: str, path: str, body: bytes | None, call: Call) -> Steps[Any]:
        """Performs one exchange with its retries; returns the document."""
        attempt = 0
        while True:
            attempt += 1
            try:
                response = yield HttpRequest(verb, path, body, call)
                answer = self._document(response)
            except CallFailed as failure:
                if self._retry is None or failure.code.name not in self._retry.codes:
                    raise
                pause = self._retry.backoff(attempt)
                may_retry = self._throttle.failed()
                if attempt >= self._retry.max_attempts or not may_retry or not call.deadline.allows(pause):
                    raise
            else:
                self._throttle.succeeded()
                return answer
            yield Pause(pause)

    def _document(self, response: HttpResponse) -> Any:
        try:
            document = rest_json.read(response.body)
        except ValueError:
            document = None
        if response.status == 200:
            if not isinstance(document, dict):
                raise self._unreadable(f"{response.media_type or 'no media type'}: {_shown(response.body)}")
            return document
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, str):
            details = error.encode(errors="replace").decode()
        else:
            details = f"HTTP status {response.status} and no JSON error: {_shown(response.body)}"
            if response.status == 404:
                raise self._unreadable(details)
        code = _CODES.get(response.status)
        if code is None:
            known = {3: _Status.UNKNOWN, 4: _Status.INVALID_ARGUMENT}
            code = known.get(response.status // 100, _Status.INTERNAL)
        raise CallFailed(code, details, self._target)

    def _message(self, document: Any, message: Any) -> Any:
        from google.protobuf import json_format

        try:
            return json_format.ParseDict(document, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise self._unreadable(str(error)) from None

    def _unreadable(self, why: str) -> ServerFaultError:
        return ServerFaultError(
            f"{self._target} responds, but not like TensorFlow Serving's REST API ({why}). Check the address"
        )


def _outputs(document: Any, signature: Any) -> Arrays:
    if "outputs" not in document:
        raise rest_json.MisfitError("the answer has no outputs")
    value = document["outputs"]
    names = sorted(signature.outputs)
    # A single tensor comes without its name.
    values = {names[0]: value} if len(names) == 1 else value
    if not isinstance(values, dict) or values.keys() != set(names):
        raise rest_json.MisfitError(f"the answer does not hold the signature's outputs {', '.join(names)}")
    outputs: dict[str, npt.NDArray[Any]] = {}
    for name in names:
        try:
            outputs[name] = rest_json.from_json(values[name], signature.outputs[name])
        except rest_json.MisfitError as error:
            raise rest_json.MisfitError(f"{name}: {error}") from None
    return outputs


def _shown(body: bytes) -> str:
    text = " ".join(body.decode(errors="replace").split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
