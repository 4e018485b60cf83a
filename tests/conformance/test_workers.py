"""Several server processes on one port with --workers, which TensorFlow Serving does not have."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.conformance.server import (
    Server,
    Target,
    config_list,
    failure,
    held,
    model_config,
    reload_request,
    wait_for,
)

pytestmark = [pytest.mark.own_server, pytest.mark.babelrec_only]


@pytest.fixture
def server(models: Path, tmp_path: Path) -> Iterator[Server]:
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    flags = "--workers=2", f"--monitoring_config_file={monitoring}", "--model_config_file_poll_wait_seconds=1"
    config = config_list(*[model_config(name, models / name) for name in ("gate", "half_plus_two")])
    with Server(*flags, config=config) as server:
        server.wait_until_ready()
        wait_for(lambda: "2 workers are serving" in server.log, "both workers")
        yield server


def _workers(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _answers(server: Server, model: str = "half_plus_two") -> bool:
    """Whether a request succeeds over a new connection, which the kernel assigns to either worker."""
    target = Target(server.address)
    try:
        return bool(target.predict(model, {"x": [2.0]})["y"].tolist() == [3.0])
    except grpc.RpcError:
        return False
    finally:
        target.close()


def test_metrics_cover_all_workers(server: Server) -> None:
    assert len(_workers(server)) == 2
    for _ in range(20):
        assert _answers(server)
    # From either worker, so each has seen the other's.
    wait_for(lambda: {_counted(server) for _ in range(12)} == {20}, "the sum of both workers")
    # A worker's counts stay when it dies, whichever worker answers.
    first, _ = _workers(server)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: first not in _workers(server) and len(_workers(server)) == 2, "a new worker")
    assert {_counted(server) for _ in range(12)} == {20}


def _counted(server: Server) -> float | None:
    text = server.rest("GET", "/monitoring/prometheus/metrics").body.decode()
    pattern = r'^:tensorflow:serving:request_count{model_name="half_plus_two",status="OK"} (\S+)'
    found = re.search(pattern, text, re.MULTILINE)
    return None if found is None else float(found[1])


def test_workers_end_with_their_parent(server: Server) -> None:
    pids = _workers(server)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    wait_for(lambda: not any(_runs(pid) for pid in pids), "the end of both workers")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # there may be no parent to reap it


def test_configuration_reaches_all_workers(server: Server, models: Path) -> None:
    code, details = failure(server.models.HandleReloadConfigRequest, reload_request(config_list()))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "--workers" in details
    new = model_config("new", models / "half_plus_two")
    server.write_config(config_list(new, model_config("gate", models / "gate")))
    wait_for(lambda: all(_answers(server, "new") for _ in range(12)), "the new model in both workers")
    wait_for(lambda: not any(_answers(server) for _ in range(12)), "the old model in none")


def test_dead_worker_is_replaced(server: Server) -> None:
    first, second = _workers(server)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: first not in _workers(server) and len(_workers(server)) == 2, "a new worker")
    assert second in _workers(server)
    wait_for(lambda: all(_answers(server) for _ in range(12)), "answers")


def test_all_workers_drain(server: Server, tmp_path: Path) -> None:
    targets = [Target(server.address) for _ in range(4)]
    try:
        with held(targets[0], tmp_path) as a, held(targets[1], tmp_path) as b, held(targets[2], tmp_path) as c:
            server.process.terminate()
            for request in (a, b, c):
                assert not request.call.done()
                request.release()
                assert list(request.result().outputs["y"].float_val) == [0.0]
        assert server.wait() == 0
    finally:
        for target in targets:
            target.close()
