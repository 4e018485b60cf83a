"""RegressionRequest -> RegressionResponse, with the checks and messages of TensorFlow Serving's regressor.cc."""

from typing import Any

from serving import wire
from serving.protos import regression_pb2, types_pb2
from serving.server.api.examples import serialized_examples
from serving.server.errors import invalid_argument
from serving.server.execution.servable import DEFAULT_SIGNATURE, REGRESS_METHOD, Servable
from serving.tensors import to_numpy

INPUTS = "inputs"
OUTPUTS = "outputs"


def run_regress(
    servable: Servable,
    name: str,
    version: int,
    request: Any,
    *,
    check_method_name: bool = False,
    timeout: float | None = None,
) -> tuple[Any, int]:
    """Answers a RegressionRequest.

    Args:
        servable: the model to run.
        name: its name, for the response.
        version: its version, for the response.
        request: a ``RegressionRequest``; its model name and version are ignored.
        check_method_name: whether the signature must have this method name
            (``--enable_signature_method_name_check``).
        timeout: seconds that the model may take.

    Returns:
        (``RegressionResponse``, number of examples).

    Raises:
        StatusError: as TensorFlow Serving would fail, with its status code.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(signature_name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {signature_name}")
    check_regression(servable, signature_name, check_method_name=check_method_name)
    examples, count = serialized_examples(request.input)
    outputs = servable.run(signature_name, {INPUTS: examples}, [OUTPUTS], timeout=timeout)
    response = regression_pb2.RegressionResponse(result=regression_result(outputs[OUTPUTS], count))
    response.model_spec.name = name
    response.model_spec.version.value = version
    response.model_spec.signature_name = signature_name
    return response, count


def check_regression(servable: Servable, name: str, *, check_method_name: bool) -> None:
    """Checks that the signature ``name`` can be used to regress.

    Raises:
        StatusError: it can't.
    """
    signature = servable.signatures[name]
    if check_method_name and signature.method_name != REGRESS_METHOD:
        raise invalid_argument(
            f"Expected regression signature method_name to be {REGRESS_METHOD}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    for alias, kind, there in ((INPUTS, "inputs", signature.inputs), (OUTPUTS, "outputs", signature.outputs)):
        if alias not in there:
            raise invalid_argument(f"No regression {kind} found in SignatureDef: {servable.signature_defs[name]}")


def regression_result(output: Any, count: int) -> Any:
    """Puts a model's output into a ``RegressionResult``.

    Args:
        output: TensorProto of float32, [examples] or [examples, 1].
        count: number of examples in the request.

    Raises:
        StatusError: the output has the wrong type or shape.
    """
    sizes = [dim.size for dim in output.tensor_shape.dim]
    if not (len(sizes) == 1 or (len(sizes) == 2 and sizes[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"[{','.join(map(str, sizes))}]"
        )
    if sizes[0] != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {sizes[0]}")
    if output.dtype != types_pb2.DT_FLOAT:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {types_pb2.DataType.Name(output.dtype)}")
    return regression_pb2.RegressionResult.FromString(wire.regressions(to_numpy(output)))
