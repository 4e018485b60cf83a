"""The implementation of every RPC, independent of the transport: protos in, protos out.

The gRPC services and the REST API are thin layers over this. Failures are ``StatusError``s with
TensorFlow Serving's codes and messages (``model_servers/prediction_service_impl.cc``,
``get_model_status_impl.cc``, ``model_service_impl.cc``, ``servables/tensorflow/get_model_metadata_impl.cc``).
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from serving.protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_server_config_pb2,
    predict_pb2,
    regression_pb2,
    status_pb2,
)
from serving.server.api.classify import run_classify
from serving.server.api.examples import ExamplesRequest, R, count_examples
from serving.server.api.multi_inference import run_multi_inference
from serving.server.api.predict import run_predict, run_predict_serialized
from serving.server.api.regress import run_regress
from serving.server.errors import StatusError, from_exception, invalid_argument, not_found
from serving.server.execution.servable import DEFAULT_SIGNATURE, Servable, Signature
from serving.server.operations.metrics import Metrics
from serving.tensors import rows_of

if TYPE_CHECKING:
    from serving.server.lifecycle.core import ServerCore
    from serving.server.operations.request_log import ServerRequestLogger

GRPC = "GRPC"
REST = "REST"
RUNTIME = "TF1"  # the runtime label of TensorFlow Serving's stock server, which runs sessions as this one does

P = TypeVar("P", predict_pb2.PredictResponse, bytes)
T = TypeVar("T")
_Observe = Callable[[float], None]
# For the model's own latency and, if requests are counted here, for their number and latency.
_Cells = tuple[_Observe, tuple[Callable[[], None], _Observe] | None]
_LOGGER = logging.getLogger(__name__)
_METADATA_FIELD = "signature_def"
_CACHED_MODELS = 1024


class Handlers:
    """The RPCs of PredictionService and ModelService. Thread-safe.

    Every method takes ``timeout``, the seconds that the caller will still wait (None: forever), and the
    inference methods ``entrypoint``, the API that the request came through (``GRPC`` or ``REST``). The REST API counts
    its requests itself, including those that never get here.

    Args:
        core: models and their states.
        request_logger: writes sampled requests; None logs nothing.
        metrics: the server's metrics.
        check_method_names: whether Predict, Classify, Regress and MultiInference check the method name
            of a signature (``--enable_signature_method_name_check``; off by default in the stock server).
        as_content: whether Predict responds with ``tensor_content`` instead of typed values
            (``--enable_serialization_as_tensor_content``).
        reloadable: whether HandleReloadConfigRequest is allowed; a single one of several workers must not reload.
        trust_reloads: whether such a request may have log files written anywhere (``ServerRequestLogger.check``).
        max_rows: maximum rows, or examples, of a request; None: any number.
        show_paths: whether errors show the models' paths on this machine; otherwise they show the models' names.
    """

    def __init__(
        self,
        core: "ServerCore[Servable]",
        request_logger: "ServerRequestLogger | None" = None,
        metrics: Metrics | None = None,
        *,
        check_method_names: bool = False,
        as_content: bool = False,
        reloadable: bool = True,
        trust_reloads: bool = True,
        show_paths: bool = True,
        max_rows: int | None = None,
    ) -> None:
        self._core = core
        self._as_content = as_content
        self._reloadable = reloadable
        self._trust_reloads = trust_reloads
        self._show_paths = show_paths
        self._max_rows = max_rows
        self._logger = request_logger
        self.metrics = metrics if metrics is not None else Metrics()
        self._check_method_names = check_method_names
        # The config whose logging is in force. The core replaces its config as a whole, so identity is enough.
        self._followed: model_server_config_pb2.ModelServerConfig | None = None
        # (entry point, method, model) -> the cell for the model's own latency and, if requests are counted here, the
        # cells for the number and latency of successful requests.
        self._cells: dict[tuple[str, str, str], _Cells] = {}

    def predict(
        self, request: predict_pb2.PredictRequest, timeout: float | None = None, entrypoint: str = GRPC
    ) -> predict_pb2.PredictResponse:
        """``PredictRequest`` -> ``PredictResponse``."""
        return self._predict(run_predict, request, timeout, entrypoint)

    def predict_serialized(
        self, request: predict_pb2.PredictRequest, timeout: float | None = None, entrypoint: str = GRPC
    ) -> bytes:
        """``PredictRequest`` -> serialised ``PredictResponse``, which is what gRPC sends."""
        return self._predict(run_predict_serialized, request, timeout, entrypoint)

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout: float | None = None, entrypoint: str = GRPC
    ) -> classification_pb2.ClassificationResponse:
        """``ClassificationRequest`` -> ``ClassificationResponse``."""
        return self._infer(run_classify, "Classify", request, timeout, entrypoint)

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout: float | None = None, entrypoint: str = GRPC
    ) -> regression_pb2.RegressionResponse:
        """``RegressionRequest`` -> ``RegressionResponse``."""
        return self._infer(run_regress, "Regress", request, timeout, entrypoint)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout: float | None = None, entrypoint: str = GRPC
    ) -> inference_pb2.MultiInferenceResponse:
        """``MultiInferenceRequest`` -> ``MultiInferenceResponse``; the first task determines the version."""
        start = time.perf_counter()
        has_spec = bool(request.tasks) and request.tasks[0].HasField("model_spec")
        spec = request.tasks[0].model_spec if has_spec else model_pb2.ModelSpec()
        name = spec.name
        try:
            self._check_rows(lambda: count_examples(request.input))
            with self._core.acquire(spec) as (version, servable):
                timed = _Timed(servable)
                response, count = run_multi_inference(
                    timed, version, request, check_method_name=self._check_method_names, timeout=timeout
                )
        except Exception as error:
            self._fail(name, error, entrypoint)
        self._succeed(entrypoint, "MultiInference", name, start, timed.seconds)
        self.metrics.record_examples(name, count)
        if self._logger is not None:
            self._log(self._logger, request, response, name, version, spec.signature_name)
        return response

    def signatures(self, spec: model_pb2.ModelSpec) -> Mapping[str, Signature]:
        """The signatures of the version that a ``ModelSpec`` selects: what REST needs to read JSON."""
        with self._core.acquire(spec) as (_, servable):
            return servable.signatures

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, timeout: float | None = None
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """``GetModelMetadataRequest`` -> ``GetModelMetadataResponse`` with the signatures of a version."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _METADATA_FIELD:
                raise invalid_argument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._core.acquire(request.model_spec) as (version, servable):
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        response.metadata[_METADATA_FIELD].Pack(signatures)
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest, timeout: float | None = None
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """``GetModelStatusRequest`` -> ``GetModelStatusResponse``.

        Reports the requested version, or all versions ever seen, highest first. A version label is
        ignored, as in TensorFlow Serving.
        """
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        spec = request.model_spec
        states = self._core.monitor.versions(spec.name)
        if spec.HasField("version"):
            version = spec.version.value
            if version not in states:
                raise not_found(f"Could not find version {version} of model {spec.name}")
            states = {version: states[version]}
        elif not states:
            raise not_found(f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in states.items():
            response.model_version_status.add(
                version=version,
                state=int(state.manager_state),
                status=_status_proto(state.error and self._shown(spec.name, state.error)),
            )
        return response

    def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest, timeout: float | None = None
    ) -> model_management_pb2.ReloadConfigResponse:
        """``ReloadConfigRequest`` -> ``ReloadConfigResponse``, once the new config's models are available.

        The response says how much each metric of ``metric_names`` grew during the reload.
        """
        if not self._reloadable:
            raise StatusError(
                grpc.StatusCode.UNIMPLEMENTED,
                "HandleReloadConfigRequest reaches only one of several --workers. Remedy: change the file of "
                "--model_config_file, with --model_config_file_poll_wait_seconds",
            )
        config = request.config
        if config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        for index, model in enumerate(config.model_config_list.config):
            _LOGGER.info(
                "Config entry index: %d path: %s name: %s platform: %s",
                index,
                model.base_path,
                model.name,
                model.model_platform,
            )
        before = self.metrics.totals(request.metric_names)
        try:
            if self._logger is not None:
                self._logger.check(config, requested=not self._trust_reloads)
            self._core.reload(config, timeout)
            if self._logger is not None:
                self._follow(self._logger, self._core.config)
        except Exception as error:
            failure = from_exception(error)
            _LOGGER.error("ReloadConfig failed: %s", failure.message)
            raise failure from error
        response = model_management_pb2.ReloadConfigResponse(status=_status_proto(None))
        after = self.metrics.totals(request.metric_names)
        for name in request.metric_names:
            if name in after:
                response.metric.add(name=name, int64_value_increase=after[name] - before[name])
        return response

    def _predict(
        self, run: Callable[..., P], request: predict_pb2.PredictRequest, timeout: float | None, entrypoint: str
    ) -> P:
        start = time.perf_counter()
        spec = request.model_spec
        name = spec.name
        try:
            if not name and not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            self._check_rows(lambda: max((rows_of(tensor) or 0 for tensor in request.inputs.values()), default=0))
            with self._core.acquire(spec) as (version, servable):
                timed = _Timed(servable)
                response = run(
                    timed,
                    name,
                    version,
                    request,
                    check_method_name=self._check_method_names,
                    as_content=self._as_content,
                    timeout=timeout,
                )
        except Exception as error:
            self._fail(name, error, entrypoint)
        self._succeed(entrypoint, "Predict", name, start, timed.seconds)
        if self._logger is not None:
            self._log(self._logger, request, response, name, version, spec.signature_name)
        return response

    def _infer(
        self,
        run: Callable[..., tuple[R, int]],
        method: str,
        request: ExamplesRequest,
        timeout: float | None,
        entrypoint: str,
    ) -> R:
        start = time.perf_counter()
        spec = request.model_spec
        name = spec.name
        try:
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            self._check_rows(lambda: count_examples(request.input))
            with self._core.acquire(spec) as (version, servable):
                timed = _Timed(servable)
                response, count = run(
                    timed, name, version, request, check_method_name=self._check_method_names, timeout=timeout
                )
        except Exception as error:
            self._fail(name, error, entrypoint)
        self._succeed(entrypoint, method, name, start, timed.seconds)
        self.metrics.record_examples(name, count)
        if self._logger is not None:
            self._log(self._logger, request, response, name, version, spec.signature_name)
        return response

    def _log(
        self,
        logger: "ServerRequestLogger",
        request: Message,
        response: Message | bytes,
        name: str,
        version: int,
        signature_name: str,
    ) -> None:
        config = self._core.config
        if config is not self._followed:
            try:
                self._follow(logger, config)
            except Exception as error:
                _LOGGER.error("request logging is unchanged: %s", from_exception(error))
        if logger.active:
            logger.log(request, response, name, version, signature_name or DEFAULT_SIGNATURE)

    def _follow(self, logger: "ServerRequestLogger", config: model_server_config_pb2.ModelServerConfig) -> None:
        # Recorded first: requests in other threads keep using the previous loggers until then.
        self._followed = config
        logger.update(config)

    def _succeed(self, entrypoint: str, method: str, name: str, start: float, run_seconds: float) -> None:
        cells = self._cells.get((entrypoint, method, name))
        if cells is None:
            cells = self._cells_of(entrypoint, method, name)
            if len(self._cells) < _CACHED_MODELS:
                self._cells[entrypoint, method, name] = cells
        observe_run, requests = cells
        observe_run(run_seconds * 1e6)
        if requests is not None:
            add, observe = requests
            add()
            observe((time.perf_counter() - start) * 1e6)

    def _cells_of(self, entrypoint: str, method: str, name: str) -> _Cells:
        metrics = self.metrics
        observe_run = metrics.runtime_latency.cell(name, method, RUNTIME).observe
        if entrypoint == REST:
            return observe_run, None
        latency = metrics.request_latency.cell(name, method, entrypoint)
        return observe_run, (metrics.request_count.cell(name, "OK").add, latency.observe)

    def _count_failure(self, name: str, error: StatusError, entrypoint: str) -> None:
        if entrypoint != REST:
            self.metrics.request_count.cell(name, error.code.name).add()

    def _fail(self, name: str, error: Exception, entrypoint: str) -> NoReturn:
        failure = from_exception(error)
        self._count_failure(name, failure, entrypoint)
        if failure is not error:
            _LOGGER.exception("unexpected failure")
        raise self._shown(name, failure) from error

    def _check_rows(self, count: Callable[[], int]) -> None:
        # Counted only if there is a limit.
        if self._max_rows is None or (rows := count()) <= self._max_rows:
            return
        self.metrics.refused.cell("max_batch_rows").add()
        raise invalid_argument(f"{rows} rows in one request; {self._max_rows} are allowed (--max_batch_rows)")

    def _shown(self, name: str, error: StatusError) -> StatusError:
        """An error in the form that clients may see."""
        if self._show_paths:
            return error
        message = self._core.without_paths(name, error.message)
        return error if message == error.message else StatusError(error.code, message)


_RUNS = frozenset({"run", "run_serialized"})


class _Timed:
    """A servable that measures how long the model itself ran."""

    __slots__ = ("_servable", "seconds", "signatures")

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self.signatures = servable.signatures
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._servable, name)
        return partial(self._time, found) if name in _RUNS else found

    def _time(self, run: Callable[..., T], *arguments: object, **options: object) -> T:
        start = time.perf_counter()
        results = run(*arguments, **options)
        self.seconds += time.perf_counter() - start
        return results


def _status_proto(error: StatusError | None) -> status_pb2.StatusProto:
    if error is None:
        return status_pb2.StatusProto()
    return status_pb2.StatusProto(error_code=error.number, error_message=error.message)
