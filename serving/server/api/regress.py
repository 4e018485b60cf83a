"""RegressionRequest -> RegressionResponse, with the checks and messages of TensorFlow Serving's regressor.cc."""

from collections.abc import Mapping

from serving import wire
from serving.protos import regression_pb2, tensor_pb2, types_pb2
from serving.server.api.examples import INPUTS, run_on_examples
from serving.server.errors import invalid_argument
from serving.server.execution.servable import REGRESS_METHOD, Servable
from serving.tensors import to_numpy

OUTPUTS = "outputs"


def run_regress(
    servable: Servable,
    name: str,
    version: int,
    request: regression_pb2.RegressionRequest,
    *,
    check_method_name: bool = False,
    timeout: float | None = None,
) -> tuple[regression_pb2.RegressionResponse, int]:
    """Answers a RegressionRequest; see ``run_on_examples``.

    Args:
        check_method_name: whether the signature must have this method name
            (``--enable_signature_method_name_check``).
    """

    def outputs(key: str) -> list[str]:
        return regression_outputs(servable, key, check_method_name=check_method_name)

    def respond(results: Mapping[str, tensor_pb2.TensorProto], count: int) -> regression_pb2.RegressionResponse:
        return regression_pb2.RegressionResponse(result=regression_result(results[OUTPUTS], count))

    return run_on_examples(servable, name, version, request, outputs=outputs, respond=respond, timeout=timeout)


def regression_outputs(servable: Servable, name: str, *, check_method_name: bool) -> list[str]:
    """The outputs to fetch from a regression signature.

    Args:
        servable: the model.
        name: a signature that it has.
        check_method_name: whether the signature must have this method name.

    Raises:
        StatusError: the signature can't be used to regress.
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
    return [OUTPUTS]


def regression_result(output: tensor_pb2.TensorProto, count: int) -> regression_pb2.RegressionResult:
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
