"""The client: one gRPC channel, typed calls."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt

from serving.client.encoding import query_inputs, ranked, recommend_inputs, recommendations, string_matrix
from serving.client.errors import BadRequestError, ServerFaultError, from_rpc_error
from serving.client.types import (
    ModelMetadata,
    Query,
    RankedItem,
    Recommendation,
    SignatureSpec,
    TensorSpec,
    VersionStatus,
)
from serving.protos import error_codes_pb2, get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from serving.tensors import TensorParseError, dtype_name, to_numpy, to_proto

_PREDICTION_SERVICE = "/tensorflow.serving.PredictionService/"
_MODEL_SERVICE = "/tensorflow.serving.ModelService/"
_UNLIMITED = -1


class RecommenderClient:
    """Asks a model server that speaks TensorFlow Serving's gRPC API for recommendations.

    Thread-safe; keep one per process and server, as it keeps its connection. Usable as a context manager.

    Args:
        target: the server's address: ``host:port`` or ``unix:/path``.
        model_name: the served model's name.
        timeout: seconds within which each call must be answered; None waits for ever.
        version: a certain version of the model; None asks the newest.
        channel: a gRPC channel to use instead of opening one (for TLS, interceptors); never closed here.

    Raises (every call):
        UnreachableError: no server answers.
        DeadlineExceededError: the answer did not come in time.
        ModelNotFoundError: the server has no such model or version.
        BadRequestError: a value of a wrong type, or inputs that the model refuses.
        OverloadedError, ServerFaultError: the server could not do it.
    """

    def __init__(
        self,
        target: str = "localhost:8500",
        model_name: str = "recommender",
        timeout: float | None = 10.0,
        version: int | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        self._target = target
        self._model_name = model_name
        self._timeout = timeout
        self._version = version
        self._owns_channel = channel is None
        self._channel = channel or grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", _UNLIMITED),
                ("grpc.max_send_message_length", _UNLIMITED),
            ],
        )
        self._predict = self._method(_PREDICTION_SERVICE + "Predict", predict_pb2.PredictResponse)
        self._get_metadata = self._method(
            _PREDICTION_SERVICE + "GetModelMetadata", get_model_metadata_pb2.GetModelMetadataResponse
        )
        self._get_status = self._method(_MODEL_SERVICE + "GetModelStatus", get_model_status_pb2.GetModelStatusResponse)

    def __enter__(self) -> Self:
        """Returns itself; leaving the block closes the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        if self._owns_channel:
            self._channel.close()

    def recommend(
        self,
        *,
        user_id: str = "",
        history: Sequence[str] = (),
        query: str = "",
        language: str = "",
        country: str = "",
        timestamp: int | datetime | None = None,
        k: int = 10,
        exclude: Sequence[str] = (),
        languages: Sequence[str] = (),
        categories: Sequence[str] = (),
        include_seen: bool = False,
        timeout: float | None = None,
    ) -> list[Recommendation]:
        """Recommends items for one query: retrieved, filtered, ranked, best first.

        Args:
            user_id, history, query, language, country, timestamp, k, exclude, languages, categories,
                include_seen: see ``Query``.
            timeout: seconds for this call; None takes the client's.

        Returns:
            At most ``k`` items; fewer when there are not enough allowed ones.
        """
        wish = Query(
            user_id=user_id,
            history=history,
            query=query,
            language=language,
            country=country,
            timestamp=timestamp,
            k=k,
            exclude=exclude,
            languages=languages,
            categories=categories,
            include_seen=include_seen,
        )
        return self.recommend_batch([wish], timeout=timeout)[0]

    def recommend_batch(self, queries: Sequence[Query], *, timeout: float | None = None) -> list[list[Recommendation]]:
        """Recommends for several queries in one request; the answers come in their order."""
        return self._items("serving_default", queries, timeout)

    def retrieve_batch(self, queries: Sequence[Query], *, timeout: float | None = None) -> list[list[Recommendation]]:
        """Like ``recommend_batch`` without the ranking stage: candidates without titles and heads."""
        return self._items("retrieve", queries, timeout)

    def rank(
        self,
        item_ids: Sequence[str],
        *,
        user_id: str = "",
        history: Sequence[str] = (),
        query: str = "",
        language: str = "",
        country: str = "",
        timestamp: int | datetime | None = None,
        timeout: float | None = None,
    ) -> list[RankedItem]:
        """Scores given items for one query.

        Args:
            item_ids: what to score.
            user_id, history, query, language, country, timestamp: see ``Query``.
            timeout: seconds for this call; None takes the client's.

        Returns:
            One entry per given id, in the given order; unknown items have no score.
        """
        wish = Query(
            user_id=user_id,
            history=history,
            query=query,
            language=language,
            country=country,
            timestamp=timestamp,
        )
        return self.rank_batch([wish], [item_ids], timeout=timeout)[0]

    def rank_batch(
        self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]], *, timeout: float | None = None
    ) -> list[list[RankedItem]]:
        """Scores, for each query, its own list of items in one request."""
        if len(queries) != len(item_ids):
            raise BadRequestError(f"{len(queries)} queries but {len(item_ids)} lists of items")
        if not queries:
            return []
        inputs = query_inputs(queries)
        inputs["item_ids"] = string_matrix("item_ids", item_ids)
        return ranked(self.predict("rank", inputs, timeout=timeout), item_ids)

    def encode(self, texts: Sequence[str], *, timeout: float | None = None) -> npt.NDArray[np.float32]:
        """Embeds texts in any language with the model's sentence encoder.

        Returns:
            float32 of shape (number of texts, width of the encoder).
        """
        text = string_matrix("texts", [texts])[0]
        return self.predict("encode_text", {"text": text}, timeout=timeout)["embeddings"]

    def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """The states of the model's versions, newest first."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._set_spec(request.model_spec)
        response = self._call(self._get_status, request, timeout)
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

    def metadata(self, *, timeout: float | None = None) -> ModelMetadata:
        """The signatures of the served version."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._set_spec(request.model_spec)
        response = self._call(self._get_metadata, request, timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return ModelMetadata(
            response.model_spec.name,
            response.model_spec.version.value,
            {
                name: SignatureSpec(_specs(signature.inputs), _specs(signature.outputs))
                for name, signature in sorted(signatures.signature_def.items())
                if not name.startswith("__")  # initialisers and the like, not for clients
            },
        )

    def predict(
        self,
        signature_name: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        output_filter: Sequence[str] = (),
        *,
        timeout: float | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Calls any signature with arrays; strings are ``object`` arrays of ``bytes``."""
        request = predict_pb2.PredictRequest(output_filter=output_filter)
        self._set_spec(request.model_spec)
        request.model_spec.signature_name = signature_name
        try:
            for name, array in inputs.items():
                request.inputs[name].CopyFrom(to_proto(array))
        except TensorParseError as error:
            raise BadRequestError(f"input {name}: {error}") from None
        response = self._call(self._predict, request, timeout)
        try:
            return {name: to_numpy(proto) for name, proto in response.outputs.items()}
        except TensorParseError as error:
            raise ServerFaultError(f"{self._target} sent a tensor that can't be read: {error}") from None

    def _items(
        self, signature_name: str, queries: Sequence[Query], timeout: float | None
    ) -> list[list[Recommendation]]:
        if not queries:
            return []
        # Rows are as wide as the largest k of the batch; each query gets what it asked for.
        rows = recommendations(self.predict(signature_name, recommend_inputs(queries), timeout=timeout))
        return [row[: query.k] for row, query in zip(rows, queries, strict=True)]

    def _method(self, path: str, response: Any) -> Any:
        return self._channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def _set_spec(self, spec: Any) -> None:
        spec.name = self._model_name
        if self._version is not None:
            spec.version.value = self._version

    def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        limit = self._timeout if timeout is None else timeout
        try:
            return method(request, timeout=limit)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target, self._model_name, limit) from None


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            dtype_name(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(d.size for d in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }
