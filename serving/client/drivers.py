"""Drivers that execute the steps of ``calls``: one blocks, the other awaits."""

import asyncio
import time
from typing import Any, TypeVar

from serving.client.calls import CallFailed, HttpRequest, Pause, Rpc, Step, Steps, next_step
from serving.client.grpc_io import AioGrpcConnection, GrpcConnection
from serving.client.http_io import AioHttpConnection, HttpConnection

_T = TypeVar("_T")


class Driver:
    """Runs generators synchronously. Thread-safe.

    Args:
        grpc_connection: None when there is none.
        http_connection: None when there is none.
    """

    def __init__(self, grpc_connection: GrpcConnection | None, http_connection: HttpConnection | None) -> None:
        self._grpc = grpc_connection
        self._http = http_connection

    def run(self, steps: Steps[_T]) -> _T:
        """Executes the steps one after another.

        Raises:
            CallFailed: a step failed and the generator did not handle it.
        """
        reply, failure = None, None
        while True:
            try:
                step = next_step(steps, reply, failure)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            reply, failure = None, None
            try:
                reply = self._perform(step)
            except CallFailed as error:
                failure = error

    def close(self) -> None:
        """Closes the connections."""
        for connection in (self._grpc, self._http):
            if connection is not None:
                connection.close()

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, HttpRequest):
            assert self._http is not None
            return self._http.perform(step)
        assert isinstance(step, Rpc)
        assert self._grpc is not None
        return self._grpc.perform(step)


class AioDriver:
    """Runs generators in an event loop.

    Args:
        grpc_connection: None when there is none.
        http_connection: None when there is none.
    """

    def __init__(self, grpc_connection: AioGrpcConnection | None, http_connection: AioHttpConnection | None) -> None:
        self._grpc = grpc_connection
        self._http = http_connection

    async def run(self, steps: Steps[_T]) -> _T:
        """Executes the steps one after another.

        Raises:
            CallFailed: a step failed and the generator did not handle it.
        """
        reply, failure = None, None
        while True:
            try:
                step = next_step(steps, reply, failure)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            reply, failure = None, None
            try:
                reply = await self._perform(step)
            except CallFailed as error:
                failure = error

    async def close(self) -> None:
        """Closes the connections."""
        for connection in (self._grpc, self._http):
            if connection is not None:
                await connection.close()

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, HttpRequest):
            assert self._http is not None
            return await self._http.perform(step)
        assert isinstance(step, Rpc)
        assert self._grpc is not None
        return await self._grpc.perform(step)
