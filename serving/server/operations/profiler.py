"""``tensorflow.ProfilerService``, with which TensorBoard captures a profile from a running server.

It works like TensorFlow's own service (``xla/tsl/profiler/rpc/profiler_service_impl.cc``), with the same
``tsl::ProfilerSession`` of the library that runs the models. If another TensorFlow lacks it, a capture returns
UNIMPLEMENTED and nothing else is affected. (TensorFlow's ready-made server would listen on all addresses without TLS.)
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message

from serving.private import grpcio, profiling
from serving.private.interfaces import MissingInterfaceError
from serving.private.tensorflow import TensorFlowError
from serving.proto import profiler_service_pb2
from serving.server.errors import StatusError, from_exception, invalid_argument
from serving.server.operations.admin import Admission

SERVICE = "tensorflow.ProfilerService"
_LOGGER = logging.getLogger(__name__)
# One capture, the request that ends it, and one that is refused because a capture is running.
_THREADS = 3
_POLL_SECONDS = 0.05


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
    request_type: type[Message],
    pool: ThreadPoolExecutor,
    admission: Admission,
    name: str,
) -> "grpc.RpcMethodHandler[Any, Any]":
    def answer(request: object, context: grpc.ServicerContext) -> object:
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

    grpcio.run_in(pool, answer)
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

    def profile(
        self, request: profiler_service_pb2.ProfileRequest, context: grpc.ServicerContext
    ) -> profiler_service_pb2.ProfileResponse:
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
            with profiling.session(request.opts.SerializeToString()) as session:
                deadline = time.monotonic() + request.opts.duration_ms / 1000
                while (left := deadline - time.monotonic()) > 0 and not ended.wait(min(left, _POLL_SECONDS)):
                    if not context.is_active():
                        raise StatusError(grpc.StatusCode.CANCELLED, "the client is gone")
                content, is_empty = profiling.collect(session)
        except MissingInterfaceError as error:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, str(error)) from None
        except profiling.OptionsError as error:
            raise invalid_argument(str(error)) from None
        except profiling.SizeError:
            raise StatusError(
                grpc.StatusCode.INTERNAL, "the profile is too large. Remedy: record for a shorter time"
            ) from None
        except TensorFlowError as error:
            # TensorFlow's service answers all failures this way.
            raise StatusError(grpc.StatusCode.INTERNAL, error.message) from None
        finally:
            with self._lock:
                del self._running[request.session_id]
        _write(path, content)
        _LOGGER.info("profile of %d bytes written to %s", len(content), path)
        return profiler_service_pb2.ProfileResponse(empty_trace=is_empty)

    def terminate(
        self, request: profiler_service_pb2.TerminateRequest, context: grpc.ServicerContext
    ) -> profiler_service_pb2.TerminateResponse:
        """Ends the recording of a ``TerminateRequest``; it is not an error if there is none."""
        with self._lock:
            ended = self._running.get(request.session_id)
        if ended is not None:
            ended.set()
        return profiler_service_pb2.TerminateResponse()

    def monitor(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        """Refuses."""
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, "unimplemented.")


def _target(request: profiler_service_pb2.ProfileRequest) -> Path:
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
