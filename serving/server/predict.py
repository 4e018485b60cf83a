"""PredictRequest -> PredictResponse, with the checks and words of TensorFlow Serving's predict_util.cc."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
import numpy.typing as npt
from tensorflow_serving.apis import predict_pb2

from serving.server.errors import StatusError, from_exception, invalid_argument
from serving.server.servable import SavedModelServable, Signature, TensorSpec
from serving.tensors import TensorParseError, dtype_name, to_numpy, to_proto

DEFAULT_SIGNATURE = "serving_default"
_METHODS = (
    "tensorflow/serving/predict",
    "tensorflow/serving/classify",
    "tensorflow/serving/regress",
)


def run_predict(servable: SavedModelServable, name: str, version: int, request: Any) -> Any:
    """Answers a PredictRequest.

    Args:
        servable: the model to ask.
        name: its name, for the response.
        version: its version, for the response.
        request: a ``PredictRequest``; its model name and version are not looked at.

    Returns:
        A ``PredictResponse``.

    Raises:
        StatusError: as TensorFlow Serving would fail, with its status code.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(signature_name)
    if signature is None:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.')
    feeds = _inputs(signature, request.inputs)
    aliases = _output_aliases(signature, request.output_filter)
    fetches = [signature.outputs[alias] for alias in aliases]
    try:
        results = servable.run(feeds, fetches)
    except Exception as error:
        failure = from_exception(error)
        raise StatusError(failure.code, failure.message + _shape_hint(signature, feeds)) from error

    response = predict_pb2.PredictResponse()
    response.model_spec.name = name
    response.model_spec.version.value = version
    response.model_spec.signature_name = signature_name
    for alias, result in zip(aliases, results, strict=True):
        response.outputs[alias].CopyFrom(_encoded(alias, result))
    return response


def _inputs(signature: Signature, given: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    if signature.method_name not in _METHODS:
        raise StatusError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
            f"Was: {signature.method_name}",
        )
    expected = signature.inputs
    if len(given) > len(expected) or (len(given) < len(expected) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(given)}!={len(expected)} "
            f"len({{{_joined(given)}}}) != len({{{_joined(expected)}}}). "
            f"Sent extra: {{{_joined(set(given) - set(expected))}}}. "
            f"Missing but required: {{{_joined(set(expected) - set(given))}}}."
        )
    feeds: dict[str, npt.NDArray[Any]] = {}
    for position, (alias, spec) in enumerate(expected.items()):
        proto = given[alias] if alias in given else signature.defaults.get(alias)
        if proto is None:
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
        try:
            feeds[spec.name] = to_numpy(proto)
        except TensorParseError as error:
            raise invalid_argument(f"tensor parsing error: {alias} ({error})") from None
    unknown = set(given) - set(expected)
    if unknown:
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {_joined(set(given) & set(expected))}, "
            f"request input: {_joined(given)}"
        )
    return feeds


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


def _shape_hint(signature: Signature, feeds: Mapping[str, npt.NDArray[Any]]) -> str:
    # Like the real server, shapes are left to the graph: some graphs take other ranks than they declare.
    # When the graph then fails, a mismatch is the likely cause, and its own message rarely says so.
    shapes = {alias: feeds[spec.name].shape for alias, spec in signature.inputs.items()}
    hints = [
        f'input "{alias}" has shape {list(shapes[alias])}, the signature expects {list(spec.shape)}'
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


def _encoded(alias: str, result: npt.NDArray[Any]) -> Any:
    try:
        return to_proto(result)
    except TensorParseError as error:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"output {alias}: {error}") from None


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
