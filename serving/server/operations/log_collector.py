"""Destinations of logged requests: collectors by type, and one that writes TFRecord files.

TensorFlow Serving's public server registers no collector type (``core/log_collector.cc``), so the types
are this server's own: ``file``, which is also the default.
"""

import contextlib
import itertools
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

import grpc

from serving.protos import log_collector_config_pb2
from serving.server.errors import StatusError, invalid_argument, not_found
from serving.server.operations.tfrecord import frame

_LOGGER = logging.getLogger(__name__)
_numbers = itertools.count()

# Called for each record with its tag and its resulting status code.
Report = Callable[[str, grpc.StatusCode], None]


class LogCollector(Protocol):
    """Collects serialised logs; must never block."""

    def collect(self, tag: str, record: bytes) -> None:
        """Takes one record; its result is reported under ``tag``."""
        ...

    def close(self, timeout: float) -> bool:
        """Persists everything taken so far; returns whether that succeeded in time."""
        ...


Factory = Callable[[log_collector_config_pb2.LogCollectorConfig, Report], LogCollector]


class FileLogCollector:
    """Writes TFRecord files ``<prefix>-<UTC time>-<host>-<pid>-<number>.tfrecord`` from a separate thread.

    A file is written under a hidden name (``.<name>.tmp``) and appears complete, synced to disk, under its
    final one: when it reaches its size or age, and at ``close``. Records that arrive while the queue is full
    are dropped and reported as RESOURCE_EXHAUSTED; after a failed write, as DATA_LOSS. Thread-safe.

    Args:
        prefix: path and beginning of the names; its directory is created.
        report: called for every record.
        max_file_bytes: a file that would outgrow this is finished first.
        max_file_seconds: a file this old is finished.
        max_queue_bytes: total size of queued records; a single larger one may still be queued alone.
        max_queue_records: number of queued records.

    Raises:
        StatusError: the prefix is empty or its directory can't be written to.
    """

    def __init__(
        self,
        prefix: str,
        report: Report,
        *,
        max_file_bytes: int = 256 << 20,
        max_file_seconds: float = 300.0,
        max_queue_bytes: int = 64 << 20,
        max_queue_records: int = 4096,
    ) -> None:
        check_prefix(prefix)
        self._prefix = Path(prefix)
        self._report = report
        self._max_file_bytes = max_file_bytes
        self._max_file_seconds = max_file_seconds
        self._max_queue_bytes = max_queue_bytes
        self._max_queue_records = max_queue_records
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, bytes]] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._thread: threading.Thread | None = None
        # Used only by the writing thread:
        self._file: _File | None = None
        self._complained = False

    def collect(self, tag: str, record: bytes) -> None:
        """Takes one record."""
        with self._changed:
            full = len(self._queue) >= self._max_queue_records or (
                self._queued_bytes and self._queued_bytes + len(record) > self._max_queue_bytes
            )
            if not full and not self._closing:
                self._queue.append((tag, record))
                self._queued_bytes += len(record)
                if self._thread is None:
                    # Not before the first record: a server may fork into workers after it reads its config.
                    self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
                    self._thread.start()
                self._changed.notify()
                return
        self._report(tag, grpc.StatusCode.RESOURCE_EXHAUSTED)

    def close(self, timeout: float) -> bool:
        """Writes the queued records and finishes the file; takes no more records."""
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing, self._seconds_left())
                batch = list(self._queue)
                closing = self._closing
            try:
                self._write(batch)
            except Exception:
                _LOGGER.exception("request log %s: unexpected failure", self._prefix)
            with self._changed:
                # Only now, so that the queue's bound holds for what is being written, too.
                for _, record in batch:
                    self._queue.popleft()
                    self._queued_bytes -= len(record)
            if closing or self._seconds_left() == 0:
                self._finish()

    def _seconds_left(self) -> float | None:
        if self._file is None:
            return None
        return max(self._file.opened + self._max_file_seconds - time.monotonic(), 0.0)

    def _write(self, batch: list[tuple[str, bytes]]) -> None:
        for tag, record in batch:
            data = frame(record)
            if self._file is not None and self._file.size + len(data) > self._max_file_bytes:
                self._finish()
            try:
                if self._file is None:
                    self._file = _File(self._prefix)
                self._file.append(data)
            except OSError as error:
                if not self._complained:
                    _LOGGER.error("request log %s can't be written, records are lost: %s", self._prefix, error)
                self._complained = True
                self._report(tag, grpc.StatusCode.DATA_LOSS)
                self._finish()
            else:
                self._complained = False
                self._report(tag, grpc.StatusCode.OK)

    def _finish(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.finish()
        except OSError as error:
            _LOGGER.error("request log %s can't be finished and stays hidden: %s", file.temporary, error)


class _File:
    """One file on its way to its final name."""

    def __init__(self, prefix: Path) -> None:
        self.opened = time.monotonic()
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now * 1e6) % 1_000_000:06d}"
        name = f"{prefix.name}-{stamp}-{socket.gethostname()}-{os.getpid()}-{next(_numbers)}.tfrecord"
        self.path = prefix.with_name(name)
        self.temporary = prefix.with_name(f".{name}.tmp")
        self.size = 0
        self._file: BinaryIO = self.temporary.open("xb", buffering=0)

    def append(self, data: bytes) -> None:
        """Writes all of ``data`` or, failing that, nothing."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self.size)
                self._file.seek(self.size)
            raise
        self.size += len(data)

    def finish(self) -> None:
        """Syncs the file to disk and gives it its final name; an empty one is removed."""
        with self._file as file:
            os.fsync(file.fileno())
        if not self.size:
            self.temporary.unlink()
            return
        self.temporary.rename(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def check_prefix(prefix: str) -> None:
    """Creates the directory of a file prefix and checks that files can be written there.

    Raises:
        StatusError: they can't.
    """
    path = Path(prefix)
    if not prefix or prefix.endswith("/") or not path.name:
        raise invalid_argument(
            f'log_collector_config.filename_prefix is "{prefix}"; give a directory and a file name prefix, '
            "such as /var/log/serving/requests"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StatusError(
            grpc.StatusCode.FAILED_PRECONDITION, f"the directory of filename_prefix {prefix} can't be created: {error}"
        ) from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StatusError(
            grpc.StatusCode.FAILED_PRECONDITION, f"the directory of filename_prefix {prefix} can't be written to"
        )


def _file_collector(config: log_collector_config_pb2.LogCollectorConfig, report: Report) -> LogCollector:
    return FileLogCollector(config.filename_prefix, report)


FACTORIES: Mapping[str, Factory] = {"": _file_collector, "file": _file_collector}


def factory_for(
    config: log_collector_config_pb2.LogCollectorConfig, factories: Mapping[str, Factory] = FACTORIES
) -> Factory:
    """The factory of a ``LogCollectorConfig``'s type.

    Raises:
        StatusError: NOT_FOUND, with TensorFlow Serving's message and the existing types.
    """
    factory = factories.get(config.type)
    if factory is None:
        known = ", ".join(f'"{kind}"' for kind in factories if kind)
        raise not_found(f"Cannot find LogCollector::Factory for type: {config.type} (this server has: {known})")
    return factory
