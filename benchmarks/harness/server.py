"""A model server in a separate process, with its processor time and memory."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from serving.client import RecommenderClient
from trainer.errors import BabelrecError

_REST = re.compile(r"Exporting HTTP/REST API at:localhost:(\d+)")
MODEL = "recommender"
"""Name of the served model."""


def newest_version(model_dir: Path) -> Path:
    """The directory of a model's newest version.

    Raises:
        BabelrecError: there is none.
    """
    versions = [path for path in model_dir.glob("[0-9]*") if path.name.isdigit()]
    if not versions:
        raise BabelrecError(f"No version directory under {model_dir}. Remedy: run `make demo`.")
    return max(versions, key=lambda path: int(path.name))


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process by SIGTERM and waits for it.

    Raises:
        subprocess.TimeoutExpired: it did not end within a minute, and was killed.
    """
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


class Server:
    """``python -m serving.server`` on a copy of one version of a model.

    Args:
        source: The version's directory.
        folder: Folder for the copy, settings and log.
        flags: Flags of the server.
        batching: Text proto of its batching parameters.
        session: Text proto of its session settings.
    """

    def __init__(self, source: Path, folder: Path, flags: Sequence[str], *, batching: str, session: str) -> None:
        self._source = source
        self._base = folder / "models"
        self._base.mkdir()
        self._log = folder / "server.log"
        files = []
        for flag, content in {"batching_parameters_file": batching, "tensorflow_session_config_file": session}.items():
            path = folder / f"{flag}.txt"
            path.write_text(content, encoding="utf-8")
            files.append(f"--{flag}={path}")
        self.add_version(1)
        began = time.monotonic()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "serving.server",
                    "--port=0",
                    f"--model_name={MODEL}",
                    f"--model_base_path={self._base}",
                    *files,
                    *flags,
                ],
                stderr=log,
            )
        self.address = f"localhost:{self._wait_for_port()}"
        self.start_seconds = time.monotonic() - began

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)

    def add_version(self, version: int) -> None:
        """Adds a copy of the model as another version, atomically."""
        aside = self._base / f".{version}"
        shutil.copytree(self._source, aside, copy_function=os.link)
        aside.rename(self._base / str(version))

    def wait_for_version(self, version: int) -> float:
        """Waits until the version is available; returns ``time.monotonic()`` at that time."""
        with RecommenderClient(self.address, MODEL, timeout=60) as client:
            while not any(s.version == version and s.state == "AVAILABLE" for s in client.status()):
                time.sleep(0.2)
        return time.monotonic()

    def remove_version(self, version: int) -> None:
        """Removes a version's directory."""
        shutil.rmtree(self._base / str(version))

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def port(self) -> int:
        """The gRPC port."""
        return int(self.address.rpartition(":")[2])

    def rest_port(self) -> int:
        """The REST port, requested by ``--rest_api_port``; waits for it."""
        while True:
            found = _REST.search(self._log.read_text(encoding="utf-8"))
            if found is not None:
                return int(found[1])
            time.sleep(0.1)

    def figures(self) -> dict[str, int]:
        """Memory in bytes, descriptors and threads of the server's processes."""
        processes = self._processes()
        return {
            "memory": self.memory(),
            "descriptors": sum(process.num_fds() for process in processes),
            "threads": sum(process.num_threads() for process in processes),
        }

    def processor_seconds(self) -> float:
        """Processor time of the server's processes so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def memory(self) -> int:
        """Resident bytes of the server's processes."""
        return sum(process.memory_info().rss for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def _wait_for_port(self) -> int:
        while self._process.poll() is None:
            for line in self._log.read_text(encoding="utf-8").splitlines():
                if "Running gRPC ModelServer at 0.0.0.0:" in line:
                    return int(line.split("0.0.0.0:")[1].split()[0])
            time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{self._log.read_text(encoding='utf-8')[-2000:]}")
