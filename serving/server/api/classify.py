"""ClassificationRequest -> ClassificationResponse, with the checks and messages of TF Serving's classifier.cc."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from serving import wire
from serving.protos import classification_pb2, tensor_pb2, types_pb2
from serving.server.api.examples import INPUTS, run_on_examples
from serving.server.errors import StatusError, invalid_argument
from serving.server.execution.servable import CLASSIFY_METHOD, Servable
from serving.tensors import to_numpy

CLASSES = "classes"
SCORES = "scores"


def run_classify(
    servable: Servable,
    name: str,
    version: int,
    request: classification_pb2.ClassificationRequest,
    *,
    check_method_name: bool = False,
    timeout: float | None = None,
) -> tuple[classification_pb2.ClassificationResponse, int]:
    """Answers a ClassificationRequest; see ``run_on_examples``.

    Args:
        check_method_name: whether the signature must have this method name
            (``--enable_signature_method_name_check``).
    """

    def outputs(key: str) -> list[str]:
        return classification_outputs(servable, key, check_method_name=check_method_name)

    def respond(results: Mapping[str, tensor_pb2.TensorProto], count: int) -> classification_pb2.ClassificationResponse:
        return classification_pb2.ClassificationResponse(result=classification_result(results, count))

    return run_on_examples(servable, name, version, request, outputs=outputs, respond=respond, timeout=timeout)


def classification_outputs(servable: Servable, name: str, *, check_method_name: bool) -> list[str]:
    """The outputs to fetch from a classification signature.

    Args:
        servable: the model.
        name: a signature that it has.
        check_method_name: whether the signature must have this method name.

    Returns:
        ``classes``, ``scores`` or both.

    Raises:
        StatusError: the signature can't be used to classify.
    """
    signature = servable.signatures[name]
    if check_method_name and signature.method_name != CLASSIFY_METHOD:
        raise invalid_argument(
            f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {servable.signature_defs[name]}")
    aliases = [alias for alias in (CLASSES, SCORES) if alias in signature.outputs]
    if not aliases:
        raise invalid_argument(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {servable.signature_defs[name]}",
        )
    return aliases


def classification_result(
    outputs: Mapping[str, tensor_pb2.TensorProto], count: int
) -> classification_pb2.ClassificationResult:
    """Puts a model's outputs into a ``ClassificationResult``.

    Args:
        outputs: TensorProtos ``classes`` (string) and ``scores`` (float32), either or both, of shape
            [examples, classes].
        count: number of examples in the request.

    Raises:
        StatusError: an output has the wrong type or shape.
    """
    arrays = {
        alias: _checked(alias, outputs[alias], dtype, count)
        for alias, dtype in ((CLASSES, types_pb2.DT_STRING), (SCORES, types_pb2.DT_FLOAT))
        if alias in outputs
    }
    classes, scores = arrays.get(CLASSES), arrays.get(SCORES)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    try:
        return classification_pb2.ClassificationResult.FromString(wire.classifications(classes, scores, count))
    except Exception as error:
        # Labels are sent in a protocol buffer string.
        raise StatusError(grpc.StatusCode.INTERNAL, f"classes Tensor holds text that is not UTF-8: {error}") from None


def _checked(alias: str, proto: tensor_pb2.TensorProto, dtype: int, count: int) -> npt.NDArray[Any]:
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if len(sizes) != 2:
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got [{','.join(map(str, sizes))}]")
    if proto.dtype != dtype:
        raise invalid_argument(
            f"Expected {alias} Tensor of {types_pb2.DataType.Name(dtype)}. Got: {types_pb2.DataType.Name(proto.dtype)}"
        )
    if sizes[0] != count:
        raise invalid_argument(f"Expected {alias} output batch size of {count}. Got: {sizes[0]}")
    return np.ascontiguousarray(to_numpy(proto))
