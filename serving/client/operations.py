"""The client's operations: typed values -> protocol calls -> typed values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client.calls import Call, Steps
from serving.client.encoding import inputs_of, ranked, recommendations, string_matrix
from serving.client.errors import BadRequestError, ServerFaultError
from serving.client.protocols import Arrays, Prediction, ServingProtocol
from serving.client.types import (
    ModelMetadata,
    Query,
    RankedItem,
    Recommendation,
    SignatureSpec,
    TensorSpec,
    VersionStatus,
)
from serving.protos import error_codes_pb2, get_model_status_pb2, model_server_config_pb2
from serving.tensors import dtype_name

RECOMMEND = contract.DEFAULT
RETRIEVE = contract.RETRIEVE


class Operations:
    """The operations of both clients; see ``RecommenderClient`` for each.

    Args:
        protocol: how to reach the server.
    """

    def __init__(self, protocol: ServingProtocol) -> None:
        self._protocol = protocol

    def items(self, signature_name: str, queries: Sequence[Query], call: Call) -> Steps[list[list[Recommendation]]]:
        """Recommends or retrieves, depending on the signature."""
        if not queries:
            return []
        inputs = inputs_of(signature_name, queries)
        outputs = yield from self._protocol.predict(Prediction(signature_name, inputs), call)
        _check_outputs(outputs, signature_name, contract.ITEM_IDS, contract.SCORES)
        # Rows are as wide as the largest k of the batch; each query gets what it asked for.
        return [row[: query.k] for row, query in zip(recommendations(outputs), queries, strict=True)]

    def rank(
        self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]], call: Call
    ) -> Steps[list[list[RankedItem]]]:
        """Scores given items."""
        if len(queries) != len(item_ids):
            raise BadRequestError(f"{len(queries)} queries but {len(item_ids)} lists of items")
        if not queries:
            return []
        items = string_matrix(contract.ITEM_IDS, item_ids)
        inputs = inputs_of(contract.RANK, queries, item_ids=items)
        outputs = yield from self._protocol.predict(Prediction(contract.RANK, inputs), call)
        _check_outputs(outputs, contract.RANK, contract.SCORES)
        return ranked(outputs, item_ids)

    def encode(self, texts: Sequence[str], call: Call) -> Steps[npt.NDArray[np.float32]]:
        """Embeds texts."""
        text = string_matrix("texts", [texts])[0]
        outputs = yield from self._protocol.predict(Prediction(contract.ENCODE_TEXT, {"text": text}), call)
        _check_outputs(outputs, contract.ENCODE_TEXT, contract.EMBEDDINGS)
        return outputs[contract.EMBEDDINGS]

    def predict(
        self,
        signature_name: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        output_filter: Sequence[str],
        call: Call,
    ) -> Steps[Arrays]:
        """Calls any signature."""
        for name, array in inputs.items():
            if not isinstance(array, np.ndarray):
                raise BadRequestError(f"input {name} must be a NumPy array, got {type(array).__name__}")
        return self._protocol.predict(Prediction(signature_name, inputs, tuple(output_filter)), call)

    def status(self, call: Call) -> Steps[list[VersionStatus]]:
        """The states of the model's versions, newest first."""
        response = yield from self._protocol.status(call)
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            VersionStatus(
                entry.version,
                states.Name(entry.state),
                error_codes_pb2.Code.Name(entry.status.error_code),
                entry.status.error_message,
            )
            for entry in sorted(response.model_version_status, key=lambda entry: -entry.version)
        ]

    def metadata(self, call: Call) -> Steps[ModelMetadata]:
        """The signatures of the served version."""
        served = yield from self._protocol.served(call)
        return ModelMetadata(
            served.name,
            served.version,
            {
                name: SignatureSpec(_specs(signature.inputs), _specs(signature.outputs))
                for name, signature in sorted(served.signatures.signature_def.items())
                if not name.startswith("__")  # initialisers and other internal ones, not for clients
            },
        )

    def reload(self, config: Any, call: Call) -> Steps[None]:
        """Makes the server load a new configuration."""
        return self._protocol.reload(_model_server_config(config), call)

    def health(self, service: str, call: Call) -> Steps[str]:
        """The health status."""
        return self._protocol.health(service, call)


def _check_outputs(outputs: Arrays, signature_name: str, *names: str) -> None:
    missing = [name for name in names if name not in outputs]
    if missing:
        raise ServerFaultError(
            f'signature "{signature_name}" of the served model has no output {", ".join(missing)}: it is not a model '
            "exported by Babelrec; use `predict` for it"
        )


def _model_server_config(config: Any) -> Any:
    if isinstance(config, model_server_config_pb2.ModelServerConfig):
        return config
    if not isinstance(config, str):
        raise BadRequestError(
            f"the configuration must be a ModelServerConfig or its text form, got {type(config).__name__}"
        )
    from google.protobuf import text_format

    try:
        return text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise BadRequestError(f"the configuration is not a ModelServerConfig in text form: {error}") from None


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            dtype_name(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(d.size for d in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }
