"""Versions that are added and removed under a live server."""

import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.client import Query, ServingError
from serving.server.operations import addresses
from tests.conformance.server import Held, held
from tests.serving.live import START_SECONDS, LiveServer, wait_for
from tests.serving.models import copy_version, export_big, export_contract, write_warm_up
from tests.serving.server.api.test_rpc import RECOMMEND, failure, request_of, slow


def test_swap_under_load(exports: dict[int, Path], tmp_path: Path) -> None:
    """Concurrent clients see old answers, then new ones, and never a failure."""
    copy_version(exports[1], tmp_path / "1")
    (tmp_path / ".9.tmp").mkdir()
    (tmp_path / "tmp-4").mkdir()
    (tmp_path / "5").write_text("a file, no version directory")
    answers: list[tuple[float, int]] = []
    stop = threading.Event()

    flags = "--file_system_poll_wait_seconds=1", "--enable_batching"
    with LiveServer(tmp_path, *flags) as server, server.client() as client:
        client.recommend(Query())

        def ask() -> int:
            count = 0
            while not stop.is_set():
                (best, *_) = client.recommend(Query(language="zh"))
                # A score identifies its version: the offset of version n is 100 (n - 1).
                answers.append((time.monotonic(), round(best.score // 100) + 1))
                count += 1
            return count

        with ThreadPoolExecutor(9) as pool:
            askers = [pool.submit(ask) for _ in range(8)]
            try:
                for version in (2, 3):
                    # A request in flight during the swap is finished by the version that accepted it.
                    with held(server, tmp_path, "recommender") as running:
                        copy_version(exports[version], tmp_path / str(version))
                        server.wait_for_log(f"Quiescing servable version {{name: recommender version: {version - 1}}}")
                        assert server.states()[version] == "AVAILABLE"
                        assert server.states()[version - 1] == "UNLOADING"
                    assert running.result().model_spec.version.value == version - 1
                    server.wait_for_state(version - 1, "END")
                    wait_for(lambda v=version: answers[-1][1] == v, START_SECONDS, "new answers")  # type: ignore[misc]
            finally:
                stop.set()
            counts = [asker.result() for asker in askers]  # raises what a client encountered
        assert min(counts) > 0
        versions = [version for _, version in sorted(answers)]
        assert set(versions) == {1, 2, 3}
        assert server.states() == {3: "AVAILABLE", 2: "END", 1: "END"}
        # Loading runs at low priority, but the threads that answer requests must not stay at it.
        threads = os.listdir(f"/proc/{server.process.pid}/task")
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        nice = [thread for thread in threads if os.getpriority(os.PRIO_PROCESS, int(thread)) != usual]
        assert len(nice) in (0, 2)  # the load pool, if this user may have one
        old = request_of({"text": tf.constant(["a"])}, "encode_text")
        old.model_spec.version.value = 1
        code, details = failure(server.prediction.Predict, old)
        assert code is grpc.StatusCode.NOT_FOUND
        assert details == "Servable not found for request: Specific(recommender, 1)"


def test_a_broken_version_leaves_the_old_one_serving(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    # A warm-up request that the model refuses, a file that is not a model, an empty directory.
    bad_warm_up = copy_version(exports[2], tmp_path / "prepared-2")
    write_warm_up(bad_warm_up, [request_of({"no_such_input": [1.0]})])
    no_model = tmp_path / "prepared-3"
    no_model.mkdir()
    (no_model / "saved_model.pb").write_bytes(b"this is no protobuf")
    empty = tmp_path / "prepared-4"
    empty.mkdir()

    with LiveServer(tmp_path, "--max_num_load_retries=0") as server, server.client() as client:
        assert client.recommend(Query())[0].score == pytest.approx(0.9)
        for version, prepared, text in (
            (2, bad_warm_up, "input size does not match signature"),
            (3, no_model, "saved_model.pb"),
            (4, empty, "SavedModel"),
        ):
            prepared.rename(tmp_path / str(version))
            server.wait_for_log(f"version: {version}}} cannot be loaded")
            states = {status.version: status for status in client.status()}
            assert states[1].state == "AVAILABLE"
            assert states[version].state == "END"
            assert states[version].error_code != "OK"
            assert text in states[version].error_message
            assert client.recommend(Query())[0].score == pytest.approx(0.9)
        copy_version(exports[2], tmp_path / "5")
        server.wait_for_state(5, "AVAILABLE")
        assert client.recommend(Query())[0].score == pytest.approx(100.9)


def test_a_version_that_is_copied_slowly_is_retried(exports: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with LiveServer(tmp_path, "--load_retry_interval_micros=200000", "--max_num_load_retries=1000") as server:
        server.wait_for_log("load failure (attempt 2 of 1001")
        (tmp_path / "1").rmdir()
        copy_version(exports[1], tmp_path / "1")
        with server.client() as client:
            assert client.recommend(Query(k=1))[0].item_id == "1"
        server.terminate(signal.SIGINT)
        assert server.wait() == 0
        assert "Traceback" not in server.text


def test_waits_for_a_base_path_then_loads_with_warm_up(exports: dict[int, Path], tmp_path: Path) -> None:
    base_path = tmp_path / "not" / "there"
    with LiveServer(base_path) as server:
        server.wait_for_log(f"Could not find base path {base_path} for servable recommender")
        base_path.mkdir(parents=True)
        server.wait_for_log(f"No versions of servable recommender found under base path {base_path}")
        assert server.process.poll() is None
        version = copy_version(exports[1], base_path / ".7.tmp")
        # Long enough to be seen; the version must not answer before its warm-up is over.
        write_warm_up(version, [request_of(RECOMMEND), slow(1.5)])
        version.rename(base_path / "7")
        with server.client() as client:
            assert client.recommend(Query(k=1))[0].item_id == "1"
        assert "warm-up of recommender version 7: 2 records in" in server.text
        lines = server.text
        assert lines.index("warm-up of recommender") < lines.index("Running gRPC ModelServer")

        # While version 8 warms up, version 7 answers.
        version = export_contract(base_path / ".8.ready", 700.0)
        started, released = tmp_path / "started", tmp_path / "released"
        write_warm_up(version, [request_of({"started": [str(started)], "released": [str(released)]}, "wait")])
        version.rename(base_path / "8")
        wait_for(started.exists, START_SECONDS, "the warm-up")
        assert server.states() == {8: "LOADING", 7: "AVAILABLE"}
        with server.client() as client:
            assert client.recommend(Query(k=1))[0].score < 100
            released.touch()
            server.wait_for_state(7, "END")
            assert server.states() == {8: "AVAILABLE", 7: "END"}
            assert client.recommend(Query(k=1))[0].score > 700


def test_stops_by_draining(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    with (
        LiveServer(tmp_path, "--rest_api_port=-1") as server,
        server.client() as client,
        ThreadPoolExecutor(6) as pool,
    ):
        client.recommend(Query())
        running = [Held(server, tmp_path, "recommender") for _ in range(4)]
        started, released = ([tmp_path / f"posted-{what}-{n}" for n in range(2)] for what in ("started", "released"))
        posted = [pool.submit(post_held, server, *paths) for paths in zip(started, released, strict=True)]
        for one in running:
            one.wait_until_inside()
        for path in started:
            wait_for(path.exists, START_SECONDS, "a request of REST in the model")
        server.terminate()
        server.wait_for_log("stopping: waiting up to")
        for one in running:
            one.release()
        for path in released:
            path.touch()
        assert [r.result().model_spec.version.value for r in running] == [1] * 4
        assert [p.result() for p in posted] == [200] * 2
        assert server.wait() == 0
        assert "Traceback" not in server.text
        assert server.text.rstrip().endswith("stopped")
        with pytest.raises(ServingError):
            client.recommend(Query())


def post_held(server: LiveServer, started: Path, released: Path) -> int:
    inputs = {"started": [str(started)], "released": [str(released)]}
    body = json.dumps({"signature_name": "wait", "inputs": inputs}).encode()
    url = f"http://localhost:{server.rest_port}/v1/models/recommender:predict"
    with urllib.request.urlopen(url, body, timeout=START_SECONDS) as answer:
        answer.read()
        return int(answer.status)


def test_memory_of_unloaded_versions_is_freed(tmp_path: Path) -> None:
    prepared = export_big(tmp_path / "prepared")
    copy_version(prepared, tmp_path / "1")
    with LiveServer(tmp_path) as server:
        request = request_of({"x": [1.0]}, model="recommender")

        def megabytes() -> float:
            server.prediction.Predict(request, timeout=30)
            return float(psutil.Process(server.process.pid).memory_info().rss) / 2**20

        server.prediction.Predict(request, timeout=30)
        before = megabytes()
        for version in range(2, 6):
            copy_version(prepared, tmp_path / str(version))
            server.wait_for_state(version - 1, "END")
        # Four models of 64 MB were loaded and unloaded; kept, they would take 256 MB.
        assert megabytes() < before + 48


def test_a_first_version_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with LiveServer(tmp_path, "--max_num_load_retries=0") as server:
        assert server.wait() == 1
        assert "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available" in server.text
        assert "{name: recommender version: 1}" in server.text
        assert "Traceback" not in server.text


def test_status_numbers_match_the_protocol() -> None:
    from serving.server.lifecycle.states import ManagerState

    states = get_model_status_pb2.ModelVersionStatus.State
    assert {state.name: int(state) for state in ManagerState} == {
        name: number for name, number in states.items() if name != "UNKNOWN"
    }


def models_config(**base_paths: Path) -> str:
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}\n'
        for name, path in base_paths.items()
    )
    return f"model_config_list {{\n{entries}}}\n"


def reload_request(text: str) -> model_management_pb2.ReloadConfigRequest:
    return model_management_pb2.ReloadConfigRequest(
        config=text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    )


def offset_of(server: LiveServer, model: str, version: int | None = None, label: str = "") -> int:
    """Which export answers: its scores are offset by 0, 100 or 200."""
    request = request_of(RECOMMEND, model=model)
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    response = server.prediction.Predict(request, timeout=30)
    return int(max(response.outputs["scores"].float_val) // 100 * 100)


def test_several_models_labels_and_reloads(exports: dict[int, Path], tmp_path: Path) -> None:
    for name, number in (("a/1", 1), ("a/2", 2), ("b/1", 3), ("elsewhere/1", 2)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy_version(exports[number], tmp_path / name)
    path = tmp_path / "models.config"
    path.write_text(models_config(a=tmp_path / "a", b=tmp_path / "b"))
    with LiveServer(tmp_path, f"--model_config_file={path}", "--rest_api_port=-1", model_name="unused") as server:
        assert (offset_of(server, "a"), offset_of(server, "b")) == (100, 200)
        assert failure(server.prediction.Predict, request_of(RECOMMEND, model="unused"))[0] is grpc.StatusCode.NOT_FOUND
        labelled = (
            f'model_config_list {{ config {{ name: "a" base_path: "{tmp_path}/a" model_platform: "tensorflow" '
            "model_version_policy { all {} } %s } }"
        )
        server.models.HandleReloadConfigRequest(reload_request(labelled % ""), timeout=30)
        assert (offset_of(server, "a", 1), offset_of(server, "a", 2)) == (0, 100)  # at once: the reload waited for it
        assert failure(server.prediction.Predict, request_of(RECOMMEND, model="b"))[0] is grpc.StatusCode.NOT_FOUND
        labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
        server.models.HandleReloadConfigRequest(reload_request(labelled % labels), timeout=30)
        assert (offset_of(server, "a", label="stable"), offset_of(server, "a", label="canary")) == (0, 100)
        url = f"http://localhost:{server.rest_port}/v1/models/a/labels/canary/metadata"
        assert json.load(urllib.request.urlopen(url, timeout=30))["model_spec"]["version"] == "2"
        code, details = failure(
            server.models.HandleReloadConfigRequest,
            reload_request(labelled % 'version_labels { key: "stable" value: 7 }'),
        )
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert details.startswith(
            "Request to assign label to version 7 of model a, which is not currently available for inference"
        )
        assert offset_of(server, "a", label="stable") == 0
        # Another directory with the same version number.
        server.models.HandleReloadConfigRequest(reload_request(models_config(b=tmp_path / "elsewhere")), timeout=30)
        assert offset_of(server, "b", 1) == 100
        server.models.HandleReloadConfigRequest(reload_request(models_config(b=tmp_path / "b")), timeout=30)
        assert offset_of(server, "b") == 200


def test_the_config_file_is_polled(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    path = tmp_path / "models.config"
    path.write_text(models_config(a=tmp_path))
    with LiveServer(
        tmp_path, f"--model_config_file={path}", "--model_config_file_poll_wait_seconds=1", "--max_num_load_retries=0"
    ) as server:
        assert offset_of(server, "a") == 0
        path.write_text("model_config_list {\n  config { nme: 'x' }\n}")
        server.wait_for_log("Error parsing text-format tensorflow.serving.ModelServerConfig: 2:12: ")
        assert offset_of(server, "a") == 0
        path.write_text(models_config(a=tmp_path, z=tmp_path))
        server.wait_for_log("Successfully loaded servable version {name: z version: 1}")
        wait_for(lambda: offset_of(server, "z") == 0, 60, "z")
        server.terminate()
        assert server.wait() == 0
        assert "Traceback" not in server.text


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        (
            "--model_config_file={0}",
            "model_config_list {\n  config { nme: 'x' }\n}",
            "\nError parsing text-format tensorflow.serving.ModelServerConfig: 2:12: Message type "
            '"tensorflow.serving.ModelConfig" has no field named "nme".',
        ),
        (
            "--enable_batching --batching_parameters_file={0}",
            "max_batch_size: 3",
            "\nError parsing text-format tensorflow.serving.BatchingParameters: 1:",
        ),
        (
            "--enable_batching --batching_parameters_file={0}",
            "max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        ("--ssl_config_file={0}", "server_key: 'x'", "server_cert is missing"),
        ("--monitoring_config_file={0}", "prometheus {}", "\nError parsing text-format tensorflow.serving.Monit"),
        ("--platform_config_file={0}", "", 'needs an entry for the platform "tensorflow"'),
        ("--tensorflow_session_config_file={0}", "x: 1", "\nError parsing text-format tensorflow.ConfigProto: 1:1: "),
        ("--op_libraries=/no/such/library.so", "", "--op_libraries: /no/such/library.so can't be loaded"),
        (
            "--model_config_file={0}",
            'model_config_list { config { name: "m" base_path: "/m" model_platform: "caffe" } }',
            "INVALID_ARGUMENT: Model m requests unsupported platform caffe",
        ),
        (
            "--model_config_file={0}",
            'model_config_list { config { name: "m" base_path: "s3://bucket" model_platform: "tensorflow" } }',
            "is not in a local file system",
        ),
    ],
)
def test_a_server_that_cannot_start_says_why_and_fails(flag: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with LiveServer(tmp_path, *flag.format(path).split()) as server:
        assert server.wait() == 1
        assert message in f"\n{server.text}"
        assert "Failed to start server. Error: " in server.text
        assert "Traceback" not in server.text


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("flag", ["port", "rest_api_port", "grpc_socket_path"])
def test_an_address_in_use_is_reported_before_anything_is_loaded(tmp_path: Path, flag: str, workers: int) -> None:
    # A version that can't be loaded: a server that gets that far fails with another message.
    (tmp_path / "1").mkdir()
    with socket.create_server(("0.0.0.0", 0)) as port, socket.socket(socket.AF_UNIX) as path:
        path.bind(str(tmp_path / "socket"))
        path.listen()
        taken = str(tmp_path / "socket") if flag == "grpc_socket_path" else str(port.getsockname()[1])
        with LiveServer(tmp_path, f"--{flag}={taken}", f"--workers={workers}") as server:
            assert server.wait() == 1
            (line,) = server.text.splitlines()
            assert "Failed to start server. Error: cannot listen on " in line
            assert taken in line
            assert f"(--{flag}): " in line
            assert "Remedy: stop " in line


def test_unavailable_addresses(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for values, message in (
        ((8500, 8500, ""), "--port and --rest_api_port are both 8500"),
        ((0, 0, str(tmp_path / "file")), "the path exists and is not a socket"),
        ((0, 0, str(tmp_path / "no" / "socket")), f"there is no directory {tmp_path / 'no'}"),
    ):
        with pytest.raises(OSError, match=re.escape(message)):
            addresses.check(*values)
    # The socket of a server that is gone does not matter, and -1 is a free port.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    addresses.check(0, -1, str(tmp_path / "left"))


def test_a_healthy_start_logs_no_warnings(exports: dict[int, Path], tmp_path: Path) -> None:
    write_warm_up(copy_version(exports[1], tmp_path / "1"), [request_of(RECOMMEND)])
    with LiveServer(tmp_path, "--enable_batching", "--rest_api_port=-1") as server:
        assert offset_of(server, "recommender") == 0
        server.terminate()
        assert server.wait() == 0
        lines = server.text.splitlines()
        assert [
            line for line in lines if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} I serving\.", line)
        ] == []


def test_the_server_process_does_not_load_tensorflows_package(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    with LiveServer(tmp_path, "--rest_api_port=-1", "--enable_batching") as server:
        assert offset_of(server, "recommender") == 0
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "libtensorflow" in maps
        assert "_pywrap_tensorflow" not in maps


def test_health_turns_before_the_server_stops(exports: dict[int, Path], tmp_path: Path) -> None:
    """A load balancer is notified while the server still accepts requests: none is lost."""
    copy_version(exports[1], tmp_path / "1")
    flags = ("--enable_grpc_healthcheck_service", "--shutdown_delay_seconds=20", "--rest_api_port=-1")
    with LiveServer(tmp_path, *flags) as server:
        health = health_pb2_grpc.HealthStub(server.channel)
        states = health_pb2.HealthCheckResponse
        page = f"http://localhost:{server.rest_port}/healthz"
        with urllib.request.urlopen(page, timeout=30) as answer:
            assert (answer.status, answer.read()) == (200, b"ok\n")
        for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
            request = health_pb2.HealthCheckRequest(service=service)
            assert health.Check(request, timeout=10).status == states.SERVING
        assert failure(health.Check, health_pb2.HealthCheckRequest(service="none"))[0] is grpc.StatusCode.NOT_FOUND
        server.terminate()
        server.wait_for_log("still serving for 20 s")
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == states.NOT_SERVING
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(page, timeout=30)
        assert refused.value.code == 503
        assert offset_of(server, "recommender") == 0
        server.terminate()  # again: don't wait for load balancers
        assert server.wait() == 0
        assert server.text.rstrip().endswith("stopped")


def test_resource_preserving_has_one_version_in_memory(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    with LiveServer(tmp_path, "--aspired_version_policy=resource_preserving") as server:
        assert offset_of(server, "recommender") == 0
        copy_version(exports[2], tmp_path / "2")
        server.wait_for_state(2, "AVAILABLE")
        text = server.text
        assert text.index("Done unloading servable version {name: recommender version: 1}") < text.index(
            "Loading servable version {name: recommender version: 2}"
        )
