"""A recommendation service in a separate process."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import psutil

from benchmarks.harness.server import MODEL, Server, stop
from serving.service.api.access.keys import add_key
from serving.service.store import open_store

_BATCHING = "max_batch_size { value: 32 }\nbatch_timeout_micros { value: 0 }\nnum_batch_threads { value: 1 }"
_SESSION = "intra_op_parallelism_threads: 1\ninter_op_parallelism_threads: 2"
_PATIENCE = 120.0


def free_port() -> int:
    """A TCP port that nobody listens on at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def admin_key(url: str) -> str:
    """A new key of a store that may do everything."""
    with open_store(url) as store:
        return add_key(store, f"benchmark-{secrets.token_hex(4)}", "admin")


def model_server(version: Path, folder: Path) -> Server:
    """The model server behind the service, on a machine that both share with the clients."""
    return Server(version, folder, ["--enable_batching"], batching=_BATCHING, session=_SESSION)


def all_encoded(client: httpx.Client) -> bool:
    """Whether every item of the store is known to the service as the served version sees it."""
    time.sleep(0.05)
    return int(client.get("/v1/status").raise_for_status().json()["waiting_items"]) == 0


def until(client: httpx.Client, holds: Callable[[httpx.Client], bool]) -> float:
    """Milliseconds until something holds, asking again at once.

    Raises:
        RuntimeError: it took minutes.
    """
    began = time.perf_counter()
    while not holds(client):
        if time.perf_counter() - began > _PATIENCE:
            raise RuntimeError("it never came about")
    return 1000 * (time.perf_counter() - began)


class ServiceProcess:
    """``python -m serving.service`` on a free port.

    Args:
        store: Its address.
        model_server: Address of the model server.
        log: File for its log.
        flags: Further flags.
    """

    def __init__(self, store: str, model_server: str, log: Path, flags: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._log = log
        self._command = [
            *(sys.executable, "-m", "serving.service", f"--port={self.port}", f"--model_server={model_server}"),
            *(f"--model_name={MODEL}", "--key_limit=100000000/minute", *flags),
        ]
        self._environment = os.environ | {"BABELREC_STORE": store}
        self._process = self._start()

    def __enter__(self) -> "ServiceProcess":
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str) -> httpx.Client:
        """A client with a key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=30.0)

    def kill_and_restart(self) -> None:
        """Kills it (SIGKILL) and starts it again."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def wait(self, *, model: bool, seconds: float = 120.0) -> None:
        """Waits until it answers, with a model if ``model``; see `all_encoded` for the items."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                state = httpx.get(f"{self.url}/readyz", timeout=5.0).json()
                if state["ready"] and (not model or state["model_version"]):
                    return
            except (httpx.TransportError, ValueError):
                pass
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"the service did not start:\n{self._log.read_text(encoding='utf-8')[-2000:]}")

    def processor_seconds(self) -> float:
        """Processor time so far."""
        return float(sum(psutil.Process(self._process.pid).cpu_times()[:2]))

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
