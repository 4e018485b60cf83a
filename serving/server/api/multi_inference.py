"""MultiInferenceRequest -> MultiInferenceResponse, with the messages of TensorFlow Serving's multi_inference.cc."""

import time

import grpc

from serving.protos import inference_pb2
from serving.server.api import classify, regress
from serving.server.api.examples import INPUTS, serialized_examples
from serving.server.errors import StatusError, invalid_argument
from serving.server.execution.servable import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD, Servable


def run_multi_inference(
    servable: Servable,
    version: int,
    request: inference_pb2.MultiInferenceRequest,
    *,
    check_method_name: bool = False,
    timeout: float | None = None,
) -> tuple[inference_pb2.MultiInferenceResponse, int]:
    """Answers several classification and regression tasks for the same examples, which each signature reads.

    Each task runs its signature, one after the other; TensorFlow Serving fetches the outputs of all in one run.

    Args:
        servable: the model to run.
        version: its version, for the response.
        request: a ``MultiInferenceRequest``; all its tasks must name the same model.
        check_method_name: whether signatures must have the name of the method they are used with
            (``--enable_signature_method_name_check``).
        timeout: seconds that the model may take.

    Returns:
        (``MultiInferenceResponse`` with one result for each task in their order, number of examples).

    Raises:
        StatusError: as TensorFlow Serving would fail, with its status code.
    """
    wanted = _checked(servable, request, check_method_name=check_method_name)
    examples, count = serialized_examples(request.input)
    inputs = {INPUTS: examples}
    response = inference_pb2.MultiInferenceResponse()
    end = None if timeout is None else time.monotonic() + timeout
    for task, (signature_name, aliases) in zip(request.tasks, wanted.items(), strict=True):
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, f"no time was left for signature {signature_name}")
        outputs = servable.run(signature_name, inputs, aliases, timeout=left)
        result = response.results.add()
        if task.method_name == CLASSIFY_METHOD:
            result.classification_result.MergeFrom(classify.classification_result(outputs, count))
        else:
            result.regression_result.MergeFrom(regress.regression_result(outputs[regress.OUTPUTS], count))
        result.model_spec.name = task.model_spec.name
        result.model_spec.version.value = version
        result.model_spec.signature_name = signature_name
    return response, count


def _checked(
    servable: Servable, request: inference_pb2.MultiInferenceRequest, *, check_method_name: bool
) -> dict[str, list[str]]:
    """Outputs to fetch, by signature, in the order of the tasks."""
    model_name = ""
    wanted: dict[str, list[str]] = {}
    for task in request.tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        model_name = model_name or spec.name
        if spec.name != model_name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        signature_name = spec.signature_name or DEFAULT_SIGNATURE
        if signature_name in wanted:
            raise invalid_argument(f"Duplicate evaluation of signature: {signature_name}")
        if signature_name not in servable.signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {signature_name}")
        if task.method_name == CLASSIFY_METHOD:
            aliases = classify.classification_outputs(servable, signature_name, check_method_name=check_method_name)
        elif task.method_name == REGRESS_METHOD:
            aliases = regress.regression_outputs(servable, signature_name, check_method_name=check_method_name)
        else:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        wanted[signature_name] = aliases
    return wanted
