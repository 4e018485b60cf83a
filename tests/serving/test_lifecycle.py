"""Versions coming and going under a live server."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2

from serving.client import ServingError
from tests.serving.live import LiveServer
from tests.serving.models import copy_version, export_big, export_contract, write_warm_up
from tests.serving.test_rpc import RECOMMEND, failure, request_of, slow


def test_swap_under_load(exports: dict[int, Path], tmp_path: Path) -> None:
    """Concurrent clients see old answers, then new ones, and never a failure."""
    copy_version(exports[1], tmp_path / "1")
    (tmp_path / ".9.tmp").mkdir()
    (tmp_path / "tmp-4").mkdir()
    (tmp_path / "5").write_text("a file, no version directory")
    answers: list[tuple[float, int]] = []
    stop = threading.Event()

    with LiveServer(tmp_path, "--file_system_poll_wait_seconds=1") as server, server.client() as client:
        client.recommend()

        def ask() -> int:
            count = 0
            while not stop.is_set():
                (best, *_) = client.recommend(language="zh")
                # A score names its version: the offset of version n is 100 (n - 1).
                answers.append((time.monotonic(), round(best.score // 100) + 1))
                count += 1
            return count

        with ThreadPoolExecutor(9) as pool:
            askers = [pool.submit(ask) for _ in range(8)]
            try:
                for version in (2, 3):
                    # A request that is in flight over the swap is finished by the version that took it.
                    running = pool.submit(server.prediction.Predict, slow(4.0), timeout=60)
                    time.sleep(0.2)
                    copy_version(exports[version], tmp_path / str(version))
                    server.wait_for_log(f"Quiescing servable version {{name: recommender version: {version - 1}}}")
                    assert server.states()[version] == "AVAILABLE"
                    if not running.done():
                        assert server.states()[version - 1] == "UNLOADING"
                    assert running.result().model_spec.version.value == version - 1
                    server.wait_for_state(version - 1, "END")
                time.sleep(0.3)
            finally:
                stop.set()
            counts = [asker.result() for asker in askers]  # raises what an asker met
        assert min(counts) > 10
        versions = [version for _, version in sorted(answers)]
        assert set(versions) == {1, 2, 3}
        assert server.states() == {3: "AVAILABLE", 2: "END", 1: "END"}
        old = request_of({"text": tf.constant(["a"])}, "encode_text")
        old.model_spec.version.value = 1
        code, details = failure(server.prediction.Predict, old)
        assert code is grpc.StatusCode.NOT_FOUND
        assert details == "Servable not found for request: Specific(recommender, 1)"


def test_a_broken_version_leaves_the_old_one_serving(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    # A warm-up request that the model refuses, a file that is no model, a directory without anything.
    bad_warm_up = copy_version(exports[2], tmp_path / "prepared-2")
    write_warm_up(bad_warm_up, [request_of({"no_such_input": [1.0]})])
    no_model = tmp_path / "prepared-3"
    no_model.mkdir()
    (no_model / "saved_model.pb").write_bytes(b"this is no protobuf")
    empty = tmp_path / "prepared-4"
    empty.mkdir()

    with LiveServer(tmp_path, "--max_num_load_retries=0") as server, server.client() as client:
        assert client.recommend()[0].score == pytest.approx(0.9)
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
            assert client.recommend()[0].score == pytest.approx(0.9)
        copy_version(exports[2], tmp_path / "5")
        server.wait_for_state(5, "AVAILABLE")
        assert client.recommend()[0].score == pytest.approx(100.9)


def test_a_version_that_is_copied_slowly_is_tried_again(exports: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with LiveServer(tmp_path, "--load_retry_interval_micros=200000", "--max_num_load_retries=1000") as server:
        server.wait_for_log("load failure (attempt 2 of 1001")
        (tmp_path / "1").rmdir()
        copy_version(exports[1], tmp_path / "1")
        with server.client() as client:
            assert client.recommend(k=1)[0].item_id == "1"
        server.terminate(signal.SIGINT)
        assert server.wait(30) == 0
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
            assert client.recommend(k=1)[0].item_id == "1"
        assert "warm-up of recommender version 7: 2 records in" in server.text
        lines = server.text
        assert lines.index("warm-up of recommender") < lines.index("Running gRPC ModelServer")

        # While version 8 warms up, version 7 answers.
        version = export_contract(base_path / ".8.ready", 700.0)
        write_warm_up(version, [slow(2.0)])
        version.rename(base_path / "8")
        server.wait_for_state(8, "LOADING")
        with server.client() as client:
            assert client.recommend(k=1)[0].score < 100
            server.wait_for_state(7, "END")
            assert server.states() == {8: "AVAILABLE", 7: "END"}
            assert client.recommend(k=1)[0].score > 700


def test_stops_by_draining(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    with LiveServer(tmp_path) as server, server.client() as client, ThreadPoolExecutor(4) as pool:
        client.recommend()
        running = [pool.submit(server.prediction.Predict, slow(1.5), timeout=30) for _ in range(4)]
        time.sleep(0.5)
        server.terminate()
        assert [r.result().model_spec.version.value for r in running] == [1] * 4
        assert server.wait(30) == 0
        assert "Traceback" not in server.text
        assert server.text.rstrip().endswith("stopped")
        with pytest.raises(ServingError):
            client.recommend()


def test_memory_of_unloaded_versions_is_given_back(tmp_path: Path) -> None:
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
        # Four models of 64 MB came and went; kept, they would be 256 MB.
        assert megabytes() < before + 48


def test_a_first_version_that_can_not_be_loaded_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with LiveServer(tmp_path, "--max_num_load_retries=0") as server:
        assert server.wait() == 1
        assert "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available" in server.text
        assert "{name: recommender version: 1}" in server.text
        assert "Traceback" not in server.text


def test_status_numbers_are_the_protocol_s() -> None:
    from serving.server.states import ManagerState

    states = get_model_status_pb2.ModelVersionStatus.State
    assert {state.name: int(state) for state in ManagerState} == {
        name: number for name, number in states.items() if name != "UNKNOWN"
    }
