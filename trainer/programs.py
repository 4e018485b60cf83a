"""Programs that a command starts and ends with itself."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from trainer import child
from trainer.errors import BabelrecError

_START_SECONDS: Final = 180.0
_END_SECONDS: Final = 60.0


class Program:
    """A module of this Python that runs while the block does; what it prints goes to a log.

    Ctrl+C of the terminal does not reach it: it ends when its block does, or with this process if that is killed. Enter
    the block in a thread that lives as long.

    Args:
        name: For messages.
        log: The file.
        arguments: The module's name, and its arguments.
        announcement: What it prints when it is ready; the first group is the answer of `wait`.
        environment: Variables in addition to this process's.
        ended: Set when it ends; default: an event of its own.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        arguments: Sequence[str],
        announcement: str,
        environment: Mapping[str, str] | None = None,
        ended: threading.Event | None = None,
    ) -> None:
        self.name, self.log = name, log
        self._command = child.command_of(arguments)
        self._announcement = re.compile(announcement)
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._ended = threading.Event() if ended is None else ended
        self._answered = threading.Event()
        self._answer: str | None = None

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"log of {self.name}", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # it is the first of its group
            self._process.wait()
        self._reader.join()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self) -> str:
        """What it announces when it is ready.

        Raises:
            BabelrecError: it ended before, or took too long.
        """
        self._answered.wait(_START_SECONDS)
        if self._answer is None:
            raise self.failure("did not start")
        return self._answer

    def failure(self, what: str) -> BabelrecError:
        """An error about it, with the last line of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n") if self.log.exists() else []
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        return BabelrecError(f"The {self.name} {what}; its log {self.log} ends with: {last[:500]}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout, self.log.open("wb") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                found = None if self._answer else self._announcement.search(line.decode(errors="replace"))
                if found is not None:
                    self._answer = found.group(1)
                    self._answered.set()
        self._process.wait()
        self._answered.set()
        self._ended.set()
