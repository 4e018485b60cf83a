"""Requests that hold ``tf.Example``s: their input tensor, and the run that Classify and Regress share."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from serving.protos import classification_pb2, input_pb2, regression_pb2, tensor_pb2, types_pb2
from serving.server.errors import StatusError, invalid_argument
from serving.server.execution.servable import DEFAULT_SIGNATURE, Servable

ExamplesRequest = classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest
R = TypeVar("R", classification_pb2.ClassificationResponse, regression_pb2.RegressionResponse)
INPUTS = "inputs"
"""The input of a signature that reads examples."""


def serialized_examples(request_input: input_pb2.Input) -> tuple[tensor_pb2.TensorProto, int]:
    """Makes the input tensor of a Classify, Regress or MultiInference signature.

    A context is put in front of each example. Parsing the two as one message merges them, and a feature
    that both have is the example's, as later map entries win: what ``InputToSerializedExampleTensor``
    (``servables/tensorflow/util.cc``) does.

    Args:
        request_input: a ``tensorflow.serving.Input``.

    Returns:
        (``TensorProto`` of dtype string and shape [examples], number of examples).

    Raises:
        StatusError: INVALID_ARGUMENT when there is no example.
    """
    try:
        # Transferred as plain bytes: three times as fast as serialising each Example.
        raw = _RawInput.FromString(request_input.SerializeToString())
    except Exception:
        raise StatusError(grpc.StatusCode.INTERNAL, "Error parsing serialized input.") from None
    examples = raw.example_list.examples
    context = b""
    if raw.HasField("example_list_with_context"):
        examples = raw.example_list_with_context.examples
        context = raw.example_list_with_context.context
    count = len(examples)
    if not count:
        raise invalid_argument("Input is empty.")
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    tensor.tensor_shape.dim.add(size=count)
    tensor.string_val.extend([context + example for example in examples] if context else examples)
    return tensor, count


def run_on_examples(
    servable: Servable,
    name: str,
    version: int,
    request: ExamplesRequest,
    *,
    outputs: Callable[[str], list[str]],
    respond: Callable[[Mapping[str, tensor_pb2.TensorProto], int], R],
    timeout: float | None,
) -> tuple[R, int]:
    """Answers a ClassificationRequest or a RegressionRequest.

    Args:
        servable: the model to run.
        name: its name, for the response.
        version: its version, for the response.
        request: the request; its model name and version are ignored.
        outputs: the aliases to fetch from a signature; raises StatusError if it is of another kind.
        respond: (TensorProtos by alias, number of examples) -> response without its model spec.
        timeout: seconds that the model may take.

    Returns:
        (response, number of examples).

    Raises:
        StatusError: as TensorFlow Serving would fail, with its status code.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if signature_name not in servable.signatures:
        raise invalid_argument(f"No signature was found with the name: {signature_name}")
    aliases = outputs(signature_name)
    examples, count = serialized_examples(request.input)
    response = respond(servable.run(signature_name, {INPUTS: examples}, aliases, timeout=timeout), count)
    response.model_spec.name = name
    response.model_spec.version.value = version
    response.model_spec.signature_name = signature_name
    return response, count


def count_examples(request_input: input_pb2.Input) -> int:
    """Number of examples in a ``tensorflow.serving.Input``, which need not be well-formed."""
    kind = request_input.WhichOneof("kind")
    return 0 if kind is None else len(getattr(request_input, kind).examples)


def _raw_input_class() -> Any:
    """A message with ``Input``'s wire form whose examples stay bytes (see ``apis/internal/serialized_input.proto``)."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="babelrec/serving/raw_input.proto", package="babelrec.serving", syntax="proto3"
    )
    examples = file.message_type.add(name="RawExamples")
    examples.field.add(name="examples", number=1, type=field.TYPE_BYTES, label=field.LABEL_REPEATED)
    examples.field.add(name="context", number=2, type=field.TYPE_BYTES, label=field.LABEL_OPTIONAL)
    message = file.message_type.add(name="RawInput")
    message.oneof_decl.add(name="kind")
    for number, name in enumerate(("example_list", "example_list_with_context"), start=1):
        message.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=".babelrec.serving.RawExamples",
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("babelrec.serving.RawInput"))


_RawInput = _raw_input_class()
