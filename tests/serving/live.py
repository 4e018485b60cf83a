"""A model server in a separate process, as users run it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.client import RecommenderClient

ROOT = Path(__file__).resolve().parents[2]
# Importing TensorFlow on a busy machine takes most of it. A timeout is a failure, never a pass.
START_SECONDS = 180.0
_EXPORTING = "Exporting HTTP/REST API at:"
_READY = re.compile(r"Running gRPC ModelServer at 0\.0\.0\.0:(\d+) \.\.\.")


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits for a condition; a timeout fails the test."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def own_channel(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """A channel with its own connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)


class LiveServer:
    """``python -m serving.server`` on a free port."""

    def __init__(
        self,
        base_path: Path,
        *flags: str,
        model_name: str = "recommender",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.base_path = base_path
        self.model_name = model_name
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "serving.server",
                "--port=0",
                f"--model_name={model_name}",
                "--model_base_path",
                str(base_path),
                *flags,
            ],
            cwd=ROOT,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | dict(environment or {}),
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._port: int | None = None
        self._channel: grpc.Channel | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            self._channel.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the server did not stop on SIGTERM\n{self.text}") from None

    @property
    def text(self) -> str:
        """Everything logged so far."""
        return "".join(self.log)

    @property
    def address(self) -> str:
        """The server's address, once it is ready."""
        wait_for(lambda: self._port is not None or self.process.poll() is not None, START_SECONDS, self.text)
        assert self._port is not None, f"the server ended with {self.process.poll()}\n{self.text}"
        return f"localhost:{self._port}"

    @property
    def rest_port(self) -> int:
        """The port of the REST API, whose line in the log comes after gRPC's."""
        self.wait_for_log(_EXPORTING)
        found = re.search(rf"{_EXPORTING}localhost:(\d+) \.\.\.", self.text)
        assert found is not None
        return int(found[1])

    @property
    def channel(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = grpc.insecure_channel(
                self.address,
                options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
            )
        return self._channel

    @property
    def prediction(self) -> prediction_service_pb2_grpc.PredictionServiceStub:
        """The stub that TensorFlow Serving's own client package generates."""
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def models(self) -> model_service_pb2_grpc.ModelServiceStub:
        return model_service_pb2_grpc.ModelServiceStub(self.channel)

    def client(self, timeout: float = 30.0) -> RecommenderClient:
        return RecommenderClient(self.address, self.model_name, timeout=timeout)

    def states(self) -> dict[int, str]:
        with self.client() as client:
            return {version.version: version.state for version in client.status()}

    def wait_for_state(self, version: int, state: str, seconds: float = START_SECONDS) -> None:
        try:
            wait_for(lambda: self.states().get(version) == state, seconds, f"version {version} {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}, got {self.states()}\n{self.text}") from None

    def wait_for_log(self, part: str, seconds: float = START_SECONDS) -> None:
        wait_for(lambda: part in self.text, seconds, f"{part!r} in the log\n{self.text}")

    def terminate(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """The exit status."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server still runs after {seconds} s\n{self.text}") from None
        self._reader.join(5)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            found = _READY.search(line)
            if found:
                self._port = int(found[1])
