"""A model server under test: started by any command line, or already running."""

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import grpc
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

ROOT = Path(__file__).resolve().parents[2]
# Generous: on a busy machine everything takes longer, and a timeout is a failure, never a pass.
SECONDS = 120.0
COMMAND = os.environ.get("BABELREC_CONFORMANCE_SERVER", "")
ADDRESS = os.environ.get("BABELREC_CONFORMANCE_ADDRESS", "")
IS_BABELREC = "serving.server" in COMMAND or "babelrec" in COMMAND if COMMAND else not ADDRESS
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
State = get_model_status_pb2.ModelVersionStatus


def wait_for(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Waits for a condition; a timeout fails the test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """TCP ports that are currently free."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


@dataclass(frozen=True)
class Answer:
    """An HTTP response with its body decompressed; those of ``Target`` have header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error's JSON document, which contains nothing else."""
        document = self.json
        assert list(document) == ["error"], document
        return str(document["error"])


class Target:
    """Addresses of a server and the clients for them: gRPC's own stubs and plain HTTP."""

    def __init__(
        self, address: str, rest_address: str = "", credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.address = address
        self.rest_address = rest_address
        self._credentials = credentials

    @cached_property
    def channel(self) -> grpc.Channel:
        if self._credentials is not None:
            return grpc.secure_channel(self.address, self._credentials, options=_UNLIMITED)
        return grpc.insecure_channel(self.address, options=_UNLIMITED)

    @cached_property
    def prediction(self) -> Any:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @cached_property
    def models(self) -> Any:
        return model_service_pb2_grpc.ModelServiceStub(self.channel)

    def raw(self, method: str) -> Any:
        """A method that takes and returns bytes."""
        make: Any = self.channel.unary_unary
        return make(method)

    def predict(self, model: str, inputs: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """The outputs of a good request as arrays."""
        response = self.prediction.Predict(predict_request(model, inputs, **options), timeout=SECONDS)
        return {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}

    def states(self, model: str) -> dict[int, Any]:
        """ModelVersionStatus by version; empty for a model unknown to the server."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            response = self.models.GetModelStatus(request, timeout=SECONDS)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return {}
        return {status.version: status for status in response.model_version_status}

    def available(self, model: str) -> list[int]:
        """The versions that answer requests, sorted."""
        return sorted(v for v, status in self.states(model).items() if status.state == State.AVAILABLE)

    def wait_for_available(self, model: str, *versions: int) -> None:
        wait_for(lambda: self.available(model) == list(versions), f"{model} {versions}")

    def wait_for_state(self, model: str, version: int, state: int) -> Any:
        """Waits until a version is in a state; returns its status."""
        found: list[Any] = []

        def is_there() -> bool:
            found[:] = [status for v, status in self.states(model).items() if v == version]
            return bool(found) and found[0].state == state

        wait_for(is_there, f"version {version} of {model} in state {State.State.Name(state)}")
        return found[0]

    def reload(self, config: str, timeout: float = SECONDS) -> Any:
        """HandleReloadConfigRequest with a ModelServerConfig in text form."""
        return self.models.HandleReloadConfigRequest(reload_request(config), timeout=timeout)

    def rest(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """An HTTP request; a body other than bytes, text or None is sent as JSON."""
        host, _, port = self.rest_address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
        data = body if body is None or isinstance(body, bytes | str) else json.dumps(body)
        try:
            connection.request(method, path, data.encode() if isinstance(data, str) else data, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def post(self, path: str, body: object) -> Any:
        """The JSON response to a good REST request."""
        answer = self.rest("POST", path, body)
        assert answer.status == 200, answer
        assert answer.headers["content-type"] == "application/json"
        return answer.json

    def close(self) -> None:
        if "channel" in self.__dict__:
            self.channel.close()


class Server(Target):
    """A separate server process on free ports.

    Args:
        flags: all except the ports.
        config: a ModelServerConfig in text form, written to a file and given as ``--model_config_file``.
        credentials: how clients connect.
        ports: instead of free ones.
    """

    def __init__(
        self,
        *flags: str,
        config: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        ports: Sequence[int] | None = None,
    ) -> None:
        self.ports = list(ports or free_ports(2))
        super().__init__(f"localhost:{self.ports[0]}", f"localhost:{self.ports[1]}", credentials)
        self._folder = tempfile.TemporaryDirectory()
        self.config_file = Path(self._folder.name) / "models.config"
        command = [*_command(), f"--port={self.ports[0]}", f"--rest_api_port={self.ports[1]}", *flags]
        if config is not None:
            self.write_config(config)
            command.append(f"--model_config_file={self.config_file}")
        with Path(self._folder.name, "log").open("wb") as log:
            environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the server did not stop on SIGTERM\n{self.log}") from None
        self._folder.cleanup()

    @property
    def log(self) -> str:
        """The output of the process so far."""
        return Path(self._folder.name, "log").read_text(encoding="utf-8", errors="replace")

    def write_config(self, config: str) -> None:
        """Replaces the configuration file atomically."""
        aside = self.config_file.with_suffix(".new")
        aside.write_text(config, encoding="utf-8")
        aside.rename(self.config_file)

    def wait_until_ready(self) -> Self:
        """Waits for both ports; a server that exits instead fails the test."""
        for port in self.ports:
            wait_for(lambda port=port: self._is_open(port), f"port {port}")  # type: ignore[misc]
        grpc.channel_ready_future(self.channel).result(SECONDS)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit status of a process that is about to exit."""
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server is still running after {SECONDS:g} s\n{self.log}") from None

    def _is_open(self, port: int) -> bool:
        status = self.process.poll()
        assert status is None, f"the server exited with {status}\n{self.log}"
        return is_listening(port)


def is_listening(port: int) -> bool:
    """Whether a connection to a local port is accepted."""
    try:
        socket.create_connection(("localhost", port), 1).close()
    except OSError:
        return False
    return True


def run_to_end(*flags: str, config: str | None = None) -> tuple[int, str]:
    """Exit status and output of a server that can't start."""
    with Server(*flags, config=config) as server:
        status = server.wait()
        return status, server.log


def predict_request(
    model: str,
    inputs: Mapping[str, Any],
    *,
    signature: str = "",
    version: int | None = None,
    label: str | None = None,
    outputs: Sequence[str] = (),
) -> Any:
    """A PredictRequest; inputs that are not TensorProtos become some."""
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(value if isinstance(value, tensor_pb2.TensorProto) else tensor(value))
    return request


def tensor(values: object, dtype: object = None) -> Any:
    """A TensorProto of values; floats are single precision unless ``dtype`` says otherwise."""
    if dtype is None and not hasattr(values, "dtype"):
        dtype = tf.float32 if _first(values) is float else None
    return tf.make_tensor_proto(values, dtype)


def reload_request(config: str) -> Any:
    """A ReloadConfigRequest of a ModelServerConfig in text form."""
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, request.config)
    return request


def failure(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    """Status and message of an RPC that is expected to fail."""
    try:
        response = call(request, timeout=SECONDS)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"no failure: {response}")


def model_config(name: str, base_path: Path | str, rest: str = "") -> str:
    """One entry of a ``model_config_list`` in text form."""
    return f"config {{ name: '{name}' base_path: '{base_path}' model_platform: 'tensorflow' {rest} }}\n"


def config_list(*entries: str) -> str:
    """A ModelServerConfig in text form."""
    return f"model_config_list {{ {''.join(entries)} }}"


class Predicts(Protocol):
    """A server that answers Predict."""

    @property
    def prediction(self) -> Any:
        """The stub of PredictionService."""
        ...


@contextmanager
def held(target: Predicts, folder: Path, model: str = "gate", rows: int = 1, **options: object) -> Iterator["Held"]:
    """A request that is inside the model until it is released."""
    request = Held(target, folder, model, rows, **options)
    try:
        request.wait_until_inside()
        yield request
    finally:
        request.release()


class Held:
    """A request to the signature ``wait``; see ``models.export_gate``."""

    _count = 0

    def __init__(self, target: Predicts, folder: Path, model: str = "gate", rows: int = 1, **options: Any) -> None:
        Held._count += 1
        self.started = folder / f"started-{Held._count}"
        self.released = folder / f"released-{Held._count}"
        inputs = {"started": [str(self.started)] * rows, "released": [str(self.released)] * rows}
        request = predict_request(model, inputs, signature="wait", **options)
        self.call = target.prediction.Predict.future(request, timeout=2 * SECONDS)

    def wait_until_inside(self) -> None:
        wait_for(lambda: self.started.exists() or self.call.done(), "a request in the model")
        assert not self.call.done(), self.call.exception()

    def release(self) -> None:
        self.released.touch()

    def result(self) -> Any:
        """The response after the release."""
        return self.call.result(SECONDS)


def _command() -> list[str]:
    return shlex.split(COMMAND) if COMMAND else [sys.executable, "-m", "serving.server"]


def _first(values: object) -> type:
    while isinstance(values, list | tuple) and values:
        values = values[0]
    return type(values)
