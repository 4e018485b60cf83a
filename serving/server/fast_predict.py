"""Predict without a thread for each request, for servers that batch.

gRPC's Python server gives every request a thread of its own. With batching most of these threads only wait for the
batch that their request is in, and waking them one by one, each to fight for Python's global lock, costs more than
the rest of the request. Here a few threads listen to gRPC in turn; one that hears of requests takes whatever waits,
runs it as one batch, and sends the answers itself.

Every other method and service stays with ``grpc.server``; this attaches to the same server, ports and TLS included.
What it needs of grpcio is not public (``grpc._cython.cygrpc``, on which ``grpc.server`` itself stands), so whether it
is there is checked, and ``attach`` says no when it isn't.
"""

import contextlib
import importlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from serving.protos import predict_pb2
from serving.runtime.joining import rows_of
from serving.server.errors import StatusError, from_exception, too_late, too_many

try:
    cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")
except ImportError:  # another implementation of gRPC
    cygrpc = None

_LOGGER = logging.getLogger(__name__)
_METHOD = "/tensorflow.serving.PredictionService/Predict"
_FULL = "The batch scheduling queue to which this task was submitted is full"
_NEEDED = ("Server", "CompletionQueue", "ReceiveMessageOperation", "SendStatusFromServerOperation", "CompletionType")
_REQUESTED, _DONE = "requested", "done"
_NO_FLAGS = 0
# gRPC tells of a call without deadline that it ends in some hundred billion years.
NO_DEADLINE = 1e9
# Calls that gRPC may hand over before the thread that takes them comes round.
_ARMED = 4
# How long a group may wait for more, as a share of what the group before took.
_LINGER = 0.1
_LONGEST_LINGER = 0.005  # seconds


class Answer(Protocol):
    """Answers a group of requests."""

    def __call__(
        self, requests: Sequence[Any], timeout: float | None = None, *, queued: Sequence[float]
    ) -> Sequence[bytes | StatusError]:
        """Responses or errors.

        Args:
            requests: ``PredictRequest``s.
            timeout: seconds that the most patient client still waits.
            queued: since when each has waited, seconds since 1970.
        """
        ...


def is_available() -> bool:
    """Whether this grpcio has what ``FastPredict`` needs."""
    needed = ("register_completion_queue", "register_method", "request_registered_call")
    return all(hasattr(cygrpc, name) for name in _NEEDED) and all(hasattr(cygrpc.Server, name) for name in needed)


class _Call:
    """One request on its way."""

    __slots__ = ("call", "deadline", "model", "queued", "request", "rows")

    def __init__(self, call: Any, deadline: float) -> None:
        self.call = call
        self.deadline = deadline
        self.request: Any = None
        self.queued = 0.0
        self.model = ""
        self.rows = 1


class FastPredict:
    """Takes Predict requests of a server and answers them in groups.

    All threads are alike: one listens to gRPC until it hears of something to compute, leaves listening to the next,
    and computes it. Thus the request of a lone client is answered by the very thread that gRPC woke for it. There is
    one thread more than groups may be worked on at once, so that always somebody listens, and refuses.

    Args:
        answer: gives the responses.
        refused: told of each request that found no place to wait: its model's name and the error.
        groups: groups that are worked on at once.
        group: rows that a group may have.
        max_concurrent: requests in the server at once; more are refused with RESOURCE_EXHAUSTED. None: no limit.
        max_waiting: rows that wait for a thread; more are refused with UNAVAILABLE, as by a full batch queue.
    """

    def __init__(
        self,
        answer: Answer,
        refused: Callable[[str, StatusError], None],
        *,
        groups: int,
        group: int,
        max_concurrent: int | None,
        max_waiting: int,
    ) -> None:
        self._answer = answer
        self._refused = refused
        self._groups = groups
        self._group = group
        self._max_concurrent = max_concurrent
        self._max_waiting = max_waiting
        # Guards what follows; idle threads wait for it until they are needed.
        self._state = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._waiting_rows = 0
        self._in_flight = 0
        self._running = 0
        self._is_listening = False
        self._is_closing = False
        # The last group that was answered: seconds, requests. Whichever thread wrote last is as good as the other.
        self._last = 0.0, 0
        self._server: Any = None
        self._queue: Any = None
        self._threads = [
            threading.Thread(target=self._work, name=f"predict-{n}", daemon=True) for n in range(groups + 1)
        ]

    def attach(self, server: grpc.Server) -> bool:
        """Takes over Predict of a server that has not started.

        Returns:
            False when this grpcio doesn't allow it; nothing has changed then.
        """
        core: Any = getattr(getattr(server, "_state", None), "server", None)
        if not is_available() or not isinstance(core, cygrpc.Server):
            return False
        self._server = core
        self._queue = cygrpc.CompletionQueue()
        core.register_completion_queue(self._queue)
        core.register_method(_METHOD)
        return True

    def start(self) -> None:
        """Begins to answer; the server has started."""
        with self._state:
            for _ in range(_ARMED):
                self._request()
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float) -> bool:
        """Ends the threads; the server has stopped, so nobody waits for an answer.

        Args:
            patience: seconds that a run may go on. It can't be interrupted.

        Returns:
            False when one goes on after that; the threads are then left alone.
        """
        with self._state:
            # From now on nothing is asked of gRPC, whose queue takes no operation once it is shut.
            self._is_closing = True
            self._waiting.clear()
            if not self._state.wait_for(lambda: self._running == 0, patience):
                return False
        self._queue.shutdown()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        return True

    def _work(self) -> None:
        while self._next():
            calls: list[_Call] = []
            start = time.perf_counter()
            try:
                calls = self._gather()
                self._answer_all(calls)
            except Exception as error:
                _LOGGER.exception("a group of requests ended unexpectedly")
                for call in calls:
                    self._send(call, from_exception(error))
            if calls:
                self._last = time.perf_counter() - start, len(calls)
            del calls
            with self._state:
                self._running -= 1
                if self._is_closing:
                    self._state.notify_all()

    def _next(self) -> bool:
        """Waits for a group to work on, listening to gRPC if nobody else does; False once there will be no more."""
        with self._state:
            while not self._begins():
                if not self._is_listening:
                    self._is_listening = True
                    break
                self._state.wait()
            else:
                return True
        try:
            # One at a time: gRPC would wake now this thread, now that one for each of a request's three events.
            while self._hear(self._queue.poll()):
                with self._state:
                    if self._begins():
                        return True
            return False
        finally:
            with self._state:
                self._is_listening = False
                self._state.notify()

    def _begins(self) -> bool:
        """Whether something waits that this thread may work on. Holds the lock."""
        if not self._waiting or self._running >= self._groups:
            return False
        self._running += 1
        return True

    def _hear(self, event: Any) -> bool:
        """Does what an event of gRPC asks for, short of computing; False once there will be no more."""
        if event.completion_type == cygrpc.CompletionType.queue_shutdown:
            return False
        tag = event.tag
        try:
            if tag is _DONE:
                with self._state:
                    self._in_flight -= 1
            elif tag is _REQUESTED:
                if event.success:
                    self._admit(_Call(event.call, event.call_details.deadline))
            elif tag is not None:  # None: nothing came in time
                self._take(tag, event.batch_operations[0].message() if event.success else None)
        except Exception:
            # Without this thread nobody might listen.
            _LOGGER.exception("an event of gRPC was lost")
        return True

    def _request(self) -> None:
        """Asks gRPC for one more call. Holds the lock."""
        if not self._is_closing:
            # gRPC says so when its server has begun to stop.
            with contextlib.suppress(ValueError):
                self._server.request_registered_call(self._queue, self._queue, _METHOD, _REQUESTED)

    def _admit(self, call: _Call) -> None:
        with self._state:
            self._request()
            self._in_flight += 1
            most = self._max_concurrent
            if most is None or self._in_flight <= most:
                if not self._is_closing:
                    # An operation holds what it received, so each call has its own.
                    call.call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), call)
                return
        self._send(call, too_many(most))

    def _take(self, call: _Call, message: bytes | None) -> None:
        if message is None:
            self._send(call, StatusError(grpc.StatusCode.CANCELLED, "the client has given up"))
            return
        try:
            call.request = predict_pb2.PredictRequest.FromString(message)
        except DecodeError:
            self._send(call, StatusError(grpc.StatusCode.INTERNAL, "Exception deserializing request!"))
            return
        call.queued = time.time()
        call.model = call.request.model_spec.name
        # Of any input: a request whose inputs differ runs alone. A shape is what the client says; whatever it is, a
        # request takes at least one place and at most all of a run.
        stated = next((rows_of(proto) for proto in call.request.inputs.values()), None)
        call.rows = min(max(stated or 1, 1), self._group)
        with self._state:
            waiting = self._waiting_rows
            is_full = waiting > 0 and waiting + call.rows > self._max_waiting
            if not is_full:
                self._waiting_rows += call.rows
                self._waiting.append(call)
        if is_full:
            why = f"{_FULL}; currently {waiting} rows wait and {self._max_waiting} may"
            error = StatusError(grpc.StatusCode.UNAVAILABLE, why)
            self._refused(call.model, error)
            self._send(call, error)

    def _gather(self) -> list[_Call]:
        """What waits for one model, and what comes in the next moment, up to a group."""
        # Even shares: of one large and one small group at a time the small ones would pay for few what a run costs.
        most = max(-(-self._in_flight // self._groups), 1)
        took, size = self._last
        if size > 1:
            # The clients of the group before are about to come back. Waiting a little for them, a fraction of what a
            # run takes, makes runs larger and thus cheaper; a lone client never waits.
            until = time.time() + min(took * _LINGER, _LONGEST_LINGER)
            while len(self._waiting) < min(most, self._group):
                event = self._queue.poll(until)
                if not self._hear(event) or event.completion_type == cygrpc.CompletionType.queue_timeout:
                    break
        calls: list[_Call] = []
        others: deque[_Call] = deque()
        rows = 0
        with self._state:
            for call in self._waiting:
                fits = not calls or (call.model == calls[0].model and rows + call.rows <= self._group)
                if fits and len(calls) < most:
                    calls.append(call)
                    rows += call.rows
                else:
                    others.append(call)
            self._waiting = others
            self._waiting_rows -= rows
            if others and self._running < self._groups:
                self._state.notify()
        return calls

    def _answer_all(self, calls: Sequence[_Call]) -> None:
        now = time.time()
        taken, requests, queued = [], [], []
        longest = 0.0
        for call in calls:
            left = call.deadline - now
            if left <= 0:
                self._send(call, too_late())
                continue
            requests.append(call.request)
            queued.append(call.queued)
            taken.append(call)
            longest = max(longest, left)
            call.request = None
        if not taken:
            return
        answers = self._answer(requests, longest if longest < NO_DEADLINE else None, queued=queued)
        for call, answer in zip(taken, answers, strict=True):
            self._send(call, answer)

    def _send(self, call: _Call, answer: bytes | StatusError) -> None:
        operations: list[Any] = [
            cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
            cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),
        ]
        if isinstance(answer, StatusError):
            code, details = getattr(cygrpc.StatusCode, answer.code.name.lower()), answer.grpc_details.encode()
        else:
            operations.append(cygrpc.SendMessageOperation(answer, _NO_FLAGS))
            code, details = cygrpc.StatusCode.ok, b""
        operations.append(cygrpc.SendStatusFromServerOperation((), code, details, _NO_FLAGS))
        with self._state:
            if not self._is_closing:
                call.call.start_server_batch(operations, _DONE)
