"""Builds the parts of a server from its flags and files, and connects them."""

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE

from serving.native.front import Front, Tls
from serving.proto.session_bundle_config_pb2 import BatchingParameters, SessionBundleConfig
from serving.protos import log_collector_config_pb2, model_server_config_pb2
from serving.runtime.batching import BatchingOptions
from serving.server import native_predict
from serving.server.api.grpc_server import MODEL_SERVICE, PREDICTION_SERVICE, GrpcServer, channel_arguments
from serving.server.api.handlers import Handlers
from serving.server.api.reflection import add_reflection
from serving.server.errors import invalid_argument
from serving.server.execution import ops
from serving.server.execution.servable import Servable
from serving.server.lifecycle.completeness import CompletenessCheck
from serving.server.lifecycle.core import CoreOptions, ServerCore
from serving.server.lifecycle.health import add_health
from serving.server.lifecycle.loader import LoaderOptions, ModelLoader
from serving.server.lifecycle.policies import TRANSITION_POLICIES
from serving.server.lifecycle.source import StoragePath
from serving.server.native_predict import NativePredict
from serving.server.operations import config_files, profiler, workers
from serving.server.operations.addresses import default_max_connections
from serving.server.operations.admin import Admission
from serving.server.operations.config_files import ConfigFileError
from serving.server.operations.log_collector import Factory, FileLogCollector, LogCollector, Report
from serving.server.operations.metrics import Metrics
from serving.server.operations.profiler import add_profiler
from serving.server.operations.request_limit import RequestLimit
from serving.server.operations.request_log import ServerRequestLogger
from serving.server.operations.tls import checked
from serving.server.options import ServerOptions, available_cpus
from serving.server.rest import AppOptions, RestOptions

_LOGGER = logging.getLogger(__name__)

Core = ServerCore[Servable]


def make_core(options: ServerOptions, bundle: SessionBundleConfig, metrics: Metrics) -> Core:
    """The server core, without a configuration yet; loads op libraries.

    Args:
        options: the server's options.
        bundle: how models are loaded and run.
        metrics: where loads are counted; exports the states of the core's versions from now on.

    Raises:
        StatusError: an op library can't be loaded.
    """
    ops.register(name.strip() for name in options.op_libraries.split(",") if name.strip())
    # Everything imported by now stays for good; garbage collections after an unload need not scan it.
    gc.collect()
    gc.freeze()
    tags = tuple(bundle.saved_model_tags) or ("serve",)
    check = CompletenessCheck(tags, prefer_tflite=bundle.prefer_tflite_model, require_manifest=options.require_manifest)
    core: Core = ServerCore(
        _loader_factory(options, bundle, metrics, check),
        CoreOptions(
            transition_policy=TRANSITION_POLICIES[options.aspired_version_policy](),
            max_num_load_retries=options.max_num_load_retries,
            load_retry_interval=options.load_retry_interval_micros / 1e6,
            num_load_threads=options.num_load_threads,
            num_initial_load_threads=4 * available_cpus(),
            num_unload_threads=options.num_unload_threads,
            file_system_poll_wait_seconds=options.file_system_poll_wait_seconds,
            servable_versions_always_present=options.servable_versions_always_present,
            allow_version_labels_for_unavailable_models=options.allow_version_labels_for_unavailable_models,
            platforms=(config_files.PLATFORM,),
            check=check,
        ),
    )
    metrics.watch_states(core.monitor.all)
    return core


def make_request_logger(options: ServerOptions, bundle: SessionBundleConfig, metrics: Metrics) -> ServerRequestLogger:
    """The logger of sampled requests, with the file sizes from the flags."""

    def file_collector(config: log_collector_config_pb2.LogCollectorConfig, report: Report) -> LogCollector:
        return FileLogCollector(
            config.filename_prefix,
            report,
            max_file_bytes=options.request_log_max_file_bytes,
            max_file_seconds=options.request_log_max_file_seconds,
        )

    factories: Mapping[str, Factory] = {"": file_collector, "file": file_collector}
    return ServerRequestLogger(
        metrics, tuple(bundle.saved_model_tags) or ("serve",), factories, root=options.request_log_root
    )


def make_limit(limit: int, metrics: Metrics, front: Front | None) -> RequestLimit | None:
    """The bound on requests that gRPC and REST share; None with 0, for no limit."""
    return RequestLimit(limit, metrics.refused.cell("max_concurrent_requests").add, front) if limit else None


def make_grpc(
    options: ServerOptions,
    handlers: Handlers,
    core: Core,
    tokens: Sequence[str],
    tls: Tls | None,
    front: Front | None,
    limit: RequestLimit | None,
) -> GrpcServer:
    """The gRPC server, not listening yet.

    Args:
        options: the server's options.
        handlers: answers requests.
        core: the models.
        tokens: administrators' tokens.
        tls: TLS settings of the port; None: connections are not encrypted.
        front: listens instead.
        limit: the requests that are accepted.
    """
    if front is not None:
        NativePredict(front, core, handlers.metrics)
    return GrpcServer(
        handlers,
        threads=options.grpc_max_threads,
        limit=limit,
        options=options.grpc_channel_arguments,
        share_port=workers.is_worker(),
        max_bytes=options.max_request_bytes,
        front=front,
        tls=tls,
        admission=Admission(
            options.admin_access,
            tokens,
            behind_front=front is not None,
            refused=handlers.metrics.refused.cell("admin_access").add,
        ),
    )


def make_front(options: ServerOptions, bundle: SessionBundleConfig, tls: Tls | None) -> Front | None:
    """The native front; None if Predict is answered in Python.

    Raises:
        StatusError: the front is required but not available.
    """
    if options.native_predict == "off":
        return None
    obstacle = native_predict.obstacle(bundle, options)
    if obstacle is not None:
        if options.native_predict == "on":
            raise invalid_argument(f"--native_predict=on: {obstacle}")
        _LOGGER.info("Predict is answered in Python: %s", obstacle)
        return None
    batching = batching_options(bundle.batching_parameters)
    try:
        front = Front(
            groups=batching.num_batch_threads,
            # Larger requests are forwarded, and rejected in Python.
            max_rows=min(batching.max_batch_size, options.max_batch_rows or batching.max_batch_size),
            max_waiting=batching.max_batch_size * batching.max_enqueued_batches,
            timeout_micros=batching.batch_timeout_micros,
            max_concurrent=options.max_concurrent_requests,
            max_connections=options.max_connections or default_max_connections(),
            pad=batching.pad_variable_length_inputs,
            channel_arguments=channel_arguments(
                options.grpc_channel_arguments, share_port=workers.is_worker(), max_bytes=options.max_request_bytes
            ),
            tls=tls,
        )
    except OSError as error:
        # Of a gRPC library without the entry for connections that were accepted elsewhere.
        if options.native_predict == "on":
            raise invalid_argument(f"--native_predict=on: {error}") from error
        _LOGGER.warning("Predict is answered in Python: %s", error)
        return None
    _LOGGER.info("Predict is answered by the native front")
    return front


def add_services(options: ServerOptions, server: GrpcServer, core: Core) -> list[Callable[[], None]]:
    """Adds the optional services that the flags enable, before the server listens.

    Returns:
        Callbacks for when draining begins: health turns to NOT_SERVING, a running capture ends.
    """
    names = [PREDICTION_SERVICE, MODEL_SERVICE]
    shutdowns: list[Callable[[], None]] = []
    if options.enable_grpc_healthcheck_service:
        shutdowns.append(add_health(server.server, core.monitor).shutdown)
        names.append(HEALTH_SERVICE)
    if options.enable_profiler:
        shutdowns.append(add_profiler(server.server, server.admission).shutdown)
        names.append(profiler.SERVICE)
    if options.enable_grpc_reflection:
        add_reflection(server.server, names)
    return shutdowns


def make_tls(file: str) -> Tls | None:
    """TLS settings of the gRPC port in ``--ssl_config_file``; None without one.

    Raises:
        StatusError, ConfigFileError: the TLS configuration can't be used.
    """
    config = config_files.ssl_config(file)
    return None if config is None else checked(config)


def listen(server: GrpcServer, port: int, socket_path: str) -> None:
    """Binds the gRPC server to its port and, if there is one, to its socket, starts it and logs the addresses.

    Raises:
        OSError: an address is in use.
    """
    port = server.listen(f"0.0.0.0:{port}")
    if socket_path:
        server.listen(f"unix:{socket_path}")
    server.start()
    _LOGGER.info("Running gRPC ModelServer at 0.0.0.0:%d ...", port)
    if socket_path:
        _LOGGER.info("Running gRPC ModelServer at UNIX socket %s ...", socket_path)


def rest_options(options: ServerOptions) -> RestOptions:
    """Settings of the REST API.

    Raises:
        ConfigFileError: the monitoring configuration is malformed.
    """
    prometheus = config_files.monitoring_config(options.monitoring_config_file).prometheus_config
    return RestOptions(
        port=options.rest_api_port,
        app=AppOptions(
            timeout=options.rest_api_timeout_in_ms / 1000,
            threads=options.rest_api_num_threads,
            cors=options.rest_api_enable_cors_support,
            metrics_path=prometheus.path if prometheus.enable else None,
            gzip_min_bytes=options.rest_api_gzip_min_bytes if options.rest_api_gzip_min_bytes >= 0 else None,
        ),
        max_request_bytes=options.max_request_bytes,
        max_memory_bytes=options.rest_api_max_memory_bytes,
        max_connections=options.max_connections,
        share_port=workers.is_worker(),
    )


def batching_options(parameters: BatchingParameters) -> BatchingOptions:
    """``BatchingParameters`` for the runtime; absent fields have TensorFlow Serving's defaults.

    The defaults are those of ``BasicBatchScheduler::Options``: 1000 rows, no waiting, 10 waiting batches, a thread for
    each CPU. With ``enable_large_batch_splitting``, ``max_execution_batch_size`` is the size of a batch.

    Raises:
        StatusError: INVALID_ARGUMENT, a value is out of range.
    """
    options = BatchingOptions(num_batch_threads=available_cpus())
    values: dict[str, Any] = {
        name: getattr(parameters, name).value
        for name in (
            "max_batch_size",
            "batch_timeout_micros",
            "num_batch_threads",
            "max_enqueued_batches",
            "enable_large_batch_splitting",
        )
        if parameters.HasField(name)
    }
    for name, least in (
        ("max_batch_size", 1),
        ("batch_timeout_micros", 0),
        ("num_batch_threads", 1),
        ("max_enqueued_batches", 1),
    ):
        if values.get(name, least) < least:
            raise invalid_argument(f"BatchingParameters: {name} must be at least {least}; was {values[name]}")
    if parameters.HasField("max_execution_batch_size") and values.get("enable_large_batch_splitting"):
        values["max_batch_size"] = parameters.max_execution_batch_size.value
    sizes = tuple(parameters.allowed_batch_sizes)
    largest = values.get("max_batch_size", options.max_batch_size)
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
        raise invalid_argument(
            f"BatchingParameters: allowed_batch_sizes must be positive and ascending; was {list(sizes)}"
        )
    if sizes and sizes[-1] != largest:
        raise invalid_argument(
            f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
            f"expected {largest}"
        )
    return BatchingOptions(
        **{
            "num_batch_threads": options.num_batch_threads,
            **values,
            "allowed_batch_sizes": sizes,
            "pad_variable_length_inputs": parameters.pad_variable_length_inputs,
        }
    )


class _LateLoader:
    """A loader that is created afresh for each load attempt, when all files of the version should be there."""

    def __init__(self, make: Callable[[], ModelLoader]) -> None:
        self._make = make
        self._loader: ModelLoader | None = None

    @property
    def servable(self) -> Servable:
        assert self._loader is not None
        return self._loader.servable

    def load(self) -> None:
        loader = self._make()
        loader.load()
        self._loader = loader

    def unload(self) -> None:
        if self._loader is not None:
            self._loader.unload()
            self._loader = None


def _loader_factory(
    options: ServerOptions, bundle: SessionBundleConfig, metrics: Metrics, check: CompletenessCheck
) -> Callable[[str, StoragePath, model_server_config_pb2.ModelConfig], _LateLoader]:
    batched = bundle.HasField("batching_parameters")
    has_front = options.native_predict != "off" and native_predict.obstacle(bundle, options) is None
    shared = batching_options(bundle.batching_parameters) if batched else None

    def batching_of(storage: StoragePath) -> BatchingOptions | None:
        if not batched or not bundle.enable_per_model_batching_params:
            return shared
        try:
            own = config_files.per_model_batching_parameters(storage.path, bundle.batching_parameters)
        except ConfigFileError as error:
            raise invalid_argument(str(error)) from error
        return None if own is None else batching_options(own)

    def make_now(name: str, storage: StoragePath) -> ModelLoader:
        return ModelLoader(
            name,
            storage.version,
            storage.path,
            LoaderOptions(
                tags=tuple(bundle.saved_model_tags) or ("serve",),
                session_config=bundle.session_config,
                warm_up=bundle.enable_model_warmup,
                warm_up_iterations=max(bundle.model_warmup_options.num_request_iterations.value, 1),
                check_method_names=options.enable_signature_method_name_check,
                batching=batching_of(storage),
                # The front batches requests itself: only REST's Predict then uses the runtime's queue.
                predict_alone=has_front and not options.rest_api_port,
                prefer_tflite=bundle.prefer_tflite_model,
                tflite_interpreters=(bundle.num_tflite_pools or bundle.num_tflite_interpreters or available_cpus())
                * max(bundle.num_tflite_interpreters_per_pool, 1),
                check=check,
            ),
            metrics,
        )

    def make(name: str, storage: StoragePath, config: model_server_config_pb2.ModelConfig) -> _LateLoader:
        return _LateLoader(partial(make_now, name, storage))

    return make
