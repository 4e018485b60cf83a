"""A recommendation service in a separate process."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil

from benchmarks.harness.server import MODEL, stop
from serving.service.api.access.keys import add_key
from serving.service.store import open_store


def free_port() -> int:
    """A TCP port that nobody listens on at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def admin_key(url: str) -> str:
    """A new key of a store that may do everything."""
    with open_store(url) as store:
        return add_key(store, f"benchmark-{secrets.token_hex(4)}", "admin")


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

    def kill_and_restart(self) -> None:
        """Kills it (SIGKILL) and starts it again."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def wait(self, *, model: bool, seconds: float = 120.0) -> None:
        """Waits until it answers, with a model if ``model`` and all items encoded."""
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
