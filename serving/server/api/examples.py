"""``tensorflow.serving.Input`` -> the tensor of serialised ``tf.Example``s that a model reads."""

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from serving.protos import tensor_pb2, types_pb2
from serving.server.errors import StatusError, invalid_argument


def serialized_examples(request_input: Any) -> tuple[Any, int]:
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


def count_examples(request_input: Any) -> int:
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
