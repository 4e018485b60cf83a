"""The blocking client."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from serving.client.base import Client, has_grpc
from serving.client.calls import Call, CallFailed, Steps
from serving.client.drivers import Driver
from serving.client.grpc_io import GrpcConnection
from serving.client.http_io import HttpConnection
from serving.client.operations import RECOMMEND, RETRIEVE
from serving.client.settings import GivenMetadata, Settings
from serving.client.targets import Target
from serving.client.types import ModelMetadata, Query, RankedItem, Recommendation, VersionStatus

_T = TypeVar("_T")


class RecommenderClient(Client):
    """Requests recommendations from a model server that speaks TensorFlow Serving's gRPC or REST API.

    Thread-safe; keep one per process and server, since it reuses its connections. Usable as a context manager.

    Args:
        Same as ``serving.client.base.Client``; ``channel`` is a ``grpc.Channel``.

    Every call takes ``timeout``, seconds for this call (None uses the client's), and ``metadata``, extra headers for
    this call.

    Raises (every call):
        UnreachableError: no server responded.
        DeadlineExceededError: the answer did not come in time.
        ModelNotFoundError: the server has no such model or version.
        BadRequestError: a value has the wrong type, or the model rejects the inputs.
        AccessDeniedError: the server requires credentials.
        OverloadedError, ServerFaultError: the server is overloaded or failed.
    """

    def __enter__(self) -> Self:
        """Returns itself; leaving the block closes the connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._is_closed = True
        self._driver.close()

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
        metadata: GivenMetadata | None = None,
    ) -> list[Recommendation]:
        """Recommends items for one query: retrieved, filtered, ranked, best first.

        Args:
            user_id, history, query, language, country, timestamp, k, exclude, languages, categories,
                include_seen: see ``Query``.
            timeout, metadata: for this call.

        Returns:
            At most ``k`` items; fewer when not enough are allowed.
        """
        request = Query(
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
        return self.recommend_batch([request], timeout=timeout, metadata=metadata)[0]

    def recommend_batch(
        self, queries: Sequence[Query], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[list[Recommendation]]:
        """Recommends for several queries in one request; results are in the order of the queries."""
        call = self._call(timeout, metadata)
        return self._run(self._operations.items(RECOMMEND, queries, call), call)

    def retrieve_batch(
        self, queries: Sequence[Query], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[list[Recommendation]]:
        """Like ``recommend_batch``, but without the ranking stage: candidates without titles and heads."""
        call = self._call(timeout, metadata)
        return self._run(self._operations.items(RETRIEVE, queries, call), call)

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
        metadata: GivenMetadata | None = None,
    ) -> list[RankedItem]:
        """Scores given items for one query.

        Args:
            item_ids: what to score.
            user_id, history, query, language, country, timestamp: see ``Query``.
            timeout, metadata: for this call.

        Returns:
            One entry per given id, in the given order; unknown items have no score.
        """
        request = Query(
            user_id=user_id,
            history=history,
            query=query,
            language=language,
            country=country,
            timestamp=timestamp,
        )
        return self.rank_batch([request], [item_ids], timeout=timeout, metadata=metadata)[0]

    def rank_batch(
        self,
        queries: Sequence[Query],
        item_ids: Sequence[Sequence[str]],
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> list[list[RankedItem]]:
        """Scores a separate list of items for each query, in one request."""
        call = self._call(timeout, metadata)
        return self._run(self._operations.rank(queries, item_ids, call), call)

    def encode(
        self, texts: Sequence[str], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> npt.NDArray[np.float32]:
        """Embeds texts in any language with the model's sentence encoder.

        Returns:
            float32 of shape (number of texts, width of the encoder).
        """
        call = self._call(timeout, metadata)
        return self._run(self._operations.encode(texts, call), call)

    def predict(
        self,
        signature_name: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        output_filter: Sequence[str] = (),
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Calls any signature with arrays; strings are ``object`` arrays of ``bytes``.

        Over REST, the server takes input types from the signature, and the client takes output types from it; complex
        numbers and arrays with an empty dimension before the last have no JSON form, and all outputs are sent
        regardless of ``output_filter``.
        """
        call = self._call(timeout, metadata)
        return self._run(self._operations.predict(signature_name, inputs, output_filter, call), call)

    def status(self, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> list[VersionStatus]:
        """Returns the states of the model's versions, newest first."""
        call = self._call(timeout, metadata)
        return self._run(self._operations.status(call), call)

    def metadata(self, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> ModelMetadata:
        """Returns the signatures of the served version."""
        call = self._call(timeout, metadata)
        return self._run(self._operations.metadata(call), call)

    def reload(self, config: Any, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> None:
        """Sends the server a new configuration (gRPC only); returns once its models are available.

        Args:
            config: a ``ModelServerConfig`` or its text form, with ALL models to serve: others are unloaded.
            timeout, metadata: for this call. Loading may take a while.
        """
        call = self._call(timeout, metadata)
        self._run(self._operations.reload(config, call), call)

    def health(self, service: str = "", *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> str:
        """Returns the status from gRPC's health service: ``SERVING``, ``NOT_SERVING``.

        Args:
            service: what to check: '' is the whole server; Babelrec's server also knows each model's name. REST has
                no health service and accepts only '': SERVING while a version of the model is available.
            timeout, metadata: for this call.
        """
        call = self._call(timeout, metadata)
        return self._run(self._operations.health(service, call), call)

    def _open(self, settings: Settings, rest: Target | None, channel: Any) -> None:
        self._driver = Driver(
            GrpcConnection(settings, channel) if has_grpc(settings) else None,
            None if rest is None else HttpConnection(rest, settings),
        )

    def _run(self, steps: Steps[_T], call: Call) -> _T:
        try:
            return self._driver.run(steps)
        except CallFailed as failure:
            raise self._error(failure, call) from None
