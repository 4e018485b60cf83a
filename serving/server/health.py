"""The standard health service (``grpc.health.v1``), which balancers and Kubernetes' probes ask.

TensorFlow Serving (``--enable_grpc_healthcheck_service``) turns on gRPC's default service, which knows one name: the
empty one, for the whole server. That is so here too; beyond it each model has an entry under its own name, and the two
services have theirs.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import OVERALL_HEALTH, SERVICE_NAME, HealthServicer

from serving.server.states import ManagerState, ServableState, ServableStateMonitor

_PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
_MODEL_SERVICE = "tensorflow.serving.ModelService"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Checks take microseconds and watches give their thread back.
_THREADS = 2


class Health:
    """Says what can be asked for: the server, its models.

    Entries: ``""`` and ``tensorflow.serving.ModelService`` (SERVING until ``shutdown``),
    ``tensorflow.serving.PredictionService`` (SERVING while any version of any model is available) and each model's name
    (while a version of it is). Other names: NOT_FOUND from Check, SERVICE_UNKNOWN from Watch until they come up.

    Args:
        monitor: where the states of versions come from.
    """

    def __init__(self, monitor: ServableStateMonitor) -> None:
        self.servicer = HealthServicer()
        self._lock = threading.Lock()
        self._available: dict[str, dict[int, bool]] = {}
        self._told: dict[str, Any] = {}
        self._set(OVERALL_HEALTH, True)
        self._set(_MODEL_SERVICE, True)
        self._set(_PREDICTION_SERVICE, False)
        monitor.subscribe(self._follow)
        # What happened before; what was followed since is newer.
        for name, versions in monitor.all().items():
            for version, state in versions.items():
                self._note(name, version, state, only_new=True)

    def shutdown(self) -> None:
        """Turns every entry to NOT_SERVING for good: to be called at once when draining begins."""
        self.servicer.enter_graceful_shutdown()

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
        status = _SERVING if is_serving else _NOT_SERVING
        # Watchers are told of changes alone.
        if self._told.get(service) != status:
            self._told[service] = status
            self.servicer.set(service, status)


def add_health(server: grpc.Server, monitor: ServableStateMonitor) -> Health:
    """Adds the health service to a server that has not been started.

    It has threads of its own, so that probes are answered while all others are busy with requests.

    Args:
        server: where to add it.
        monitor: where the states of versions come from.

    Returns:
        What to shut down when draining begins.
    """
    health = Health(monitor)
    servicer = health.servicer
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="health")

    def check(request: Any, context: grpc.ServicerContext) -> Any:
        return servicer.Check(request, context)

    def watch(request: Any, context: grpc.ServicerContext, send_response_callback: Any = None) -> Any:
        return servicer.Watch(request, context, send_response_callback)

    check.__dict__.update(experimental_thread_pool=pool)
    watch.__dict__.update(experimental_thread_pool=pool, experimental_non_blocking=True)
    serialization = {
        "request_deserializer": health_pb2.HealthCheckRequest.FromString,
        "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
    }
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(check, **serialization),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, **serialization),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    return health
