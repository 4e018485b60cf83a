"""The health service as a probe sees it, driven by the states of versions."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.server.errors import not_found
from serving.server.lifecycle.health import Health, add_health
from serving.server.lifecycle.states import ManagerState, ServableState, ServableStateMonitor

_PREDICTION = "tensorflow.serving.PredictionService"
_MODELS = "tensorflow.serving.ModelService"
_ANSWERS = health_pb2.HealthCheckResponse
_LIMIT = 60.0


@dataclass
class _Served:
    monitor: ServableStateMonitor
    health: Health
    stub: Any
    hold: threading.Event
    channel: grpc.Channel

    def check(self, service: str) -> str:
        answer = self.stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=_LIMIT)
        return str(_ANSWERS.ServingStatus.Name(answer.status))

    def watch(self, service: str) -> Any:
        return self.stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=60)

    def publish(self, name: str, version: int, state: ManagerState, *, failed: bool = False) -> None:
        self.monitor.publish(name, version, ServableState(state, not_found("no files") if failed else None))


@pytest.fixture
def served() -> Iterator[_Served]:
    """A server with one thread for requests; model ``old`` was available, and ``bad`` had failed, before it began."""
    monitor = ServableStateMonitor()
    monitor.publish("old", 1, ServableState(ManagerState.AVAILABLE))
    monitor.publish("bad", 1, ServableState(ManagerState.END, not_found("no files")))
    server = grpc.server(ThreadPoolExecutor(1))
    health = add_health(server, monitor)
    hold = threading.Event()

    def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
        hold.wait(60)
        return request

    handler = grpc.unary_unary_rpc_method_handler(wait)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Wait", {"Wait": handler}),))
    port = server.add_insecure_port("localhost:0")
    server.start()
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        yield _Served(monitor, health, health_pb2_grpc.HealthStub(channel), hold, channel)
    hold.set()
    server.stop(None).wait()


def _next(watch: Any) -> str:
    return str(_ANSWERS.ServingStatus.Name(next(watch).status))


def test_existing_states(served: _Served) -> None:
    assert [served.check(name) for name in ("", _MODELS, _PREDICTION, "old")] == ["SERVING"] * 4
    assert served.check("bad") == "NOT_SERVING"


def test_unknown_names(served: _Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.check("new")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = served.watch("new")
    assert _next(watch) == "SERVICE_UNKNOWN"
    served.publish("new", 1, ManagerState.LOADING)
    assert _next(watch) == "NOT_SERVING"
    served.publish("new", 1, ManagerState.AVAILABLE)
    assert _next(watch) == "SERVING"


def test_a_model_serves_while_any_version_is_available(served: _Served) -> None:
    watch = served.watch("old")
    assert _next(watch) == "SERVING"
    served.publish("old", 2, ManagerState.LOADING)
    served.publish("old", 2, ManagerState.AVAILABLE)
    served.publish("old", 1, ManagerState.UNLOADING)
    served.publish("old", 1, ManagerState.END)
    assert served.check("old") == "SERVING"
    served.publish("old", 3, ManagerState.END, failed=True)
    assert served.check("old") == "SERVING"
    served.publish("old", 2, ManagerState.UNLOADING)
    assert served.check("old") == served.check(_PREDICTION) == "NOT_SERVING"
    # Only changes were reported.
    assert _next(watch) == "NOT_SERVING"
    assert served.check("") == "SERVING"


def test_prediction_service_serves_while_any_model_does(served: _Served) -> None:
    served.publish("other", 7, ManagerState.AVAILABLE)
    served.publish("old", 1, ManagerState.UNLOADING)
    assert served.check("old") == "NOT_SERVING"
    assert served.check(_PREDICTION) == "SERVING"
    served.publish("other", 7, ManagerState.UNLOADING)
    assert served.check(_PREDICTION) == "NOT_SERVING"


def test_draining_turns_everything_at_once_and_for_good(served: _Served) -> None:
    watches = [served.watch(name) for name in ("", _PREDICTION, "old")]
    assert [_next(watch) for watch in watches] == ["SERVING"] * 3
    served.health.shutdown()
    assert [_next(watch) for watch in watches] == ["NOT_SERVING"] * 3
    served.publish("old", 2, ManagerState.AVAILABLE)
    assert [served.check(name) for name in ("", _MODELS, _PREDICTION, "old")] == ["NOT_SERVING"] * 4
    # Open watches would delay the server's stop.
    for watch in (*watches, served.watch("old")):
        assert [_ANSWERS.ServingStatus.Name(answer.status) for answer in watch] in ([], ["NOT_SERVING"])
        assert watch.code() is grpc.StatusCode.OK


def test_probes_are_answered_while_all_threads_are_busy(served: _Served) -> None:
    call: Any = served.channel.unary_unary("/Wait/Wait", request_serializer=bytes, response_deserializer=bytes)
    busy = [call.future(b"", timeout=60) for _ in range(2)]
    watches = [served.watch("old") for _ in range(8)]
    assert [_next(watch) for watch in watches] == ["SERVING"] * 8
    assert served.check("") == "SERVING"
    assert not any(future.done() for future in busy)
    served.publish("old", 1, ManagerState.UNLOADING)
    assert [_next(watch) for watch in watches] == ["NOT_SERVING"] * 8
    served.hold.set()
    assert [future.result(timeout=_LIMIT) for future in busy] == [b"", b""]


def test_watchers_that_come_and_go_while_states_change(served: _Served) -> None:
    changing = [threading.Thread(target=_churn, args=(served, f"model-{number}")) for number in range(3)]
    watching = [threading.Thread(target=_watch_often, args=(served, f"model-{number}")) for number in range(3)]
    for thread in (*changing, *watching):
        thread.start()
    for thread in (*changing, *watching):
        thread.join(50)
        assert not thread.is_alive(), "locked up"
    for number in range(3):
        assert served.check(f"model-{number}") == _next(served.watch(f"model-{number}")) == "NOT_SERVING"
    assert served.check(_PREDICTION) == "SERVING"


def _churn(served: _Served, name: str) -> None:
    for version in range(200):
        served.publish(name, version, ManagerState.AVAILABLE)
        served.publish(name, version, ManagerState.END)


def _watch_often(served: _Served, name: str) -> None:
    for _ in range(50):
        watch = served.watch(name)
        next(watch)
        watch.cancel()
