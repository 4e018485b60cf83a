"""The standard health service (``grpc.health.v1``), used by load balancers and Kubernetes probes.

TensorFlow Serving (``--enable_grpc_healthcheck_service``) turns on gRPC's default service, which knows one name: the
empty one, for the whole server. This service knows it too; in addition, each model has an entry under its own name, and
so do the two services.

Only the messages of ``grpc_health`` are used, not its service (version 1.85.1): it sends to watchers while holding its
lock, and waits until gRPC's own thread has sent; when that thread waits for the lock, to remove a watcher that is gone,
the whole server deadlocks.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import OVERALL_HEALTH, SERVICE_NAME

from serving.private import grpcio
from serving.server.lifecycle.states import ManagerState, ServableState, ServableStateMonitor

_LOGGER = logging.getLogger(__name__)
_PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
_MODEL_SERVICE = "tensorflow.serving.ModelService"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
# Checks take microseconds, and watches release their thread.
_THREADS = 2
# Sends a response to a watcher and waits until it is sent; None ends the stream.
_Send = Callable[[health_pb2.HealthCheckResponse | None], None]


class Health:
    """The health of the server, its services and its models.

    Entries: ``""`` and ``tensorflow.serving.ModelService`` (SERVING until ``shutdown``),
    ``tensorflow.serving.PredictionService`` (SERVING while any version of any model is available) and each model's name
    (while a version of it is). Other names: NOT_FOUND from Check, SERVICE_UNKNOWN from Watch until they appear.

    Args:
        monitor: the source of version states.
    """

    def __init__(self, monitor: ServableStateMonitor) -> None:
        # Held briefly, never while sending.
        self._lock = threading.Lock()
        self._statuses: dict[str, int] = {OVERALL_HEALTH: _SERVING, _MODEL_SERVICE: _SERVING}
        self._watchers: dict[str, set[_Send]] = {}
        self._is_shut_down = False
        self._available: dict[str, dict[int, bool]] = {}
        # Responses to send, in order; one thread sends them.
        self._outgoing: SimpleQueue[tuple[_Send, health_pb2.HealthCheckResponse | None]] = SimpleQueue()
        threading.Thread(target=self._send, name="health-watches", daemon=True).start()
        self._set(_PREDICTION_SERVICE, False)
        monitor.subscribe(self._follow)
        # Existing states; those received since the subscription are newer.
        for name, versions in monitor.all().items():
            for version, state in versions.items():
                self._note(name, version, state, only_new=True)

    def shutdown(self) -> None:
        """Turns every entry to NOT_SERVING for good and ends watches; to be called as soon as draining begins.

        Watches would delay the server's stop until the end of its grace period. Clients that reconnect get the same
        status.
        """
        with self._lock:
            self._is_shut_down = True
            for service in self._statuses:
                self._statuses[service] = _NOT_SERVING
            for service, watchers in self._watchers.items():
                for send in watchers:
                    self._enqueue(send, self._statuses.get(service, _UNKNOWN))
                    self._outgoing.put((send, None))
            self._watchers.clear()

    def check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Answers a ``HealthCheckRequest``."""
        with self._lock:
            status = self._statuses.get(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    def watch(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send: _Send) -> None:
        """Calls ``send`` with the status of a ``HealthCheckRequest``'s service, now and at each change."""
        service = request.service

        def forget() -> None:
            with self._lock:
                watchers = self._watchers.get(service, set())
                watchers.discard(send)
                if not watchers:
                    self._watchers.pop(service, None)

        with self._lock:
            self._enqueue(send, self._statuses.get(service, _UNKNOWN))
            if self._is_shut_down:
                self._outgoing.put((send, None))
                return
            self._watchers.setdefault(service, set()).add(send)
        if not context.add_callback(forget):
            forget()

    def _follow(self, name: str, version: int, state: ServableState) -> None:
        self._note(name, version, state)

    def _note(self, name: str, version: int, state: ServableState, *, only_new: bool = False) -> None:
        with self._lock:
            versions = self._available.setdefault(name, {})
            if only_new and version in versions:
                return
            versions[version] = state.manager_state is ManagerState.AVAILABLE
            self._set(name, any(versions.values()))
            self._set(_PREDICTION_SERVICE, any(any(each.values()) for each in self._available.values()))

    def _set(self, service: str, is_serving: bool) -> None:
        status = _SERVING if is_serving and not self._is_shut_down else _NOT_SERVING
        # Watchers are notified of changes only.
        if self._statuses.get(service) != status:
            self._statuses[service] = status
            for send in self._watchers.get(service, ()):
                self._enqueue(send, status)

    def _enqueue(self, send: _Send, status: int) -> None:
        self._outgoing.put((send, health_pb2.HealthCheckResponse(status=status)))

    def _send(self) -> None:
        while True:
            send, response = self._outgoing.get()
            try:
                send(response)
            except Exception:
                _LOGGER.exception("a health watcher could not be notified")


def add_health(server: grpc.Server, monitor: ServableStateMonitor) -> Health:
    """Adds the health service to a server that has not been started.

    It has its own threads, so that probes are answered while all others are busy with requests.

    Args:
        server: where to add it.
        monitor: the source of version states.

    Returns:
        The service, to be shut down when draining begins.
    """
    health = Health(monitor)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="health")

    def check(request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> health_pb2.HealthCheckResponse:
        return health.check(request, context)

    def watch(
        request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send_response_callback: _Send
    ) -> None:
        health.watch(request, context, send_response_callback)

    grpcio.run_in(pool, check)
    grpcio.run_in(pool, watch, answers_later=True)
    serialization: dict[str, Any] = {
        "request_deserializer": health_pb2.HealthCheckRequest.FromString,
        "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
    }
    handlers = {"Check": grpc.unary_unary_rpc_method_handler(check, **serialization)}
    if grpcio.can_answer_later():  # without Watch, clients take a server to be healthy
        handlers["Watch"] = grpc.unary_stream_rpc_method_handler(watch, **serialization)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    return health
