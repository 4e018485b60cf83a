"""The REST API of TensorFlow Serving, and its tensors in JSON, columnar form.

See ``g3doc/api_rest.md`` and ``util/json_tensor.cc``. JSON does not say what type a number or an empty list has, so
arrays are read back using the signature's types.
"""

import binascii
import json
import math
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from itertools import chain
from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client.connections import Call, CallFailed, Connections, HttpResponse, M
from serving.client.errors import BadRequestError, ServerFaultError
from serving.client.protocol import Predicted, Prediction, model_metadata, version_statuses
from serving.client.settings import DEFAULT_RETRY, RetryPolicy, Settings
from serving.client.types import Arrays, ModelMetadata, SignatureSpec, TensorSpec, VersionStatus
from serving.protos import get_model_metadata_pb2, get_model_status_pb2, model_server_config_pb2, types_pb2
from serving.tensors import dtype_name, numpy_dtype, string_array

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
_BASE64_KEY = "b64"
# NumPy's own limit.
_MAX_RANK = 64
# Python types of JSON values by NumPy kind; any other kind is a float.
_KINDS: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}}
_NUMPY_DTYPES = {dtype_name(enum): numpy_dtype(enum) for enum in types_pb2.DataType.values()}


class RestProtocol:
    """The REST API, with the retries that gRPC has built in.

    Args:
        settings: the client's settings.
        connections: of the client.
    """

    def __init__(self, settings: Settings, connections: Connections) -> None:
        assert settings.rest is not None
        self._target = settings.rest.text
        self._connections = connections
        self._retry = settings.retry
        self._throttle = _RetryThrottle(settings.retry or DEFAULT_RETRY)
        self._path = f"/v1/models/{quote(settings.model_name, safe='')}"
        if settings.version is not None:
            self._path += f"/versions/{settings.version}"
        elif settings.version_label is not None:
            self._path += f"/labels/{quote(settings.version_label, safe='')}"
        self._keep_seconds = math.inf if settings.version is not None else _SIGNATURES_SECONDS
        self._kept: tuple[float, ModelMetadata] | None = None

    async def predict(self, prediction: Prediction, call: Call) -> Predicted:
        """See ``ServingProtocol``."""
        name = prediction.signature_name or contract.DEFAULT
        signature, is_fresh = await self._signature(name, call)
        self._check(prediction, signature)
        body = _request_body(name, prediction.inputs)
        answer = await self._ask("POST", f"{self._path}:predict", body, call)
        try:
            outputs = _outputs(answer, signature)
        except MisfitError as error:
            # The answer may come from another version than the signature.
            if not is_fresh:
                signature, _ = await self._signature(name, call, fresh=True)
            try:
                outputs = _outputs(answer, signature)
            except MisfitError:
                raise ServerFaultError(f"{self._target} sent a tensor that can't be read: {error}") from None
        if prediction.output_filter:
            outputs = {alias: outputs[alias] for alias in prediction.output_filter}
        return Predicted(outputs)

    async def status(self, call: Call) -> list[VersionStatus]:
        """See ``ServingProtocol``."""
        answer = await self._ask("GET", self._path, None, call)
        return version_statuses(self._message(answer, get_model_status_pb2.GetModelStatusResponse()))

    async def metadata(self, call: Call) -> ModelMetadata:
        """See ``ServingProtocol``."""
        answer = await self._ask("GET", f"{self._path}/metadata", None, call)
        try:
            spec, definitions = answer["model_spec"], answer["metadata"]["signature_def"]
            name, version = spec["name"], int(spec["version"])
        except (KeyError, TypeError, ValueError):
            raise self._unreadable("model_spec and metadata.signature_def are missing") from None
        signatures = self._message(definitions, get_model_metadata_pb2.SignatureDefMap())
        metadata = model_metadata(name, version, signatures)
        self._kept = (time.monotonic(), metadata)
        return metadata

    async def reload(self, config: model_server_config_pb2.ModelServerConfig | str, call: Call) -> None:
        """See ``ServingProtocol``; the REST API has none."""
        raise BadRequestError(
            f"{self._target} is a REST address, and the REST API can't reload a configuration: give the gRPC address"
        )

    async def health(self, service: str, call: Call) -> str:
        """See ``ServingProtocol``; the REST API has no health service, so this checks the model's status."""
        if service:
            raise BadRequestError(
                f"{self._target} is a REST address, where only the model's own state can be checked, not {service!r}"
            )
        is_available = any(version.state == "AVAILABLE" for version in await self.status(call))
        return "SERVING" if is_available else "NOT_SERVING"

    async def _signature(self, name: str, call: Call, *, fresh: bool = False) -> tuple[SignatureSpec, bool]:
        """A signature, and whether it was fetched just now."""
        kept = self._kept
        if not fresh and kept is not None and time.monotonic() - kept[0] < self._keep_seconds:
            signature = kept[1].signatures.get(name)
            if signature is not None:
                return signature, False
        found = (await self.metadata(call)).signatures
        if name not in found:
            raise BadRequestError(
                f'the model has no signature "{name}"; it has {", ".join(found)}', _Status.FAILED_PRECONDITION
            )
        return found[name], True

    def _check(self, prediction: Prediction, signature: SignatureSpec) -> None:
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

    async def _ask(self, verb: str, path: str, body: bytes | None, call: Call) -> dict[str, Any]:
        """Performs one exchange with its retries; returns the document."""
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._connections.http(verb, path, body, call)
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
            await self._connections.pause(pause)

    def _document(self, response: HttpResponse) -> dict[str, Any]:
        try:
            document = _read(response.body)
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

    def _message(self, document: dict[str, Any], message: M) -> M:
        from google.protobuf import json_format

        try:
            return json_format.ParseDict(document, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise self._unreadable(str(error)) from None

    def _unreadable(self, why: str) -> ServerFaultError:
        return ServerFaultError(
            f"{self._target} responds, but not like TensorFlow Serving's REST API ({why}). Check the address"
        )


def _outputs(document: Mapping[str, Any], signature: SignatureSpec) -> Arrays:
    if "outputs" not in document:
        raise MisfitError("the response has no outputs")
    value = document["outputs"]
    names = sorted(signature.outputs)
    # A single tensor comes without its name.
    values = {names[0]: value} if len(names) == 1 else value
    if not isinstance(values, dict) or values.keys() != set(names):
        raise MisfitError(f"the response lacks the signature's outputs {', '.join(names)}")
    outputs: dict[str, npt.NDArray[Any]] = {}
    for name in names:
        try:
            outputs[name] = from_json(values[name], signature.outputs[name])
        except MisfitError as error:
            raise MisfitError(f"{name}: {error}") from None
    return outputs


def _shown(body: bytes) -> str:
    text = " ".join(body.decode(errors="replace").split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


class _RetryThrottle:
    """gRPC's retry throttle for REST, which has none. Thread-safe.

    Args:
        policy: gives size and ratio.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._tokens = float(policy.max_tokens)
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Counts a success."""
        with self._lock:
            self._tokens = min(self._tokens + self._policy.token_ratio, self._policy.max_tokens)

    def failed(self) -> bool:
        """Counts a failure; returns whether it may be retried."""
        if not self._policy.max_tokens:
            return True
        with self._lock:
            self._tokens = max(self._tokens - 1, 0.0)
            return self._tokens > self._policy.max_tokens / 2


class MisfitError(ValueError):
    """A JSON value does not fit the type that the signature says it has."""


def _request_body(signature_name: str, inputs: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A predict request.

    Raises:
        BadRequestError: an array has no JSON form; the message names it.
    """
    document = {"signature_name": signature_name, "inputs": {name: to_json(name, a) for name, a in inputs.items()}}
    # NaN and Infinity are written as those words, which is what the server reads.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def to_json(name: str, array: npt.NDArray[Any]) -> object:
    """A tensor as nested lists; bytes that are not UTF-8 as ``{"b64": ...}``.

    Raises:
        BadRequestError: it has no JSON form.
    """
    if 0 in array.shape[:-1]:
        raise BadRequestError(
            f"REST can't send {name} of shape {list(array.shape)}: JSON has no dimensions after an empty one. "
            "Use gRPC for it"
        )
    if array.dtype.kind == "O":
        values = np.empty(array.size, dtype=object)
        values[:] = [_string(name, value) for value in array.ravel().tolist()]
        return values.reshape(array.shape).tolist()
    if array.dtype == _NUMPY_DTYPES["bfloat16"]:
        return array.astype(np.float32).tolist()
    if array.dtype.kind not in "biuf":
        raise BadRequestError(f"REST can't send {name}: JSON can't represent arrays of {array.dtype}")
    return array.tolist()


def _read(body: bytes) -> object:
    """Parses a document from the server.

    Strings may hold bytes that are not UTF-8, which the server writes as they are; they become lone surrogates.

    Raises:
        ValueError: it is not JSON.
    """
    document: object = json.loads(body.decode(errors="surrogateescape"))
    return document


def from_json(value: object, spec: TensorSpec) -> npt.NDArray[Any]:
    """Nested lists as a tensor.

    Args:
        value: a value of the document.
        spec: its type and shape in the signature.

    Raises:
        MisfitError: the lists are ragged or hold values that the type does not allow.
    """
    dtype = _NUMPY_DTYPES.get(spec.dtype)
    if dtype is None or dtype.kind == "c":
        raise MisfitError(f"JSON can't represent tensors of {spec.dtype}")
    shape, flat = _flatten(value)
    array = string_array([_bytes(element) for element in flat]) if dtype.kind == "O" else _numbers(flat, dtype)
    if not flat:
        # The dimensions after an empty one are not in the JSON, but in the signature.
        shape += [max(size, 0) for size in (spec.shape or ())[len(shape) :]]
    return array.reshape(shape)


def _flatten(value: object) -> tuple[list[int], list[Any]]:
    shape: list[int] = []
    flat: list[Any] = [value]
    while flat and isinstance(flat[0], list):
        size = len(flat[0])
        if not all(isinstance(element, list) and len(element) == size for element in flat):
            raise MisfitError(f"lists of different lengths at depth {len(shape)}")
        shape.append(size)
        if len(shape) > _MAX_RANK:
            raise MisfitError(f"lists are nested more than {_MAX_RANK} deep")
        flat = list(chain.from_iterable(flat))
    return shape, flat


def _numbers(flat: list[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    kinds = set(map(type, flat))
    allowed = _KINDS.get(dtype.kind, {int, float})
    if not kinds <= allowed:
        wrong = next(element for element in flat if type(element) not in allowed)
        raise MisfitError(f"{wrong!r} is not {dtype}")
    try:
        return np.array(flat, dtype=dtype)
    except OverflowError as error:
        raise MisfitError(str(error)) from None


def _string(name: str, value: object) -> str | dict[str, str]:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise BadRequestError(f"{name} must hold bytes or str, got {type(value).__name__} {value!r}")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {_BASE64_KEY: b64encode(value).decode()}


def _bytes(value: object) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode(errors="surrogateescape")
        if isinstance(value, dict) and value.keys() == {_BASE64_KEY}:
            return b64decode(value[_BASE64_KEY], validate=True)
    except (UnicodeEncodeError, binascii.Error, TypeError) as error:
        raise MisfitError(f"{value!r} can't be decoded: {error}") from None
    raise MisfitError(f'{value!r} is neither a string nor {{"{_BASE64_KEY}": ...}}')
