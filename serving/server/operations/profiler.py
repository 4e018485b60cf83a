"""``tensorflow.ProfilerService``, with which TensorBoard captures a profile from a running server.

It works like TensorFlow's own service (``xla/tsl/profiler/rpc/profiler_service_impl.cc``), with the same
``tsl::ProfilerSession`` of the library that runs the models. That class is C++; the few functions that are
needed are exported by ``libtensorflow_framework.so.2`` and called by their mangled names. If another TensorFlow
lacks one, a capture returns UNIMPLEMENTED and nothing else is affected. (TensorFlow's Python binding to the class
ignores its options and imports the whole package into the process; its ready-made server would listen on all addresses
without TLS.)
"""

import ctypes
import functools
import importlib.util
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_bool, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc

from serving.proto import profiler_service_pb2
from serving.runtime.c_api import Status, TensorFlowError, library
from serving.server.errors import StatusError, from_exception, invalid_argument
from serving.server.operations.admin import Admission

SERVICE = "tensorflow.ProfilerService"
_LOGGER = logging.getLogger(__name__)
_FRAMEWORK = "libtensorflow_framework.so.2"
# One capture, the request that ends it, and one that is refused because a capture is running.
_THREADS = 3
_POLL_SECONDS = 0.05


class _Object(Structure):
    """A non-trivial value returned by a C++ function: an absl::Status, a std::unique_ptr.

    The caller allocates it and passes its address, which ctypes also does for structures of this size.
    The objects themselves are one pointer wide.
    """

    _fields_ = [("value", c_void_p), ("_room", c_uint64 * 7)]


_P = c_void_p
_FUNCTIONS: dict[str, tuple[str, Any, list[Any]]] = {
    "new_options": ("_ZN6google8protobuf5Arena16DefaultConstructIN10tensorflow14ProfileOptionsEEEPvPS1_", _P, [_P]),
    "delete_options": ("_ZN10tensorflow14ProfileOptionsD0Ev", None, [_P]),
    "parse": ("_ZN6google8protobuf11MessageLite14ParseFromArrayEPKvi", c_bool, [_P, c_char_p, c_int]),
    "new_space": ("_ZN6google8protobuf5Arena16DefaultConstructIN10tensorflow8profiler6XSpaceEEEPvPS1_", _P, [_P]),
    "delete_space": ("_ZN10tensorflow8profiler6XSpaceD0Ev", None, [_P]),
    "space_size": ("_ZNK10tensorflow8profiler6XSpace12ByteSizeLongEv", c_size_t, [_P]),
    "space_is_empty": ("_ZN3tsl8profiler7IsEmptyERKN10tensorflow8profiler6XSpaceE", c_bool, [_P]),
    "serialize": ("_ZNK6google8protobuf11MessageLite16SerializeToArrayEPvi", c_bool, [_P, _P, c_int]),
    "create_session": ("_ZN3tsl15ProfilerSession6CreateERKN10tensorflow14ProfileOptionsE", _Object, [_P]),
    "session_status": ("_ZN3tsl15ProfilerSession6StatusEv", _Object, [_P]),
    "collect": ("_ZN3tsl15ProfilerSession11CollectDataEPN10tensorflow8profiler6XSpaceE", _Object, [_P, _P]),
    "destroy_session": ("_ZN3tsl15ProfilerSessionD1Ev", None, [_P]),
    "free": ("_ZdlPv", None, [_P]),
    "copy_status": (
        "_ZN3tsl25Set_TF_Status_from_StatusEP10TSL_StatusRKN4absl12lts_202501276StatusE",
        None,
        [_P, POINTER(_Object)],
    ),
}


def add_profiler(server: grpc.Server, admission: Admission | None = None) -> "Profiler":
    """Adds the profiler service to a server that has not been started, with its own threads.

    Profile records the server's models and writes ``<repository_root>/<session_id>/<host>.xplane.pb`` to a directory of
    THIS machine that the client names, as TensorBoard and TensorFlow's client expect.
    Terminate ends a recording early. Monitor is for TPUs and unimplemented, as it is in TensorFlow.

    Args:
        server: where to add it.
        admission: who may record; None: clients on this machine.

    Returns:
        The service, to be shut down when draining begins.
    """
    admission = admission or Admission()
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="profiler")
    service = Profiler()
    methods: dict[str, tuple[Callable[[Any, grpc.ServicerContext], Any], Any]] = {
        "Profile": (service.profile, profiler_service_pb2.ProfileRequest),
        "Terminate": (service.terminate, profiler_service_pb2.TerminateRequest),
        "Monitor": (service.monitor, profiler_service_pb2.MonitorRequest),
    }
    handlers = {name: _handler(method, request, pool, admission, name) for name, (method, request) in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return service


def _handler(
    method: Callable[[Any, grpc.ServicerContext], Any],
    request_type: Any,
    pool: ThreadPoolExecutor,
    admission: Admission,
    name: str,
) -> grpc.RpcMethodHandler:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            admission.check(context, f"ProfilerService.{name}")
            return method(request, context)
        except StatusError as error:
            failure = error
        except Exception as error:
            _LOGGER.exception("unexpected failure of the profiler")
            failure = from_exception(error)
        context.abort(failure.code, failure.grpc_details)
        raise AssertionError("abort raises")

    answer.__dict__.update(experimental_thread_pool=pool)
    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request_type.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


class Profiler:
    """Answers the service's requests; see ``add_profiler``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, threading.Event] = {}
        self._is_shut_down = False

    def shutdown(self) -> None:
        """Ends recordings early, keeping what they have, and refuses new ones."""
        with self._lock:
            self._is_shut_down = True
            for ended in self._running.values():
                ended.set()

    def profile(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Records and writes a ``ProfileRequest``'s profile."""
        path = _target(request)
        ended = threading.Event()
        with self._lock:
            if self._is_shut_down:
                raise StatusError(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            if request.session_id in self._running:
                raise StatusError(grpc.StatusCode.ALREADY_EXISTS, f"session {request.session_id!r} is being recorded")
            self._running[request.session_id] = ended
        try:
            with _session(request.opts.SerializeToString()) as session:
                deadline = time.monotonic() + request.opts.duration_ms / 1000
                while (left := deadline - time.monotonic()) > 0 and not ended.wait(min(left, _POLL_SECONDS)):
                    if not context.is_active():
                        raise StatusError(grpc.StatusCode.CANCELLED, "the client is gone")
                content, is_empty = _collect(session)
        except TensorFlowError as error:
            # TensorFlow's service answers all failures this way.
            raise StatusError(grpc.StatusCode.INTERNAL, error.message) from None
        finally:
            with self._lock:
                del self._running[request.session_id]
        _write(path, content)
        _LOGGER.info("profile of %d bytes written to %s", len(content), path)
        return profiler_service_pb2.ProfileResponse(empty_trace=is_empty)

    def terminate(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Ends the recording of a ``TerminateRequest``; it is not an error if there is none."""
        with self._lock:
            ended = self._running.get(request.session_id)
        if ended is not None:
            ended.set()
        return profiler_service_pb2.TerminateResponse()

    def monitor(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Refuses."""
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, "unimplemented.")


def _target(request: Any) -> Path:
    root = request.repository_root
    if not root or "://" in root:
        raise invalid_argument(
            f"repository_root must be a directory that the server can write to, not {root!r}: the profile is written "
            "by the server. Remedy: give TensorBoard a log directory that both machines share"
        )
    for field in ("session_id", "host_name"):
        value = getattr(request, field)
        if "/" in value or "\0" in value or value in ("", ".", ".."):
            raise invalid_argument(f"{field} must be the name of a file, not {value!r}")
    # Colons, as in localhost:8500, are not allowed in file names everywhere.
    return Path(root, request.session_id, f"{request.host_name}.xplane.pb".replace(":", "_"))


def _write(path: Path, content: memoryview) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StatusError(grpc.StatusCode.INTERNAL, f"cannot write {path}: {error.strerror}") from None


@functools.cache
def _runtime() -> Any:
    library()  # loads the framework too
    package = importlib.util.find_spec("tensorflow")
    assert package is not None
    assert package.submodule_search_locations is not None
    framework = ctypes.CDLL(str(Path(package.submodule_search_locations[0], _FRAMEWORK)), mode=ctypes.RTLD_LOCAL)
    functions = SimpleNamespace()
    for name, (symbol, result, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(framework, symbol)
        except AttributeError:
            version = library().TF_Version().decode()
            raise StatusError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"TensorFlow {version} has no {symbol}, needed to profile. Remedy: `pip install tensorflow~=2.20.0`",
            ) from None
        function.restype = result
        function.argtypes = arguments
        setattr(functions, name, function)
    return functions


def _check(status: _Object) -> None:
    # absl::Status. The few bytes of an error's text are leaked: there is no function to free them.
    with Status() as copy:
        _runtime().copy_status(copy.pointer, status)
        copy.check()


@contextmanager
def _session(options: bytes) -> Iterator[int]:
    """A ``tsl::ProfilerSession`` that records from now to the end of the block.

    Raises:
        TensorFlowError: it could not begin; usually ALREADY_EXISTS, another one is running.
    """
    c = _runtime()
    proto = c.new_options(None)
    try:
        if not c.parse(proto, options, len(options)):
            raise invalid_argument("opts can't be read")
        session = c.create_session(proto).value
    finally:
        c.delete_options(proto)
    try:
        _check(c.session_status(session))
        yield session
    finally:
        c.destroy_session(session)
        c.free(session)


def _collect(session: int) -> tuple[memoryview, bool]:
    """Ends the recording; returns the serialised XSpace and whether nothing was recorded."""
    c = _runtime()
    space = c.new_space(None)
    try:
        _check(c.collect(session, space))
        size = c.space_size(space)
        content = bytearray(size)
        if not c.serialize(space, (ctypes.c_char * size).from_buffer(content), min(size, 2**31 - 1)):
            raise StatusError(grpc.StatusCode.INTERNAL, "the profile is too large. Remedy: record for a shorter time")
        return memoryview(content), c.space_is_empty(space)
    finally:
        c.delete_space(space)
