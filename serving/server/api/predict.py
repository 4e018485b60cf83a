"""PredictRequest -> PredictResponse, with the checks and messages of TensorFlow Serving's predict_util.cc."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc

from serving.protos import model_pb2, predict_pb2, tensor_pb2
from serving.server.errors import StatusError, invalid_argument
from serving.server.execution.defaults import filled, rows_given
from serving.server.execution.servable import DEFAULT_SIGNATURE, METHODS, Servable, Signature, TensorSpec
from serving.tensors import dtype_name, to_content_proto, to_numpy, varint

# Key bytes of PredictResponse.outputs and model_spec, and of key and value in a map entry.
_OUTPUTS, _MODEL_SPEC, _KEY, _VALUE = b"\x0a", b"\x12", b"\x0a", b"\x12"


def run_predict(
    servable: Servable,
    name: str,
    version: int,
    request: predict_pb2.PredictRequest,
    *,
    check_method_name: bool = False,
    as_content: bool = False,
    timeout: float | None = None,
) -> predict_pb2.PredictResponse:
    """Answers a PredictRequest.

    Args:
        servable: the model to run.
        name: its name, for the response.
        version: its version, for the response.
        request: a ``PredictRequest``; its model name and version are ignored.
        check_method_name: refuse signatures whose method name is not one of TensorFlow Serving's.
        as_content: respond with ``tensor_content`` instead of typed values.
        timeout: seconds that the model may take; None waits.

    Returns:
        A ``PredictResponse``.

    Raises:
        StatusError: as TensorFlow Serving would fail, with its status code.
    """
    return predict_pb2.PredictResponse.FromString(
        run_predict_serialized(
            servable,
            name,
            version,
            request,
            check_method_name=check_method_name,
            as_content=as_content,
            timeout=timeout,
        )
    )


def run_predict_serialized(
    servable: Servable,
    name: str,
    version: int,
    request: predict_pb2.PredictRequest,
    *,
    check_method_name: bool = False,
    as_content: bool = False,
    alone: bool = False,
    timeout: float | None = None,
) -> bytes:
    """Like ``run_predict``, but returns a serialised response: gRPC can send it without building a message first.

    With ``alone`` the request is not batched with others, so only its own faults can make it fail.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(signature_name)
    if signature is None:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.')
    if check_method_name and signature.method_name not in METHODS:
        raise StatusError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(METHODS)}}}. "
            f"Was: {signature.method_name}",
        )
    inputs = _inputs(signature, request)
    aliases = _output_aliases(signature, request.output_filter)
    try:
        results = servable.run_serialized(signature_name, inputs, aliases, timeout=timeout, alone=alone)
    except StatusError as error:
        raise StatusError(error.code, error.message + _shape_hint(signature, inputs)) from error

    return _response(name, version, signature_name, results, as_content)


def _response(name: str, version: int, signature_name: str, results: Mapping[str, bytes], as_content: bool) -> bytes:
    """A serialised PredictResponse."""
    parts = [spec_field(name, version, signature_name)]
    for alias, content in results.items():
        if as_content:
            proto = tensor_pb2.TensorProto.FromString(content)
            content = to_content_proto(to_numpy(proto)).SerializeToString()
        entry = _entry_key(alias)
        value = _VALUE + varint(len(content))
        parts += (_OUTPUTS, varint(len(entry) + len(value) + len(content)), entry, value, content)
    return b"".join(parts)


@functools.lru_cache(maxsize=1024)
def spec_field(name: str, version: int, signature_name: str) -> bytes:
    """The serialised field ``model_spec`` of a response."""
    spec = model_pb2.ModelSpec(name=name, signature_name=signature_name)
    spec.version.value = version
    content = spec.SerializeToString()
    return _MODEL_SPEC + varint(len(content)) + bytes(content)


@functools.lru_cache(maxsize=1024)
def _entry_key(alias: str) -> bytes:
    text = alias.encode()
    return _KEY + varint(len(text)) + text


def _inputs(signature: Signature, request: predict_pb2.PredictRequest) -> dict[str, tensor_pb2.TensorProto]:
    given, expected = request.inputs, signature.inputs
    if len(given) > len(expected) or (len(given) < len(expected) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(given)}!={len(expected)} "
            f"len({{{_joined(given)}}}) != len({{{_joined(expected)}}}). "
            f"Sent extra: {{{_joined(set(given) - set(expected))}}}. "
            f"Missing but required: {{{_joined(set(expected) - set(given))}}}."
        )
    inputs: dict[str, tensor_pb2.TensorProto] = {}
    used = 0
    rows = rows_given(given, request.ByteSize()) if len(given) < len(expected) else 1
    for position, (alias, spec) in enumerate(expected.items()):
        if alias in given:
            proto = given[alias]
            used += 1
        elif alias in signature.defaults:
            proto = filled(signature.defaults[alias], spec, rows)
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {spec.name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {{{_joined(given)}}}, or default "
                f"input alias set: {_joined(signature.defaults)}"
            )
        if proto.dtype != spec.dtype:
            raise invalid_argument(
                f"Expects arg[{position}] to be {dtype_name(spec.dtype)} but {dtype_name(proto.dtype)} "
                f"is provided (input alias: {alias})"
            )
        inputs[alias] = proto
    if used < len(given):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {_joined(set(given) & set(expected))}, "
            f"request input: {_joined(given)}"
        )
    return inputs


def _output_aliases(signature: Signature, output_filter: Sequence[str]) -> list[str]:
    if not output_filter:
        return list(signature.outputs)
    aliases: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_joined(signature.outputs)}}}."
            )
        if alias in aliases:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return aliases


def _shape_hint(signature: Signature, inputs: Mapping[str, Any]) -> str:
    # As in the real server, shapes are left to the graph: some graphs accept other ranks than they declare.
    # When the graph then fails, a mismatch is the likely cause, and its own message rarely says so.
    shapes = {alias: [dimension.size for dimension in proto.tensor_shape.dim] for alias, proto in inputs.items()}
    hints = [
        f'input "{alias}" has shape {shapes[alias]}, the signature expects {list(spec.shape)}'
        for alias, spec in signature.inputs.items()
        if spec.shape is not None and not _fits(shapes[alias], spec)
    ]
    batches: dict[int, list[str]] = {}
    for alias, spec in signature.inputs.items():
        if spec.shape and spec.shape[0] == -1 and shapes[alias]:
            batches.setdefault(shapes[alias][0], []).append(alias)
    if not hints and len(batches) > 1:
        sizes = "; ".join(f"{size}: {_joined(aliases)}" for size, aliases in sorted(batches.items()))
        hints = [f"first dimensions differ: {sizes}"]
    return f" [{'; '.join(hints)}]" if hints else ""


def _fits(shape: Sequence[int], spec: TensorSpec) -> bool:
    return spec.shape is None or (
        len(shape) == len(spec.shape) and all(want in (-1, size) for size, want in zip(shape, spec.shape, strict=True))
    )


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
