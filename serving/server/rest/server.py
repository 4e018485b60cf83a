"""The HTTP server under the REST API: one thread waits for all clients, so slow or silent ones don't occupy threads."""

import asyncio
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.server.operations.request_limit import RequestLimit
from serving.server.rest.app import RestApp
from serving.server.rest.body import Budget
from serving.server.rest.connection import Connection, Service
from serving.server.rest.messages import Request, Response

_LOGGER = logging.getLogger(__name__)
_BACKLOG = 1024
_BUFFER = 64 * 1024
# Threads in addition to those for inference: for quick requests, and for requests that wait for one of these.
_OTHER_THREADS = 32
# Connections made before the port closes are still answered if their request comes within this time.
_LAST_CALL_SECONDS = 0.2
# More loop iterations than asyncio needs between accepting a connection and running the task that serves it.
_STEPS_TO_SERVE = 10


class RestServer:
    """A running REST API.

    Args:
        address: host and port to listen on; port 0 takes a free one.
        app: answers requests, in threads.
        threads: inference requests processed concurrently.
        budget: memory for bodies.
        limit: the requests for models that are accepted; others are refused with 429. None: no limit.
        max_connections: more are closed immediately.
        reuse_port: share the port with other processes.

    Attributes:
        port: the TCP port it listens on.

    Raises:
        OSError: the address is not available.
    """

    def __init__(
        self,
        address: tuple[str, int],
        app: RestApp,
        threads: int,
        *,
        budget: Budget,
        limit: RequestLimit | None,
        max_connections: int,
        reuse_port: bool = False,
    ) -> None:
        is_v6 = ":" in address[0]
        self._listener = socket.create_server(
            address,
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            backlog=_BACKLOG,
            reuse_port=reuse_port,
            dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6(),
        )
        self.port = int(self._listener.getsockname()[1])
        self._app = app
        self._limit = limit
        self._executor = ThreadPoolExecutor(threads + _OTHER_THREADS, thread_name_prefix="rest")
        self._service = Service(self._answer, budget, lambda: self._is_stopping)
        self._max_connections = max_connections
        self._connections: set[Connection] = set()
        self._is_stopping = False
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log)
        self._thread = threading.Thread(target=self._run, name="rest-loop", daemon=True)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Stops accepting requests, and returns once running ones are answered, or after about ``grace`` seconds."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._drain(max(grace, 0.01)), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        # A request that does not end keeps its thread; nothing waits for it.
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        start = asyncio.start_server(self._connected, sock=self._listener, limit=_BUFFER, backlog=_BACKLOG)
        self._server = self._loop.run_until_complete(start)
        self._loop.run_forever()
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._max_connections:
            writer.transport.abort()
            return
        connection = Connection(self._service, reader, writer)
        self._connections.add(connection)
        try:
            await connection.serve()
        except (OSError, asyncio.CancelledError):  # TimeoutError is an OSError
            _LOGGER.debug("a connection has ended", exc_info=True)
        except Exception:
            _LOGGER.exception("a connection has failed")
        finally:
            self._connections.discard(connection)
            writer.close()

    async def _answer(self, request: Request) -> Response:
        limit = self._limit if self._limit is not None and self._app.is_for_a_model(request) else None
        # Here, not in a thread: when all are busy, a refusal would come too late to be useful.
        refusal = limit.enter() if limit is not None else None
        if refusal is not None:
            return self._app.refuse(refusal)
        answer = self._executor.submit(self._app.answer, request)
        if limit is not None:
            answer.add_done_callback(lambda _: limit.leave())
        return await asyncio.wrap_future(answer)

    async def _drain(self, grace: float) -> None:
        end = self._loop.time() + grace
        # Pending connections are accepted before the port closes.
        await asyncio.sleep(0)
        self._server.close()
        self._is_stopping = True
        await asyncio.sleep(min(_LAST_CALL_SECONDS, grace))
        for _ in range(_STEPS_TO_SERVE):
            await asyncio.sleep(0)
        while self._connections and self._loop.time() < end:
            for connection in self._connections:
                if connection.is_idle:
                    connection.task.cancel()
            await self._wait(end - self._loop.time(), asyncio.FIRST_COMPLETED)
        for connection in self._connections:
            connection.task.cancel()
        await self._wait(None, asyncio.ALL_COMPLETED)

    async def _wait(self, seconds: float | None, until: str) -> None:
        if self._connections:
            tasks = [connection.task for connection in self._connections]
            await asyncio.wait(tasks, timeout=seconds, return_when=until)


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # For example when file descriptors run out: asyncio tries to accept again after a second.
    _LOGGER.warning("REST: %s: %s", context.get("message"), context.get("exception"))
