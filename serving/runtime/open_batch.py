"""Runs the open batch of a queue that waits for a time which is far away since the clock was set back.

TensorFlow's scheduler runs a batch that is not full once the wall clock shows the time when the batch was opened plus
its timeout (``Queue::PeekBatchPriorityImpl`` in ``shared_batch_scheduler.h``). If the clock is set back by an hour in
between, the batch and all requests that join it wait for an hour. A request that does not fit into an open batch makes
the scheduler close and run it.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import TypeVar

from serving.private.tensorflow import Output, TensorFlowError, library
from serving.protos import function_pb2, types_pb2
from serving.runtime import graphs, probe
from serving.runtime.batching import BatchingOptions, queue_operation
from serving.runtime.graphs import Operation
from serving.runtime.session import SavedModelSession

_LOGGER = logging.getLogger(__name__)
_INT64 = types_pb2.DT_INT64
_FUNCTION = "babelrec_same"
_UNAVAILABLE = 14
_RETRY_SECONDS = 0.1
_Given = TypeVar("_Given")


class OpenBatches:
    """The batches of a session's queues that still take requests. Thread-safe.

    A request with as many rows as a batch may have closes one. It is cheap: the function to run belongs to the request,
    not to the queue, and this one returns its input. Usually it is a batch of its own. Only in a queue that may not
    have a second batch it fills the open one up, which then fails because its requests differ in their inputs
    (INVALID_ARGUMENT): the others must be run again, each alone.

    Queues with ``enable_large_batch_splitting`` are not supported. They would split this request too, and when a batch
    with the first part of a request fails and one with the next does not, TensorFlow joins outputs of different types,
    which aborts the process.

    Args:
        session: whose graph has the queues.
        options: their options.
    """

    def __init__(self, session: SavedModelSession, options: BatchingOptions) -> None:
        assert not options.enable_large_batch_splitting
        self._session = session
        self._options = options
        self._closing: dict[str, tuple[Output, Output]] = {}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def add(self, queue: str) -> None:
        """Adds what closes a queue's batch to the graph.

        Args:
            queue: its name, as in ``add_batching``.
        """
        graph = self._session.graph
        assert graph is not None
        graphs.import_function(graph, _definition())
        feed = graphs.placeholder(graph, f"{queue}_filler", _INT64)
        operation = (
            queue_operation(graph, queue, f"{queue}_closing", _FUNCTION, self._options)
            .inputs([feed])
            .inputs([])
            .types("Tin", [_INT64])
            .types("Tcaptured", [])
            .types("Tout", [_INT64])
            .finish()
        )
        self._closing[queue] = feed, Output(operation, 0)

    def close(self, queues: Collection[str]) -> None:
        """Makes the scheduler close the batches of some queues, and returns at once.

        Harmless if no request is waiting. The first time TensorFlow prepares a graph for these queues.
        """
        if queues:
            self._start(self._close, queues)

    def wait(self) -> None:
        """Waits for all that ``close`` started; with no requests, at most for the queues' timeout."""
        while True:
            with self._lock:
                threads = list(self._threads)
            if not threads:
                return
            for thread in threads:
                thread.join()

    def _close(self, queues: Collection[str]) -> None:
        feeds, fetches = zip(*(self._closing[queue] for queue in queues), strict=True)
        call = self._session.callable(feeds, fetches, inline=True)

        def run(chosen: int, rows: int) -> bool:
            """Whether a request to one queue was accepted; returns when its batch has run."""
            # A request without rows is answered without its queue: so all queues need only one graph.
            tensors = [probe.tensor(0, rows if index == chosen else 0) for index in range(len(queues))]
            results: list[int] = []
            try:
                results = call(tensors)
            except TensorFlowError as error:
                _LOGGER.debug("closing a batch by %d rows: %s", rows, error.message)
                return error.error_code != _UNAVAILABLE
            finally:
                for tensor in (*tensors, *results):
                    library().TF_DeleteTensor(tensor)
            return True

        # Threads that all need a new graph at once would each prepare it.
        run(0, 0)
        close = self._fill if self._options.max_enqueued_batches == 1 else self._push
        for index in range(len(queues)):
            self._start(close, functools.partial(run, index))

    def _push(self, run: Callable[[int], bool]) -> None:
        """Closes a batch by opening another one, once the queue has room for it."""
        while not run(self._options.max_batch_size):
            time.sleep(_RETRY_SECONDS)

    def _fill(self, run: Callable[[int], bool]) -> None:
        """Fills a batch up, which may be the only one.

        Whether an attempt is accepted or refused, the batch has room for fewer rows afterwards: half as many each time
        fill it. An accepted attempt ends when the batch has run.
        """
        ran = threading.Event()

        def attempt(rows: int) -> None:
            if run(rows):
                ran.set()

        rows = self._options.max_batch_size
        while True:
            self._start(attempt, rows)
            if ran.wait(_RETRY_SECONDS):
                return
            rows = (rows + 1) // 2

    def _start(self, target: Callable[[_Given], None], given: _Given) -> None:
        def run() -> None:
            try:
                target(given)
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name="close-batches", daemon=True)
        with self._lock:
            thread.start()
            self._threads.add(thread)


@functools.cache
def _definition() -> function_pb2.FunctionDef:
    """A function that returns its rows."""
    c = library()
    graph = c.TF_NewGraph()
    try:
        rows = graphs.placeholder(graph, "rows", _INT64)
        same = Operation(graph, "Identity", "same").input(rows).type("T", _INT64).finish()
        graphs.add_function(graph, graph, _FUNCTION, [same], [rows], [Output(same, 0)])
        return graphs.function_definition(graph, _FUNCTION)
    finally:
        c.TF_DeleteGraph(graph)
