"""The clients: one blocking, one for asyncio.

Each method is written once, in ``Client``, as a coroutine: ``AsyncRecommenderClient`` uses it unchanged,
and ``RecommenderClient`` wraps it in a method that blocks and returns the result.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

import grpc
import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client.connections import (
    AsyncConnections,
    BlockingConnections,
    Call,
    CallFailed,
    Connections,
    Deadline,
    finish,
)
from serving.client.errors import BadRequestError, ServerFaultError, ServingError, from_status
from serving.client.protocol import FallbackProtocol, GrpcProtocol, Predicted, Prediction, ServingProtocol
from serving.client.rest import RestProtocol
from serving.client.settings import (
    DEFAULT_RETRY,
    GivenMetadata,
    Keepalive,
    RetryPolicy,
    Settings,
    TlsOptions,
    check_timeout,
    checked_metadata,
)
from serving.client.types import (
    Arrays,
    ModelMetadata,
    Query,
    RankedItem,
    Recommendation,
    VersionStatus,
    inputs_of,
    ranked,
    recommendations,
    string_matrix,
)
from serving.protos import model_server_config_pb2

_P = ParamSpec("_P")
_T = TypeVar("_T")


class operation(Generic[_P, _T]):  # noqa: N801  (a decorator)
    """A coroutine method of ``Client`` that blocks in ``RecommenderClient``.

    Args:
        method: it awaits nothing but the client's connections.
    """

    def __init__(self, method: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]) -> None:
        @wraps(method)
        def blocking(client: "RecommenderClient", /, *arguments: _P.args, **options: _P.kwargs) -> _T:
            return finish(method(client, *arguments, **options))

        self.__doc__ = method.__doc__
        self._coroutine = method
        self._blocking = blocking

    @overload
    def __get__(self, client: None, owner: "type[RecommenderClient]") -> Callable[Concatenate[Any, _P], _T]: ...
    @overload
    def __get__(self, client: "RecommenderClient", owner: type) -> Callable[_P, _T]: ...
    @overload
    def __get__(
        self, client: None, owner: "type[AsyncRecommenderClient]"
    ) -> Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]: ...
    @overload
    def __get__(self, client: "AsyncRecommenderClient", owner: type) -> Callable[_P, Coroutine[Any, Any, _T]]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        method: Any = self._blocking if issubclass(owner, RecommenderClient) else self._coroutine
        return method.__get__(client, owner)


class Client:
    """Base client for a model server that speaks TensorFlow Serving's gRPC or REST API.

    Every call takes ``timeout``, seconds for this call (None uses the client's), and ``metadata``, extra headers for
    this call.

    Args:
        target: the server's address. gRPC: ``host:port``, ``grpcs://host:port`` (TLS), ``unix:/path``,
            ``dns:///host:port`` (round-robin over all addresses of a name); REST: ``http://host:port``, ``https://host:port``.
        model_name: the served model's name.
        timeout: seconds within which each call must be answered, including retries and fallback; None waits forever.
        version: a specific version of the model; None uses the newest.
        channel: a gRPC channel to use instead of opening one (for interceptors); never closed here. It keeps its own
            options: the gRPC options below have no effect.
        version_label: use the version with this label in the server's configuration, such as ``stable``.
        metadata: headers for every call: keys and values of printable ASCII, or bytes under keys that end in ``-bin``.
        tls: certificates; if given, the connection uses TLS. ``grpcs://`` and ``https://`` alone trust the public
            certificate authorities.
        retry: when to retry failed calls; None for never.
        fallback: REST address to use when the gRPC one can't be reached (no server, or a proxy without HTTP/2).
        fallback_seconds: how long the fallback is tried first after it was needed.
        wait_for_ready: gRPC waits for a server until the deadline instead of failing when there is none.
        keepalive: gRPC keepalive pings; None sends none.
        load_balancing: gRPC's policy, ``pick_first`` or ``round_robin``; None uses ``round_robin`` for targets that
            may resolve to several addresses (``dns:``, ``ipv4:``, ``ipv6:``), else gRPC's default.
        compression: ``gzip`` to compress requests (and, over REST, to ask for compressed responses).
        channel_options: extra gRPC channel options; they override those derived from the above.

    Raises:
        BadRequestError: a value is wrong, or a certificate file can't be used.

    Raises (every call):
        UnreachableError: no server responded.
        DeadlineExceededError: no response arrived in time.
        ModelNotFoundError: the server has no such model, version or label.
        BadRequestError: a value has the wrong type, or the model rejects the inputs.
        AccessDeniedError: the server requires credentials.
        OverloadedError, ServerFaultError: the server is overloaded or failed.
    """

    _connections_type: ClassVar[type[Connections]]

    def __init__(
        self,
        target: str = "localhost:8500",
        model_name: str = "recommender",
        timeout: float | None = 10.0,
        version: int | None = None,
        channel: grpc.Channel | grpc.aio.Channel | None = None,
        *,
        version_label: str | None = None,
        metadata: GivenMetadata | None = None,
        tls: TlsOptions | None = None,
        retry: RetryPolicy | None = DEFAULT_RETRY,
        fallback: str | None = None,
        fallback_seconds: float = 60.0,
        wait_for_ready: bool = False,
        keepalive: Keepalive | None = None,
        load_balancing: str | None = None,
        compression: str | None = None,
        channel_options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._settings = Settings(
            target=target,
            model_name=model_name,
            timeout=timeout,
            version=version,
            channel=channel,
            version_label=version_label,
            metadata=metadata,
            tls=tls,
            retry=retry,
            fallback=fallback,
            fallback_seconds=fallback_seconds,
            wait_for_ready=wait_for_ready,
            keepalive=keepalive,
            load_balancing=load_balancing,
            compression=compression,
            channel_options=channel_options,
        )
        self._is_closed = False
        self._connections = self._connections_type(self._settings)
        self._protocol = _protocol(self._settings, self._connections)

    @operation
    async def close(self) -> None:
        """Closes the connections."""
        self._is_closed = True
        await self._connections.close()

    @operation
    async def recommend(
        self, query: Query, *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[Recommendation]:
        """Recommends items for one query: retrieved, filtered, ranked, best first.

        Returns:
            At most ``query.k`` items; fewer when not enough are allowed.
        """
        with self._call(timeout, metadata) as call:
            return (await self._items(contract.DEFAULT, [query], call))[0]

    @operation
    async def recommend_batch(
        self, queries: Sequence[Query], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[list[Recommendation]]:
        """Recommends for several queries in one request; results are in the order of the queries."""
        with self._call(timeout, metadata) as call:
            return await self._items(contract.DEFAULT, queries, call)

    @operation
    async def retrieve_batch(
        self, queries: Sequence[Query], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[list[Recommendation]]:
        """Like ``recommend_batch``, but without the ranking stage: candidates without titles and heads."""
        with self._call(timeout, metadata) as call:
            return await self._items(contract.RETRIEVE, queries, call)

    @operation
    async def rank(
        self,
        query: Query,
        item_ids: Sequence[str],
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> list[RankedItem]:
        """Scores given items for one query, of which only the user, the context and the time are used.

        Returns:
            One entry per given id, in the given order; unknown items have no score.
        """
        with self._call(timeout, metadata) as call:
            return (await self._rank([query], [item_ids], call))[0]

    @operation
    async def rank_batch(
        self,
        queries: Sequence[Query],
        item_ids: Sequence[Sequence[str]],
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> list[list[RankedItem]]:
        """Scores a separate list of items for each query, in one request."""
        with self._call(timeout, metadata) as call:
            return await self._rank(queries, item_ids, call)

    @operation
    async def encode(
        self, texts: Sequence[str], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> npt.NDArray[np.float32]:
        """Embeds texts in any language with the model's sentence encoder.

        Returns:
            float32 of shape (number of texts, width of the encoder).
        """
        with self._call(timeout, metadata) as call:
            inputs = {"text": string_matrix("texts", [texts])[0]}
            outputs = (await self._protocol.predict(Prediction(contract.ENCODE_TEXT, inputs), call)).outputs
            _check_outputs(outputs, contract.ENCODE_TEXT, contract.EMBEDDINGS)
            return outputs[contract.EMBEDDINGS]

    @operation
    async def predict(
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
        with self._call(timeout, metadata) as call:
            return (await self._predict(signature_name, inputs, output_filter, call)).outputs

    @operation
    async def predict_with_version(
        self,
        signature_name: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        output_filter: Sequence[str] = (),
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> tuple[int, dict[str, npt.NDArray[Any]]]:
        """Like ``predict``, with the version of the model that answered; 0 over REST, which doesn't say."""
        with self._call(timeout, metadata) as call:
            predicted = await self._predict(signature_name, inputs, output_filter, call)
            return predicted.version, predicted.outputs

    @operation
    async def status(
        self, *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[VersionStatus]:
        """Returns the states of the model's versions, newest first."""
        with self._call(timeout, metadata) as call:
            return await self._protocol.status(call)

    @operation
    async def metadata(self, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> ModelMetadata:
        """Returns the signatures of the served version."""
        with self._call(timeout, metadata) as call:
            return await self._protocol.metadata(call)

    @operation
    async def reload(
        self,
        config: model_server_config_pb2.ModelServerConfig | str,
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> None:
        """Sends the server a new configuration (gRPC only); returns once its models are available.

        Args:
            config: a ``ModelServerConfig`` or its text form, with ALL models to serve: others are unloaded.
            timeout, metadata: for this call. Loading may take a while.
        """
        with self._call(timeout, metadata) as call:
            await self._protocol.reload(config, call)

    @operation
    async def health(
        self, service: str = "", *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> str:
        """Returns the status from gRPC's health service: ``SERVING``, ``NOT_SERVING``.

        Args:
            service: what to check: '' is the whole server; Babelrec's server also knows each model's name. REST has
                no health service and accepts only '': SERVING while a version of the model is available.
            timeout, metadata: for this call.
        """
        with self._call(timeout, metadata) as call:
            return await self._protocol.health(service, call)

    @contextmanager
    def _call(self, timeout: float | None, metadata: GivenMetadata | None) -> Iterator[Call]:
        """Deadline and headers of a call that starts now; translates its failure."""
        if self._is_closed:
            raise ServingError("this client is closed: create a new one")
        check_timeout(timeout)
        deadline = Deadline(self._settings.timeout if timeout is None else timeout)
        try:
            yield Call(deadline, checked_metadata(metadata))
        except CallFailed as failure:
            raise from_status(
                failure.code, failure.details, failure.target, self._settings.model_name, deadline.seconds
            ) from None

    async def _predict(
        self, signature_name: str, inputs: Mapping[str, npt.NDArray[Any]], output_filter: Sequence[str], call: Call
    ) -> Predicted:
        for name, array in inputs.items():
            if not isinstance(array, np.ndarray):
                raise BadRequestError(f"input {name} must be a NumPy array, got {type(array).__name__}")
        return await self._protocol.predict(Prediction(signature_name, inputs, tuple(output_filter)), call)

    async def _items(self, signature_name: str, queries: Sequence[Query], call: Call) -> list[list[Recommendation]]:
        if not queries:
            return []
        prediction = Prediction(signature_name, inputs_of(signature_name, queries))
        outputs = (await self._protocol.predict(prediction, call)).outputs
        _check_outputs(outputs, signature_name, contract.ITEM_IDS, contract.SCORES)
        # Rows are as wide as the largest k of the batch; each query gets what it asked for.
        return [row[: query.k] for row, query in zip(recommendations(outputs), queries, strict=True)]

    async def _rank(
        self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]], call: Call
    ) -> list[list[RankedItem]]:
        if len(queries) != len(item_ids):
            raise BadRequestError(f"{len(queries)} queries but {len(item_ids)} lists of items")
        if not queries:
            return []
        items = string_matrix(contract.ITEM_IDS, item_ids)
        prediction = Prediction(contract.RANK, inputs_of(contract.RANK, queries, item_ids=items))
        outputs = (await self._protocol.predict(prediction, call)).outputs
        _check_outputs(outputs, contract.RANK, contract.SCORES)
        return ranked(outputs, item_ids)


class RecommenderClient(Client):
    """Requests recommendations from a model server; thread-safe.

    Keep one per process and server, since it reuses its connections. Usable as a context manager. Arguments and errors
    are those of ``Client``; ``channel`` is a ``grpc.Channel``.
    """

    _connections_type = BlockingConnections

    def __enter__(self) -> Self:
        """Returns itself; leaving the block closes the connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        self.close()


class AsyncRecommenderClient(Client):
    """``RecommenderClient`` with coroutines for methods.

    Any number of calls may run at once. It belongs to the event loop of its first call; keep one per loop and server.
    Usable as an asynchronous context manager; ``channel`` is a ``grpc.aio.Channel``.
    """

    _connections_type = AsyncConnections

    async def __aenter__(self) -> Self:
        """Returns itself; leaving the block closes the connections."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        await self.close()


def _protocol(settings: Settings, connections: Connections) -> ServingProtocol:
    if settings.rest is None:
        return GrpcProtocol(settings, connections)
    rest = RestProtocol(settings, connections)
    if settings.grpc is None:
        return rest
    return FallbackProtocol(GrpcProtocol(settings, connections), rest, settings.fallback_seconds)


def _check_outputs(outputs: Arrays, signature_name: str, *names: str) -> None:
    missing = [name for name in names if name not in outputs]
    if missing:
        raise ServerFaultError(
            f'signature "{signature_name}" of the served model has no output {", ".join(missing)}: it is not a model '
            "exported by Babelrec; use `predict` for it"
        )
