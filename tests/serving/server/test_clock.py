"""The machine's clock is set back and forth while a server serves."""

import shutil
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
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


@pytest.fixture(params=["on", "off"])
def running(
    request: pytest.FixtureRequest, exports: dict[int, Path], tmp_path: Path
) -> Iterator[tuple[LiveServer, _Clock]]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this machine: apt-get install gcc")
    library = tmp_path / "shift.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SHIFT, "-ldl"], check=True)
    clock = _Clock(tmp_path / "offset")
    clock.file.write_bytes(struct.pack("=q", 0))
    copy_version(exports[1], tmp_path / "models" / "1")
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = ["--enable_batching", f"--native_predict={request.param}", "--file_system_poll_wait_seconds=1"]
    flags += ["--rest_api_port=-1", f"--monitoring_config_file={monitoring}"]
    environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(clock.file)}
    with LiveServer(tmp_path / "models", *flags, environment=environment) as server:
        yield server, clock


def test_a_clock_that_jumps_costs_no_request(running: tuple[LiveServer, _Clock], exports: dict[int, Path]) -> None:
    server, clock = running
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
        copy_version(exports[1], server.base_path / "2")
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
