"""The interface of a loaded model version, independent of its runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.protos import meta_graph_pb2, tensor_pb2

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
DEFAULT_SIGNATURE = "serving_default"
"""The signature for requests that name none."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        name: the tensor's name in the graph.
        dtype: TensorFlow's DataType number.
        shape: sizes, -1 where free; None when even the rank is free.
    """

    name: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A SignatureDef in the form needed to serve requests.

    Attributes:
        method_name: TensorFlow Serving's method that this signature is for.
        inputs: by alias.
        outputs: by alias.
        defaults: values of inputs that a request may leave out, as TensorProtos by alias.
    """

    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    defaults: Mapping[str, tensor_pb2.TensorProto]


class Servable(Protocol):
    """A loaded version; runs are thread-safe."""

    @property
    def path(self) -> Path:
        """The version directory."""
        ...

    @property
    def signature_defs(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """The signatures as protos, by key."""
        ...

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The same, parsed."""
        ...

    def run(
        self,
        signature: str,
        inputs: Mapping[str, tensor_pb2.TensorProto],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> dict[str, tensor_pb2.TensorProto]:
        """Computes outputs of a signature.

        Args:
            signature: its key.
            inputs: TensorProtos by alias, one for each input of the signature, of its dtype.
            outputs: aliases of the outputs to compute.
            timeout: seconds after which the run is cancelled; None waits.

        Returns:
            TensorProtos by alias, in the order of ``outputs``, with typed value fields.

        Raises:
            StatusError: the model refused the values or failed.
        """
        ...

    def run_serialized(
        self,
        signature: str,
        inputs: Mapping[str, tensor_pb2.TensorProto],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        alone: bool = False,
    ) -> dict[str, bytes]:
        """Like ``run``, but returns serialised TensorProtos.

        With ``alone`` the request is not batched with others, where one faulty request fails them all.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory; nothing may run afterwards."""
        ...


def read_signature(definition: meta_graph_pb2.SignatureDef) -> Signature:
    """A SignatureDef proto as a ``Signature``."""
    return Signature(
        method_name=definition.method_name,
        inputs={alias: _spec(info) for alias, info in sorted(definition.inputs.items())},
        outputs={alias: _spec(info) for alias, info in sorted(definition.outputs.items())},
        defaults=dict(definition.defaults),
    )


def _spec(info: meta_graph_pb2.TensorInfo) -> TensorSpec:
    shape = None if info.tensor_shape.unknown_rank else tuple(d.size for d in info.tensor_shape.dim)
    return TensorSpec(info.name, info.dtype, shape)
