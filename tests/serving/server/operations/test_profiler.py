"""Profiles captured by TensorFlow's own client from a server with a real SavedModel; and server reflection."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from serving.proto import profiler_service_pb2, profiler_service_pb2_grpc
from serving.server.api.reflection import add_reflection
from serving.server.lifecycle.health import add_health
from serving.server.lifecycle.states import ServableStateMonitor
from serving.server.operations.profiler import add_profiler

_OWN_NAME = "very_own_product"
_MODEL_SERVER = """
import sys
import threading
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
import grpc
import numpy as np
from serving.protos import config_pb2
from serving.server.operations.profiler import add_profiler
from serving.server.execution.saved_model import SavedModelServable
from serving.tensors import to_proto

servable = SavedModelServable(Path(sys.argv[1]), ["serve"], config_pb2.ConfigProto())
server = grpc.server(ThreadPoolExecutor(2))
profiler = add_profiler(server)
print(server.add_insecure_port("localhost:0"), flush=True)
server.start()
x = to_proto(np.ones((400, 400), np.float32))
ended = threading.Event()
def run():
    while not ended.is_set():
        servable.run("serving_default", {"x": x}, ["y"])
thread = threading.Thread(target=run)
thread.start()
sys.stdin.readline()
profiler.shutdown()
server.stop(5).wait()
ended.set()
thread.join()
servable.close()
print("tensorflow" in sys.modules, flush=True)
"""


class _Product(tf.Module):
    def product(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(x, x + 1.0, name=_OWN_NAME)}


@pytest.fixture(scope="module")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process without TensorFlow's package, whose model runs continuously; and its address."""
    path = tmp_path_factory.mktemp("product") / "1"
    module = _Product()
    function = tf.function(module.product).get_concrete_function(x=tf.TensorSpec([None, None], tf.float32, "x"))
    tf.saved_model.save(module, str(path), signatures={"serving_default": function})
    with subprocess.Popen(
        [sys.executable, "-c", _MODEL_SERVER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit(), "the server did not start"
        yield process, f"localhost:{port}"
        output, _ = process.communicate("stop\n", timeout=30)
        assert process.returncode == 0
        assert output.strip() == "False", "the server has imported TensorFlow's package"


@pytest.fixture(scope="module")
def stub(model_server: Any) -> Iterator[Any]:
    with grpc.insecure_channel(model_server[1]) as channel:
        yield profiler_service_pb2_grpc.ProfilerServiceStub(channel)


def _request(directory: Path, session: str, milliseconds: int) -> Any:
    request = profiler_service_pb2.ProfileRequest(
        repository_root=str(directory), session_id=session, host_name="localhost:8500"
    )
    request.opts.version = 1
    request.opts.host_tracer_level = 2
    request.opts.duration_ms = milliseconds
    return request


def _failure(call: Any, request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    return caught.value


def test_tensorflow_client_captures_the_models_ops(model_server: Any, tmp_path: Path) -> None:
    tf.profiler.experimental.client.trace(f"grpc://{model_server[1]}", str(tmp_path), 500)
    (written,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert written.name == f"{model_server[1].replace(':', '_')}.xplane.pb"
    planes = {plane.name: plane for plane in xplane_pb2.XSpace.FromString(written.read_bytes()).planes}
    host = planes["/host:CPU"]
    names = [host.event_metadata[event.metadata_id].name for line in host.lines for event in line.events]
    assert sum(_OWN_NAME in name for name in names) > 10


def _code(stub: Any, directory: Path) -> Any:
    """The result of a very short recording."""
    return stub.Profile.future(_request(directory, "probe", 1), timeout=30).code()


def _begin(stub: Any, directory: Path, session: str) -> Any:
    """Starts a recording of ten minutes and waits until it is running."""
    deadline = time.monotonic() + 30
    recording = stub.Profile.future(_request(directory, session, 600_000), timeout=60)
    while _code(stub, directory) is not grpc.StatusCode.INTERNAL:
        assert time.monotonic() < deadline, "no recording was begun"
        if recording.done():  # the probe came first
            recording = stub.Profile.future(_request(directory, session, 600_000), timeout=60)
    assert not recording.done()
    return recording


def test_terminate_ends_a_recording(stub: Any, tmp_path: Path) -> None:
    recording = _begin(stub, tmp_path, "long")
    stub.Terminate(profiler_service_pb2.TerminateRequest(session_id="another"), timeout=10)
    assert _code(stub, tmp_path) is grpc.StatusCode.INTERNAL
    time.sleep(2.0)  # runs during this time should be in it
    stub.Terminate(profiler_service_pb2.TerminateRequest(session_id="long"), timeout=10)
    assert not recording.result(timeout=30).empty_trace
    (written,) = (tmp_path / "long").iterdir()
    assert written.name == "localhost_8500.xplane.pb"
    assert _OWN_NAME.encode() in written.read_bytes()


def test_one_recording_at_a_time(stub: Any, tmp_path: Path) -> None:
    recording = _begin(stub, tmp_path, "first")
    other = _failure(stub.Profile, _request(tmp_path, "second", 1))
    assert other.code() is grpc.StatusCode.INTERNAL
    assert "profiling session active" in str(other.details())
    again = _failure(stub.Profile, _request(tmp_path, "first", 1))
    assert again.code() is grpc.StatusCode.ALREADY_EXISTS
    stub.Terminate(profiler_service_pb2.TerminateRequest(session_id="first"), timeout=10)
    recording.result(timeout=30)


def test_a_disconnected_client_ends_its_recording(stub: object, tmp_path: Path) -> None:
    _begin(stub, tmp_path, "gone").cancel()
    deadline = time.monotonic() + 30
    while _code(stub, tmp_path) is not grpc.StatusCode.OK:
        assert time.monotonic() < deadline, "the recording is still running"
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("field", "value", "reported"),
    [
        ("repository_root", "", "must be a directory"),
        ("repository_root", "gs://bucket/logs", "must be a directory"),
        ("session_id", "../up", "session_id"),
        ("session_id", "", "session_id"),
        ("host_name", "..", "host_name"),
        ("host_name", "a/b", "host_name"),
    ],
)
def test_invalid_places_to_write(stub: Any, tmp_path: Path, field: str, value: str, reported: str) -> None:
    request = _request(tmp_path, "s", 1)
    setattr(request, field, value)
    failure = _failure(stub.Profile, request)
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reported in str(failure.details())


def test_directory_that_is_not_writable(stub: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failure = _failure(stub.Profile, _request(tmp_path / "file", "s", 1))
    assert failure.code() is grpc.StatusCode.INTERNAL
    assert "cannot write" in str(failure.details())


def test_monitor_is_unimplemented_as_in_tensorflow(stub: Any) -> None:
    failure = _failure(stub.Monitor, profiler_service_pb2.MonitorRequest(duration_ms=10))
    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED


def test_shutdown_ends_recordings_and_refuses_others(tmp_path: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    profiler = add_profiler(server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        stub = profiler_service_pb2_grpc.ProfilerServiceStub(channel)
        recording = _begin(stub, tmp_path, "s")
        profiler.shutdown()
        recording.result(timeout=30)
        assert (tmp_path / "s" / "localhost_8500.xplane.pb").exists()
        assert _failure(stub.Profile, _request(tmp_path, "t", 1)).code() is grpc.StatusCode.UNAVAILABLE
    server.stop(None).wait()


def _api_file(name: str) -> FileDescriptorProto:
    """The definition in the API package's own module, which can't be imported: extracted from its source."""
    import ast

    import tensorflow_serving

    source = Path(tensorflow_serving.__path__[0], "apis", f"{name}_pb2.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            assert isinstance(node.value, ast.Call)
            text = ast.literal_eval(node.value.args[0])
            return FileDescriptorProto.FromString(text.encode("latin1"))
    raise AssertionError(f"{name}_pb2 has no serialized_pb")


@pytest.fixture(scope="module")
def reflected() -> Iterator[ProtoReflectionDescriptorDatabase]:
    server = grpc.server(ThreadPoolExecutor(1))
    add_profiler(server)
    add_health(server, ServableStateMonitor())
    add_reflection(
        server,
        [
            "tensorflow.serving.PredictionService",
            "tensorflow.serving.ModelService",
            "tensorflow.ProfilerService",
            "grpc.health.v1.Health",
        ],
    )
    port = server.add_insecure_port("localhost:0")
    server.start()
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        yield ProtoReflectionDescriptorDatabase(channel)
    server.stop(None).wait()


def test_reflection_lists_the_services(reflected: ProtoReflectionDescriptorDatabase) -> None:
    assert sorted(reflected.get_services()) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "tensorflow.ProfilerService",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    ]


@pytest.mark.parametrize("name", ["prediction_service", "model_service"])
def test_reflection_describes_what_the_api_package_defines(
    reflected: ProtoReflectionDescriptorDatabase, name: str
) -> None:
    wanted = _api_file(name)
    (service,) = wanted.service
    got = reflected.FindFileContainingSymbol(f"{wanted.package}.{service.name}")
    assert got.name == wanted.name
    assert list(got.service) == [service]
    assert sorted(got.dependency) == sorted(wanted.dependency)


def test_reflected_messages_can_be_created_and_read(reflected: ProtoReflectionDescriptorDatabase) -> None:
    from google.protobuf import message_factory

    pool = descriptor_pool.DescriptorPool(reflected)
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    predict = service.FindMethodByName("Predict")
    request: Any = message_factory.GetMessageClass(predict.input_type)()
    request.model_spec.name = "日本"
    request.inputs["x"].float_val.append(0.5)
    from tensorflow_serving.apis import predict_pb2

    same = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert same.model_spec.name == "日本"
    assert list(same.inputs["x"].float_val) == [0.5]
    for name in ("tensorflow.ProfilerService", "grpc.health.v1.Health"):
        assert len(pool.FindServiceByName(name).methods) >= 2
    # What GetModelMetadata packs into an Any.
    assert pool.FindMessageTypeByName("tensorflow.serving.SignatureDefMap")


def test_open_reflection_sessions_do_not_block_requests() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    add_reflection(server, [])
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"Echo": echo}),))
    port = server.add_insecure_port("localhost:0")
    server.start()
    closing = threading.Event()

    def questions() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        closing.wait(60)

    with grpc.insecure_channel(f"localhost:{port}") as channel:
        sessions = [reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(questions()) for _ in "12"]
        for session in sessions:
            (service,) = next(session).list_services_response.service
            assert service.name == "grpc.reflection.v1alpha.ServerReflection"
        call: Any = channel.unary_unary("/Echo/Echo", request_serializer=bytes, response_deserializer=bytes)
        assert call(b"x", timeout=20) == b"x"
        closing.set()
    server.stop(None).wait()


def test_unknown_service() -> None:
    with pytest.raises(KeyError):
        add_reflection(grpc.server(ThreadPoolExecutor(1)), ["no.such.Service"])
