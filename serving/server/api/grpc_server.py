"""The gRPC layer over the handlers: PredictionService and ModelService on one port."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import Message

from serving.native.front import Front, Tls
from serving.private import grpcio
from serving.private.grpcio import LeanExecutor
from serving.protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)
from serving.server.api.handlers import Handlers
from serving.server.errors import StatusError, from_exception, too_late
from serving.server.operations.admin import Admission
from serving.server.operations.request_limit import RequestLimit
from serving.server.operations.temporary import temporary_folder
from serving.server.operations.tls import server_credentials

if TYPE_CHECKING:
    _Interceptor = grpc.ServerInterceptor[Any, Any]
    _MethodHandler = grpc.RpcMethodHandler[Any, Any]
else:
    # They are generic in their stubs alone.
    _Interceptor = grpc.ServerInterceptor

_LOGGER = logging.getLogger(__name__)
PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
_UNLIMITED = -1
_MAX_BYTES = 2**31 - 1  # of a gRPC message
# gRPC reports a deadline some hundred billion years away for a call without one.
_NO_DEADLINE = 1e9


class _Gate(_Interceptor):
    """Refuses inference requests on arrival when the server has too many; other services are unaffected.

    gRPC's own ``maximum_concurrent_rpcs`` would refuse health checks too, and get an overloaded server killed.
    """

    def __init__(self, executor: LeanExecutor, limit: RequestLimit, methods: Collection[str]) -> None:
        self._executor = executor
        self._limit = limit
        self._methods = frozenset(methods)
        # A separate thread: queued behind waiting requests, a refusal would come too late to be useful.
        self._refusing = ThreadPoolExecutor(1, thread_name_prefix="grpc-refusals")

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], _MethodHandler | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_MethodHandler | None":
        """Selects the handler of a call."""
        if handler_call_details.method in self._methods:
            refusal = self._limit.enter()
            if refusal is not None:
                return self._refuse(refusal)
            self._executor.after_next(self._limit.leave)
        return continuation(handler_call_details)

    def _refuse(self, refusal: StatusError) -> "_MethodHandler":
        def refuse(request: object, context: grpc.ServicerContext) -> None:
            _abort(context, refusal)

        grpcio.run_in(self._refusing, refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)


class GrpcServer:
    """PredictionService, ModelService and added services, on a port and a socket.

    Args:
        handlers: answers requests.
        threads: requests processed concurrently; more wait.
        limit: the inference requests that are accepted; others are refused with RESOURCE_EXHAUSTED. None: no limit.
        options: gRPC server options.
        share_port: whether other processes may listen on the same port.
        max_bytes: maximum bytes of a request; -1: any number.
        front: listens instead, and forwards what it doesn't answer itself. None: this server listens.
        tls: TLS settings of its ports, unless the front handles TLS; None: they are not encrypted.
        admission: who may reload the configuration; None: clients on this machine.

    Attributes:
        server: the gRPC server.
        admission: who may send administrative requests.
    """

    def __init__(
        self,
        handlers: Handlers,
        *,
        threads: int,
        limit: RequestLimit | None = None,
        options: Sequence[tuple[str, Any]] = (),
        share_port: bool = False,
        max_bytes: int = _UNLIMITED,
        front: Front | None = None,
        tls: Tls | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.admission = admission = admission or Admission(behind_front=front is not None)
        self._front = front
        self._tls = tls
        self._folders = contextlib.ExitStack()
        self._executor = LeanExecutor(threads)
        predictions = {
            "Predict": _method(handlers.predict_serialized, predict_pb2.PredictRequest),
            "Classify": _method(handlers.classify, classification_pb2.ClassificationRequest),
            "Regress": _method(handlers.regress, regression_pb2.RegressionRequest),
            "MultiInference": _method(handlers.multi_inference, inference_pb2.MultiInferenceRequest),
            "GetModelMetadata": _method(handlers.get_model_metadata, get_model_metadata_pb2.GetModelMetadataRequest),
        }
        self.server: grpc.Server = grpc.server(
            self._executor,  # type: ignore[arg-type]
            # Behind a front all calls share one connection; options for client connections don't apply to it.
            options=channel_arguments((), share_port=False)
            if front is not None
            else channel_arguments(options, share_port=share_port, max_bytes=max_bytes),
            interceptors=None if limit is None else [_gate(self._executor, limit, predictions)],
        )
        self._add(PREDICTION_SERVICE, predictions)
        self._add(
            MODEL_SERVICE,
            {
                "GetModelStatus": _method(handlers.get_model_status, get_model_status_pb2.GetModelStatusRequest),
                "HandleReloadConfigRequest": _method(
                    handlers.reload_config, model_management_pb2.ReloadConfigRequest, admission
                ),
            },
        )

    def listen(self, address: str) -> int:
        """Binds ``host:port`` or ``unix:/path``; returns the port.

        Raises:
            OSError: the address is in use or not available.
        """
        if self._front is not None:
            try:
                return self._front.listen(address)
            except OSError as error:
                raise OSError(f"cannot listen on {address}: is it in use? ({error})") from None
        try:
            if self._tls is not None:
                return int(self.server.add_secure_port(address, server_credentials(self._tls)))
            return int(self.server.add_insecure_port(address))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is it in use? ({error})") from None

    def start(self) -> None:
        """Starts serving."""
        if self._front is not None:
            # Accessible only to this user: TLS and limits are up to the front.
            behind = f"unix:{self._folders.enter_context(temporary_folder('babelrec-grpc-'))}/behind.sock"
            try:
                self.server.add_insecure_port(behind)
            except RuntimeError as error:
                raise OSError(f"cannot listen on {behind}: {error}. Remedy: a shorter TMPDIR") from None
        self.server.start()
        if self._front is not None:
            self._front.start(behind)

    def stop(self, grace: float) -> threading.Event:
        """Stops accepting requests; the event is set once running ones have ended, within ``grace`` seconds."""
        if self._front is None:
            return self.server.stop(grace)
        ended = threading.Event()
        threading.Thread(target=self._drain, args=(self._front, grace, ended), name="drain", daemon=True).start()
        return ended

    def _drain(self, front: Front, grace: float, ended: threading.Event) -> None:
        deadline = time.monotonic() + grace
        # The front may still forward requests that it has.
        front.drain(grace)
        self.server.stop(max(deadline - time.monotonic(), 0.0)).wait()
        ended.set()

    def close(self, patience: float = 0.0) -> bool:
        """Cleans up after a stopped server.

        Args:
            patience: seconds that model runs whose clients are gone may continue.

        Returns:
            Whether all have ended by then.
        """
        is_over = self._front is None or self._front.close(patience)
        self._folders.close()
        self._executor.shutdown(wait=False)
        return is_over

    def _add(self, service: str, methods: dict[str, "_MethodHandler"]) -> None:
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        grpcio.register_methods(self.server, service, methods)


def _gate(executor: LeanExecutor, limit: RequestLimit, methods: Iterable[str]) -> _Gate:
    counted = {f"/{PREDICTION_SERVICE}/{name}" for name in methods if name != "Predict" or limit.covers_predict}
    return _Gate(executor, limit, counted)


def channel_arguments(
    options: Sequence[tuple[str, Any]], *, share_port: bool, max_bytes: int = _UNLIMITED
) -> list[tuple[str, Any]]:
    """gRPC server options: a limit on request bytes, responses of any size, and the given options."""
    return [
        ("grpc.max_receive_message_length", min(max_bytes, _MAX_BYTES)),
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.so_reuseport", int(share_port)),
        *options,
    ]


def _method(
    handler: Callable[..., object], request_type: type[Message], admission: Admission | None = None
) -> "_MethodHandler":
    """The handler of a method; with ``admission``, only for clients that it admits."""

    def answer(request: object, context: grpc.ServicerContext) -> object:
        remaining: float | None = context.time_remaining()
        if remaining is None or remaining > _NO_DEADLINE:
            remaining = None
        elif remaining <= 0:
            _abort(context, too_late())
        try:
            if admission is not None:
                admission.check(context, "HandleReloadConfigRequest")
            return handler(request, remaining)
        except StatusError as error:
            failure = error
        except Exception as error:
            _LOGGER.exception("unexpected failure in %s", handler.__name__)
            failure = from_exception(error)
        _abort(context, failure)

    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=request_type.FromString, response_serializer=_serialized
    )


def _abort(context: grpc.ServicerContext, failure: StatusError) -> NoReturn:
    context.abort(failure.code, failure.grpc_details)
    raise AssertionError("abort raises")


def _serialized(response: bytes | Message) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()
