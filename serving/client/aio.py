"""The asyncio client."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from serving.client.base import Client, has_grpc
from serving.client.calls import Call, CallFailed, Steps
from serving.client.drivers import AioDriver
from serving.client.grpc_io import AioGrpcConnection
from serving.client.http_io import AioHttpConnection
from serving.client.operations import RECOMMEND, RETRIEVE
from serving.client.settings import GivenMetadata, Settings
from serving.client.targets import Target
from serving.client.types import ModelMetadata, Query, RankedItem, Recommendation, VersionStatus

_T = TypeVar("_T")


class AsyncRecommenderClient(Client):
    """Coroutine version of ``RecommenderClient``, with the same arguments, results and errors.

    Any number of calls may run at once. It belongs to the event loop of its first call; keep one per loop and server.
    Usable as an asynchronous context manager.

    Args:
        Same as ``serving.client.base.Client``; ``channel`` is a ``grpc.aio.Channel``.
    """

    async def __aenter__(self) -> Self:
        """Returns itself; leaving the block closes the connections."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        self._is_closed = True
        await self._driver.close()

    async def recommend(
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
        """See ``RecommenderClient.recommend``."""
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
        return (await self.recommend_batch([request], timeout=timeout, metadata=metadata))[0]

    async def recommend_batch(
        self, queries: Sequence[Query], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[list[Recommendation]]:
        """See ``RecommenderClient.recommend_batch``."""
        call = self._call(timeout, metadata)
        return await self._run(self._operations.items(RECOMMEND, queries, call), call)

    async def retrieve_batch(
        self, queries: Sequence[Query], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[list[Recommendation]]:
        """See ``RecommenderClient.retrieve_batch``."""
        call = self._call(timeout, metadata)
        return await self._run(self._operations.items(RETRIEVE, queries, call), call)

    async def rank(
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
        """See ``RecommenderClient.rank``."""
        request = Query(
            user_id=user_id,
            history=history,
            query=query,
            language=language,
            country=country,
            timestamp=timestamp,
        )
        return (await self.rank_batch([request], [item_ids], timeout=timeout, metadata=metadata))[0]

    async def rank_batch(
        self,
        queries: Sequence[Query],
        item_ids: Sequence[Sequence[str]],
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> list[list[RankedItem]]:
        """See ``RecommenderClient.rank_batch``."""
        call = self._call(timeout, metadata)
        return await self._run(self._operations.rank(queries, item_ids, call), call)

    async def encode(
        self, texts: Sequence[str], *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> npt.NDArray[np.float32]:
        """See ``RecommenderClient.encode``."""
        call = self._call(timeout, metadata)
        return await self._run(self._operations.encode(texts, call), call)

    async def predict(
        self,
        signature_name: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        output_filter: Sequence[str] = (),
        *,
        timeout: float | None = None,
        metadata: GivenMetadata | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """See ``RecommenderClient.predict``."""
        call = self._call(timeout, metadata)
        return await self._run(self._operations.predict(signature_name, inputs, output_filter, call), call)

    async def status(
        self, *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> list[VersionStatus]:
        """See ``RecommenderClient.status``."""
        call = self._call(timeout, metadata)
        return await self._run(self._operations.status(call), call)

    async def metadata(self, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> ModelMetadata:
        """See ``RecommenderClient.metadata``."""
        call = self._call(timeout, metadata)
        return await self._run(self._operations.metadata(call), call)

    async def reload(self, config: Any, *, timeout: float | None = None, metadata: GivenMetadata | None = None) -> None:
        """See ``RecommenderClient.reload``."""
        call = self._call(timeout, metadata)
        await self._run(self._operations.reload(config, call), call)

    async def health(
        self, service: str = "", *, timeout: float | None = None, metadata: GivenMetadata | None = None
    ) -> str:
        """See ``RecommenderClient.health``."""
        call = self._call(timeout, metadata)
        return await self._run(self._operations.health(service, call), call)

    def _open(self, settings: Settings, rest: Target | None, channel: Any) -> None:
        self._driver = AioDriver(
            AioGrpcConnection(settings, channel) if has_grpc(settings) else None,
            None if rest is None else AioHttpConnection(rest, settings),
        )

    async def _run(self, steps: Steps[_T], call: Call) -> _T:
        try:
            return await self._driver.run(steps)
        except CallFailed as failure:
            raise self._error(failure, call) from None
