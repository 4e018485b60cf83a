"""Several server processes on one port: ``--workers``.

A process has one global interpreter lock; on machines with many cores several processes have higher throughput. Each
worker is a complete server with its own models. The kernel spreads connections over their listening sockets
(``SO_REUSEPORT``), so a client with one connection always talks to the same worker. This process holds the ports,
restarts workers that have died, and forwards signals.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.private import libc
from serving.server.operations.metric_values import Snapshot
from serving.server.operations.temporary import temporary_folder

_LOGGER = logging.getLogger(__name__)
_INDEX = "BABELREC_WORKER"
_PARENT = "BABELREC_WORKER_PARENT"
_READY = "BABELREC_WORKER_READY"
_FOLDER = "BABELREC_WORKER_FOLDER"
_POLL_SECONDS = 0.2
_SNAPSHOT_SECONDS = 1.0
_SUFFIX = ".json"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


@dataclass
class _Worker:
    index: int
    process: subprocess.Popen[bytes]
    ready: int
    is_ready: bool = False


def run_workers(
    count: int,
    ports: tuple[int, int],
    arguments: Sequence[str],
    is_stopping: Callable[[], bool],
    stop_seconds: float,
) -> int:
    """Runs several servers until asked to stop.

    Args:
        count: how many.
        ports: ``--port`` and ``--rest_api_port``. They must have been checked: ports that workers share could
            be shared with a process that already has them.
        arguments: the flags as given, for the workers.
        is_stopping: whether this process was asked to stop.
        stop_seconds: how long workers may take to stop.

    Returns:
        The exit status: 0 after a stop on request, 1 when the first workers could not start.

    Raises:
        OSError: a port is not available.
    """
    with contextlib.ExitStack() as stack:
        port = _reserve(stack, ports[0])
        rest = ports[1] and _reserve(stack, max(ports[1], 0))
        folder = str(stack.enter_context(temporary_folder("babelrec-workers-")))

        def start(index: int) -> _Worker:
            ready, notifier = os.pipe()
            own = [*arguments, "--workers=1", f"--port={port}", f"--rest_api_port={rest}"]
            if index:
                own.append("--grpc_socket_path=")  # a path can't be shared: the first worker has it
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.server", *own],
                env=os.environ
                | {_INDEX: str(index), _READY: str(notifier), _FOLDER: folder, _PARENT: str(os.getpid())},
                pass_fds=[notifier],
            )
            os.close(notifier)
            os.set_blocking(ready, False)
            return _Worker(index, process, ready)

        workers = [start(index) for index in range(count)]
        try:
            return _watch(workers, start, is_stopping)
        finally:
            _stop(workers, stop_seconds)


def _watch(workers: list[_Worker], start: Callable[[int], _Worker], is_stopping: Callable[[], bool]) -> int:
    pauses = dict.fromkeys(range(len(workers)), _FIRST_PAUSE)
    due: dict[int, float] = {}
    announced = False
    while not is_stopping():
        time.sleep(_POLL_SECONDS)
        for worker in workers:
            if not worker.is_ready and _is_ready(worker.ready):
                worker.is_ready = True
                pauses[worker.index] = _FIRST_PAUSE
            status = worker.process.poll()
            if status is None:
                continue
            if not announced and not worker.is_ready:
                _LOGGER.error("worker %d could not start (status %d); see its log", worker.index, status)
                return 1
            if worker.index not in due:
                pause = pauses[worker.index]
                _LOGGER.error("worker %d ended with status %d; restarting it in %g s", worker.index, status, pause)
                due[worker.index] = time.monotonic() + pause
                pauses[worker.index] = min(2 * pause, _LONGEST_PAUSE)
            elif time.monotonic() >= due[worker.index]:
                del due[worker.index]
                os.close(worker.ready)
                workers[worker.index] = start(worker.index)
        if not announced and all(worker.is_ready for worker in workers):
            announced = True
            _LOGGER.info("%d workers are serving", len(workers))
    return 0


def _stop(workers: Sequence[_Worker], seconds: float) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGTERM)
    # They exit by themselves within the grace period, including unloading; those that don't are stuck.
    deadline = time.monotonic() + seconds + 10.0
    for worker in workers:
        try:
            worker.process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            _LOGGER.error("worker %d did not exit in time; killing it", worker.index)
            worker.process.kill()
            worker.process.wait()
        os.close(worker.ready)


def _reserve(stack: contextlib.ExitStack, port: int) -> int:
    """Binds a port without listening on it, so that it stays ours while workers come and go."""
    holder = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("0.0.0.0", port))
    except OSError as error:
        raise OSError(f"cannot listen on 0.0.0.0:{port}: {error}") from None
    return int(holder.getsockname()[1])


def _is_ready(ready: int) -> bool:
    try:
        return bool(os.read(ready, 1))
    except BlockingIOError:
        return False


# Worker side.


def is_worker() -> bool:
    """Whether this process is one of several workers."""
    return _INDEX in os.environ


def end_with_parent() -> None:
    """Makes the kernel signal this worker to stop when its parent process is gone.

    Raises:
        SystemExit: it is gone already.
    """
    libc.signal_when_parent_ends(signal.SIGTERM)
    if os.getppid() != int(os.environ[_PARENT]):
        raise SystemExit("the process that started this worker is gone")


def notify_ready() -> None:
    """Notifies the parent process that this worker answers requests."""
    descriptor = os.environ.get(_READY)
    if descriptor is not None:
        os.write(int(descriptor), b"1")


def share_memory() -> bool:
    """Asks the kernel to keep identical pages of all workers, mainly weights, only once.

    It does so if it supports same-page merging (Linux 6.4 and later) and that is enabled
    (``echo 1 > /sys/kernel/mm/ksm/run``), some time after the weights are loaded.

    Returns:
        Whether the kernel accepted the request.
    """
    return libc.merge_pages()


class SharedSnapshots:
    """Metrics of all workers, shared through files in a folder: each writes its own and reads the others'.

    The file of a dead worker stays, so that its counts are not lost, except those of the last second.

    Args:
        snapshot: returns this worker's metrics.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._folder = Path(os.environ[_FOLDER])
        self._own = self._folder / f"{os.environ[_INDEX]}-{os.getpid()}{_SUFFIX}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def others(self) -> Iterator[tuple[Snapshot, bool]]:
        """The other workers' metrics, at most a second old, and whether they are alive."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path != self._own:
                with contextlib.suppress(OSError):
                    yield _read(path), _is_alive(int(path.stem.partition("-")[2]))

    def close(self) -> None:
        """Stops writing."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            aside = self._own.with_suffix(".new")
            with contextlib.suppress(OSError):
                aside.write_text(json.dumps({name: [*cells.items()] for name, cells in self._snapshot().items()}))
                aside.rename(self._own)
            if self._stop.wait(_SNAPSHOT_SECONDS):
                return


def _read(path: Path) -> Snapshot:
    return {
        name: {tuple(labels): tuple(value) if isinstance(value, list) else value for labels, value in cells}
        for name, cells in json.loads(path.read_text()).items()
    }


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
