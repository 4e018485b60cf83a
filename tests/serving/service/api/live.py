"""The service in a process of its own."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

_SECONDS = 60


class Live:
    """A running service; its log is read as it comes."""

    def __init__(self, store: str, *arguments: str, module: str = "tests.serving.service.api.live_server") -> None:
        self._command = [sys.executable, "-m", module, "--port", "0", *arguments]
        self._environment = dict(os.environ, BABELREC_STORE=store)
        self.lines: list[dict[str, Any]] = []
        self._ports: queue.Queue[int] = queue.Queue()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, env=self._environment, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.port = self._ports.get(timeout=_SECONDS)
        except queue.Empty:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit status."""
        return self._process.wait(_SECONDS)

    def wait_for(self, text: str) -> None:
        """Returns when a line with this message was logged."""
        deadline = time.monotonic() + _SECONDS
        while not any(text in line["message"] for line in self.lines):
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for text in self._process.stderr:
            line = json.loads(text)
            self.lines.append(line)
            if found := re.search(r"running on https?://\S*:(\d+)", line["message"]):
                self._ports.put(int(found.group(1)))
        self._process.stderr.close()
