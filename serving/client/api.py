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
    """Asks a model server that speaks TensorFlow Serving's gRPC or REST API for recommendations.

    Thread-safe; keep one per process and server, as it keeps its connections. Usable as a context manager.

    Args:
        Those of ``serving.client.base.Client``; ``channel`` is a ``grpc.Channel``.

    Every call takes ``timeout``, seconds for this call (None takes the client's), and ``metadata``, further headers of
    this call.

    Raises (every call):
        UnreachableError: no server answers.
        DeadlineExceededError: the answer did not come in time.
        ModelNotFoundError: the server has no such model or version.
        BadRequestError: a value of a wrong type, or inputs that the model refuses.
        AccessDeniedError: the server wants credentials.
        OverloadedError, ServerFaultError: the server could not do it.
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
            timeout, metadata: of this call.

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
        return self.recommend_batch([wish], timeout=timeout, metadata=metadata)[0]

    def recommend_batch(
        self, queries: Sequence[Query], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[list[Recommendation]]:
        """Recommends for several queries in one request; the answers come in their order."""
        call = self._call(timeout, metadata)
        return self._run(self._operations.items(RECOMMEND, queries, call), call)

    def retrieve_batch(
        self, queries: Sequence[Query], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[list[Recommendation]]:
        """Like ``recommend_batch`` without the ranking stage: candidates without titles and heads."""
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
            timeout, metadata: of this call.

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
        return self.rank_batch([wish], [item_ids], timeout=timeout, metadata=metadata)[0]

    def rank_batch(
        self,
        queries: Sequence[Query],
        item_ids: Sequence[Sequence[str]],
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> list[list[RankedItem]]:
        """Scores, for each query, its own list of items in one request."""
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

        By REST the server takes the inputs' types from the signature, and the outputs' are taken from it here; complex
        numbers and arrays with an empty dimension before the last have no JSON form, and all outputs travel whatever
        ``output_filter`` says.
        """
        call = self._call(timeout, metadata)
        return self._run(self._operations.predict(signature_name, inputs, output_filter, call), call)

    def status(self, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> list[VersionStatus]:
        """The states of the model's versions, newest first."""
        call = self._call(timeout, metadata)
        return self._run(self._operations.status(call), call)

    def metadata(self, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> ModelMetadata:
        """The signatures of the served version."""
        call = self._call(timeout, metadata)
        return self._run(self._operations.metadata(call), call)

    def reload(self, config: Any, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> None:
        """Has the server take a new configuration (gRPC only); returns once its models are available.

        Args:
            config: a ``ModelServerConfig`` or its text form, of ALL models to serve: others are unloaded.
            timeout, metadata: of this call. Loading takes its time.
        """
        call = self._call(timeout, metadata)
        self._run(self._operations.reload(config, call), call)

    def health(self, service: str = "", *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> str:
        """What gRPC's health service says: ``SERVING``, ``NOT_SERVING``.

        Args:
            service: whom to ask for: '' is the whole server; Babelrec's also knows each model's name. By REST,
                which has no such service, only '': it is SERVING while a version of the model is available.
            timeout, metadata: of this call.
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
