"""The machine's clock is set back and forth while a server serves."""

import contextlib
import json
import shutil
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serving.client import Query, RecommenderClient, ServingError
from tests.serving.live import LiveServer, wait_for
from tests.serving.models import copy_version

_SHIFT = Path(__file__).with_name("clock_shift.c")
_HOUR, _DAY = 3_600, 86_400
# A request's deadline; a server that waits for a clock that was set back would miss it.
_SECONDS = 60.0


@dataclass
class _Clock:
    """The clock of a server, which differs from the machine's."""

    file: Path
    now: int = 0

    def set(self, seconds: int) -> None:
        with self.file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))
        self.now = seconds


@dataclass
class _Load:
    """Requests one after another, until stopped."""

    address: str
    answers: int = 0
    faults: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        with RecommenderClient(self.address, timeout=_SECONDS, retry=None) as client:
            while not stop.is_set():
                try:
                    client.recommend(Query(query="x", k=1))
                    self.answers += 1
                except ServingError as error:
                    self.faults.append(str(error))


@contextlib.contextmanager
def _running(export: Path, tmp_path: Path, *flags: str) -> Iterator[tuple[LiveServer, _Clock]]:
    """A server with batching and its clock."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this machine: apt-get install gcc")
    library = tmp_path / "shift.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SHIFT, "-ldl"], check=True)
    clock = _Clock(tmp_path / "offset")
    clock.file.write_bytes(struct.pack("=q", 0))
    copy_version(export, tmp_path / "models" / "1")
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    given = ["--enable_batching", "--rest_api_port=-1", f"--monitoring_config_file={monitoring}", *flags]
    environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(clock.file)}
    with LiveServer(tmp_path / "models", *given, environment=environment) as server:
        yield server, clock


@pytest.fixture(params=["on", "off"])
def native(request: pytest.FixtureRequest) -> str:
    return f"--native_predict={request.param}"


def test_a_clock_that_jumps_costs_no_request(native: str, exports: dict[int, Path], tmp_path: Path) -> None:
    with _running(exports[1], tmp_path, native, "--file_system_poll_wait_seconds=1") as (server, clock):
        _jump(server, clock, exports[1])


def _jump(server: LiveServer, clock: _Clock, export: Path) -> None:
    server.wait_for_state(1, "AVAILABLE")
    load, stop = _Load(server.address), threading.Event()
    threads = [threading.Thread(target=load.run, args=(stop,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for shift in (-_HOUR, _DAY, -30 * _DAY, 0, -_HOUR):
            clock.set(shift)
            before = load.answers
            wait_for(lambda before=before: load.answers > before + 30, _SECONDS, f"answers at {shift} s")  # type: ignore[misc]
        # What was written "in the future" is loaded all the same.
        copy_version(export, server.base_path / "2")
        server.wait_for_state(2, "AVAILABLE")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert load.faults == []
    # It did see another time: the log is dated an hour ago.
    stamp = time.strftime("%Y-%m-%d %H", time.localtime(time.time() - _HOUR))
    assert any(stamp in line for line in server.log[-20:])
    page = urllib.request.urlopen(f"http://localhost:{server.rest_port}/metrics", timeout=_SECONDS).read().decode()
    values = [float(line.rpartition(" ")[2]) for line in page.splitlines() if line and not line.startswith("#")]
    assert values
    assert min(values) >= 0.0


def test_a_batch_that_was_open_when_the_clock_was_set_back_runs(
    native: str, exports: dict[int, Path], tmp_path: Path
) -> None:
    # Longer than anyone waits, so that the batch is surely open; shorter than an hour, so that it ends in the future.
    parameters = tmp_path / "batching.config"
    parameters.write_text("batch_timeout_micros { value: 2000000000 }")
    flags = [f"--batching_parameters_file={parameters}", "--enable_model_warmup=false"]
    with _running(exports[1], tmp_path, native, *flags) as (server, clock), ThreadPoolExecutor(1) as pool:
        url = f"http://localhost:{server.rest_port}/v1/models/recommender:predict"
        # The front does not answer REST: with it or without, two rows go through TensorFlow's queue.
        body = json.dumps({"signature_name": "encode_text", "instances": ["a", "글"]}).encode()
        answer = pool.submit(lambda: json.load(urllib.request.urlopen(url, body, timeout=_SECONDS)))

        def is_answered() -> bool:
            # The batch may not have been open yet the last time.
            clock.set(clock.now - _HOUR)
            return answer.done()

        wait_for(is_answered, _SECONDS, f"an answer after the clock was set back\n{server.text}")
        rows = answer.result()["predictions"]
        assert [sum(row) for row in rows] == [1.0, 1.0]
        server.wait_for_log("the clock was set back by ")
