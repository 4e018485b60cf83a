"""Draining, rolling restarts and overload: the needs of a fleet behind a load balancer. Extras of this server."""

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

from tests.conformance.server import (
    SECONDS,
    Held,
    Server,
    config_list,
    failure,
    free_ports,
    held,
    is_listening,
    model_config,
    predict_request,
    wait_for,
)

_Code = grpc.StatusCode
# Batching whose Predict does not use the native front, if there is one.
_PYTHON = ("--enable_batching", "--native_predict=off")
pytestmark = [pytest.mark.own_server, pytest.mark.babelrec_only]


def _config(models: Path) -> str:
    return config_list(*[model_config(name, models / name) for name in ("gate", "numbered")])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_end_before_the_server(models: Path, tmp_path: Path, number: int) -> None:
    with Server("--enable_grpc_healthcheck_service", config=_config(models)) as server:
        server.wait_until_ready()
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest(), timeout=2 * SECONDS)
        states = iter(watch)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        with held(server, tmp_path) as by_grpc:
            paths = {"started": [str(tmp_path / "a")], "released": [str(tmp_path / "b")]}
            answers = []
            body = {"signature_name": "wait", "inputs": paths}
            by_rest = threading.Thread(target=lambda: answers.append(server.post("/v1/models/gate:predict", body)))
            by_rest.start()
            wait_for((tmp_path / "a").exists, "the REST request in the model")
            server.process.send_signal(number)
            assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
            wait_for(lambda: not any(is_listening(port) for port in server.ports), "closed ports")
            assert server.process.poll() is None
            assert not by_grpc.call.done()
            (tmp_path / "b").touch()
            by_grpc.release()
            assert list(by_grpc.result().outputs["y"].float_val) == [0.0]
            by_rest.join()
            assert answers == [{"outputs": [0.0]}]
        assert server.wait() == 0


@pytest.mark.parametrize("flags", [(), ("--enable_batching",), _PYTHON], ids=["plain", "batching", "batching-python"])
def test_grace_period_is_limited(models: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    with Server("--shutdown_grace_seconds=0.5", *flags, config=_config(models)) as server:
        server.wait_until_ready()
        with held(server, tmp_path) as request:
            assert server.stop() == 0
            wait_for(request.call.done, "the end of the request")
            assert request.call.code() in (_Code.UNAVAILABLE, _Code.CANCELLED)


@pytest.mark.parametrize("flags", [("--enable_batching",), _PYTHON], ids=["batching", "batching-python"])
def test_stopping_under_load_does_not_use_up_the_grace_period(models: Path, flags: tuple[str, ...]) -> None:
    # A grace period longer than any test waits: requests that will never be answered must not be waited for.
    with Server(*flags, "--shutdown_grace_seconds=3600", config=_config(models)) as server:
        server.wait_until_ready()
        stub = prediction_service_pb2_grpc.PredictionServiceStub(server.channel)
        request = predict_request("numbered", {"x": [1.0]})
        is_over = threading.Event()
        answers: list[Any] = []

        def ask() -> None:
            while not is_over.is_set():
                try:
                    answers.append(stub.Predict(request, timeout=SECONDS))
                except grpc.RpcError:
                    return

        clients = [threading.Thread(target=ask) for _ in range(16)]
        for client in clients:
            client.start()
        wait_for(lambda: len(answers) > 100, "answers")
        status = server.stop()
        is_over.set()
        for client in clients:
            client.join()
        assert status == 0


@contextmanager
def _load(addresses: list[str], model: str) -> Iterator[list[str]]:
    """Continuous requests, spread over healthy servers by gRPC's own balancer; yields the failures."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        (
            "grpc.service_config",
            json.dumps(
                {
                    "loadBalancingConfig": [{"round_robin": {}}],
                    "healthCheckConfig": {"serviceName": ""},
                }
            ),
        ),
    ]
    failures: list[str] = []
    stop = threading.Event()
    request = predict_request(model, {"x": [1.0]})

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = stub.Predict(request, timeout=SECONDS)
                if list(answer.outputs["y"].float_val) != [4.0]:
                    failures.append(str(answer))
            except grpc.RpcError as error:
                failures.append(str(error))
            time.sleep(0.01)

    with grpc.insecure_channel(f"ipv4:{','.join(addresses)}", options=options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield failures
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_rolling_restart_loses_no_request(models: Path, tmp_path: Path) -> None:
    ports = [free_ports(2), free_ports(2)]
    config = _config(models)
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    # The balancer checks health and removes a server that is about to stop. Without that, a request that arrives
    # at the very moment in which gRPC closes the server is sometimes cancelled.
    flags = [
        "--enable_grpc_healthcheck_service",
        "--shutdown_delay_seconds=1",
        f"--monitoring_config_file={monitoring}",
    ]
    servers = [Server(*flags, config=config, ports=own) for own in ports]
    try:
        for server in servers:
            server.wait_until_ready()
        with _load([f"127.0.0.1:{own[0]}" for own in ports], "numbered") as failures:
            for index, own in enumerate(ports):
                wait_for(lambda: all(_answered(server) > 0 for server in servers), "requests to both")
                with servers[index] as old:
                    assert old.stop() == 0
                before = _answered(servers[1 - index])
                servers[index] = Server(*flags, config=config, ports=own)
                servers[index].wait_until_ready()
                wait_for(lambda index=index: _answered(servers[index]) > 0, "requests")  # type: ignore[misc]
                assert _answered(servers[1 - index]) > before
        assert not failures
    finally:
        for server in servers:
            server.__exit__(None, None, None)


def _answered(server: Server) -> int:
    """Requests that a server has answered, according to its metrics."""
    text = server.rest("GET", "/monitoring/prometheus/metrics").body.decode()
    found = re.search(
        r'^:tensorflow:serving:request_count{model_name="numbered",status="OK"} (\S+)', text, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


@pytest.mark.parametrize("flags", [(), ("--enable_batching",), _PYTHON], ids=["plain", "batching", "batching-python"])
def test_too_many_requests_at_once(models: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    limits = "--max_concurrent_requests=2", f"--monitoring_config_file={monitoring}"
    with Server(*limits, *flags, config=_config(models)) as server, ThreadPoolExecutor(1) as pool:
        server.wait_until_ready()
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        metadata.model_spec.name = "numbered"
        with held(server, tmp_path) as by_grpc:
            assert server.predict("numbered", {"x": [1.0]})["y"].tolist() == [4.0], "one more may"
            started, released = tmp_path / "rest-started", tmp_path / "rest-released"
            body = {"signature_name": "wait", "inputs": {"started": [str(started)], "released": [str(released)]}}
            by_rest = pool.submit(server.post, "/v1/models/gate:predict", body)
            wait_for(started.exists, "the REST request in the model")
            for call, request in (
                (server.prediction.Predict, predict_request("numbered", {"x": [1.0]})),
                (server.prediction.GetModelMetadata, metadata),
            ):
                code, details = failure(call, request)
                assert code is _Code.RESOURCE_EXHAUSTED
                assert "--max_concurrent_requests" in details
            for answer in (
                server.rest("POST", "/v1/models/numbered:predict", {"instances": [1.0]}),
                server.rest("GET", "/v1/models/numbered/metadata"),
            ):
                assert answer.status == 429
                assert "--max_concurrent_requests" in answer.error
            # What keeps an overloaded server from being restarted is answered.
            assert server.available("numbered")
            assert server.rest("GET", "/v1/models/numbered").status == 200
            assert server.rest("GET", "/healthz").status == 200
            page = server.rest("GET", "/monitoring/prometheus/metrics").text
            assert ':babelrec:serving:refused_request_count{flag="max_concurrent_requests"} 4\n' in page
            released.touch()
            assert by_rest.result(SECONDS) == {"outputs": [0.0]}
            # The place of a request by one API is free for the other.
            wait_for(lambda: _is_answered(server), "an answer by gRPC")
            by_grpc.release()
            assert list(by_grpc.result().outputs["y"].float_val) == [0.0]
        wait_for(lambda: server.rest("GET", "/v1/models/numbered/metadata").status == 200, "an answer by REST")
        assert server.prediction.GetModelMetadata(metadata, timeout=SECONDS).model_spec.name == "numbered"


def test_requests_wait_for_a_thread(models: Path, tmp_path: Path) -> None:
    with Server("--grpc_max_threads=1", config=_config(models)) as server:
        server.wait_until_ready()
        with held(server, tmp_path) as first:
            second = Held(server, tmp_path)
            # The request of a client that gives up while waiting is not run.
            with pytest.raises(grpc.RpcError) as caught:
                server.prediction.Predict(predict_request("numbered", {"x": [1.0]}), timeout=0.2)
            assert caught.value.code() is _Code.DEADLINE_EXCEEDED
            assert not second.started.exists()
            first.release()
            first.result()
            second.wait_until_inside()
            second.release()
            assert list(second.result().outputs["y"].float_val) == [0.0]


def test_deadline_ends_the_run(models: Path, tmp_path: Path) -> None:
    flags = "--grpc_max_threads=1", "--shutdown_grace_seconds=1"
    with Server(*flags, config=_config(models)) as server:
        server.wait_until_ready()
        inputs = {"started": [str(tmp_path / "started")], "released": [str(tmp_path / "never")]}
        request = predict_request("gate", inputs, signature="wait")
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.Predict(request, timeout=0.5)
        assert caught.value.code() is _Code.DEADLINE_EXCEEDED
        # The only thread is free again although the file was never created.
        assert server.predict("numbered", {"x": [1.0]})["y"].tolist() == [4.0]


def _is_answered(server: Server) -> bool:
    try:
        server.predict("numbered", {"x": [1.0]})
    except grpc.RpcError:
        return False
    return True
