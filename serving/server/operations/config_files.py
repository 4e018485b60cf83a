"""Configuration files: the text protos that flags name, and the settings that result from files and flags.

The precedence of flags and files is that of ``Server::BuildAndStart`` in TensorFlow Serving's
``model_servers/server.cc``.
"""

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from serving.proto import monitoring_config_pb2, session_bundle_config_pb2, source_adapter_config_pb2, ssl_config_pb2
from serving.proto.session_bundle_config_pb2 import BatchingParameters, SessionBundleConfig
from serving.protos import model_server_config_pb2, platform_config_pb2
from serving.server.errors import from_exception
from serving.server.operations.config_fields import refused_fields
from serving.server.options import ServerOptions

_LOGGER = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)
PLATFORM = "tensorflow"
_REWRITER_ON = 1  # tensorflow.RewriterConfig.Toggle.ON
_BFLOAT16 = "bfloat16"
DEFAULT_PROMETHEUS_PATH = "/monitoring/prometheus/metrics"
# Some of protobuf's messages begin with their position, or with their line.
_POSITION = re.compile(r"^(\d+:\d+)\s*:\s*")
_QUOTED_LINE = re.compile(r"^'.*?'\s*:\s+(?=[A-Z])", re.DOTALL)


class ConfigFileError(Exception):
    """A configuration file can't be read, parsed or honoured; says which, where, and what to do."""


def read_text_proto(path: str | Path, message: M) -> M:
    """Reads a text proto into ``message`` and returns it.

    Raises:
        ConfigFileError: the file can't be read, or is malformed:
            ``Error parsing text-format <message>: <line>:<column>: <why>``, as protobuf's C++ library logs it.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigFileError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigFileError(
            f"Error parsing text-format {message.DESCRIPTOR.full_name}: {line}:1: not UTF-8 ({error.reason})"
            f" (in {path}). Remedy: save it as UTF-8"
        ) from error
    return parse_text_proto(text, message, str(path))


def parse_text_proto(text: str, message: M, where: str) -> M:
    """Parses a text proto into ``message`` and returns it; see ``read_text_proto``. ``where`` names the source."""
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        reason = _POSITION.sub("", str(error))
        reason = _QUOTED_LINE.sub("", reason)
        place = f"{error.GetLine()}:{error.GetColumn()}: " if error.GetLine() else ""
        raise ConfigFileError(
            f"Error parsing text-format {message.DESCRIPTOR.full_name}: {place}{reason} (in {where}). "
            f"Remedy: correct the file; it must be a {message.DESCRIPTOR.full_name} in protobuf text format"
        ) from error
    return message


def model_server_config(options: ServerOptions) -> model_server_config_pb2.ModelServerConfig:
    """The ``ModelServerConfig`` of ``--model_config_file``, or else of ``--model_name`` and ``--model_base_path``."""
    config = model_server_config_pb2.ModelServerConfig()
    if options.model_config_file:
        return read_text_proto(options.model_config_file, config)
    config.model_config_list.config.add(
        name=options.model_name, base_path=options.model_base_path, model_platform=PLATFORM
    )
    return config


def session_bundle_config(options: ServerOptions) -> SessionBundleConfig:
    """How models are loaded and run: a ``SessionBundleConfig``.

    It comes from ``--platform_config_file`` alone, when that is given; otherwise from the flags.
    """
    if options.platform_config_file:
        return _check(_from_platform_config(options.platform_config_file), options.platform_config_file)
    bundle = session_bundle_config_pb2.SessionBundleConfig()
    if options.enable_batching:
        batching = bundle.batching_parameters
        batching.SetInParent()
        if options.batching_parameters_file:
            read_text_proto(options.batching_parameters_file, batching)
        else:
            batching.thread_pool_name.value = "model_server_batch_threads"
        bundle.enable_per_model_batching_params = options.enable_per_model_batching_parameters
    session = bundle.session_config
    session.SetInParent()
    if options.tensorflow_session_config_file:
        read_text_proto(options.tensorflow_session_config_file, session)
    if options.per_process_gpu_memory_fraction:
        session.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    if options.tensorflow_intra_op_parallelism or options.tensorflow_inter_op_parallelism:
        session.intra_op_parallelism_threads = options.tensorflow_intra_op_parallelism
        session.inter_op_parallelism_threads = options.tensorflow_inter_op_parallelism
    elif options.tensorflow_session_parallelism:
        session.intra_op_parallelism_threads = options.tensorflow_session_parallelism
        session.inter_op_parallelism_threads = options.tensorflow_session_parallelism
    bundle.mixed_precision = options.mixed_precision
    bundle.saved_model_tags.extend(filter(None, (tag.strip() for tag in options.saved_model_tags.split(","))))
    bundle.enable_model_warmup = options.enable_model_warmup
    if options.num_request_iterations_for_warmup > 0:
        bundle.model_warmup_options.num_request_iterations.value = options.num_request_iterations_for_warmup
    bundle.remove_unused_fields_from_bundle_metagraph = options.remove_unused_fields_from_bundle_metagraph
    bundle.prefer_tflite_model = options.prefer_tflite_model
    bundle.num_tflite_pools = options.num_tflite_pools
    bundle.num_tflite_interpreters_per_pool = options.num_tflite_interpreters_per_pool
    return _with_precision(bundle)


def ssl_config(file: str) -> ssl_config_pb2.SSLConfig | None:
    """The ``SSLConfig`` in ``--ssl_config_file``; None without one.

    Raises:
        ConfigFileError: it is malformed, or its key or certificate is missing.
    """
    if not file:
        return None
    config = read_text_proto(file, ssl_config_pb2.SSLConfig())
    for name in ("server_key", "server_cert"):
        if not getattr(config, name):
            raise ConfigFileError(f"{file}: {name} is missing; it holds PEM text, not a file name")
    return config


def monitoring_config(file: str) -> monitoring_config_pb2.MonitoringConfig:
    """The ``MonitoringConfig`` in ``--monitoring_config_file``, with its path filled in; empty without one.

    Raises:
        ConfigFileError: it is malformed.
    """
    config = monitoring_config_pb2.MonitoringConfig()
    if file:
        read_text_proto(file, config)
    prometheus = config.prometheus_config
    if prometheus.enable and not prometheus.path:
        prometheus.path = DEFAULT_PROMETHEUS_PATH
    if prometheus.enable and not prometheus.path.startswith("/"):
        raise ConfigFileError(f"{file}: prometheus_config.path must begin with a slash, got {prometheus.path!r}")
    return config


def per_model_batching_parameters(
    version_directory: Path, global_parameters: BatchingParameters
) -> BatchingParameters | None:
    """The ``BatchingParameters`` in a version's ``batching_params.pbtxt``, or None when it has none.

    Thread pool settings are the server's, as the threads are shared by all models
    (``GetPerModelBatchingParams`` in ``bundle_factory_util.cc``).

    Raises:
        ConfigFileError: the file is malformed.
    """
    path = version_directory / "batching_params.pbtxt"
    if not path.exists():
        return None
    parameters = read_text_proto(path, session_bundle_config_pb2.BatchingParameters())
    for name in ("num_batch_threads", "thread_pool_name"):
        parameters.ClearField(name)
        if global_parameters.HasField(name):
            getattr(parameters, name).CopyFrom(getattr(global_parameters, name))
    return parameters


class ConfigFilePoller:
    """Polls the model config file and applies changes.

    A file that can't be read or is refused is logged, once for each reason, and retried at the next poll;
    the previous configuration stays in force.

    Args:
        path: the file.
        wait_seconds: pause between polls.
        current: returns the configuration in force.
        apply: takes a new one; may raise.
    """

    def __init__(
        self, path: str, wait_seconds: float, current: Callable[[], Any], apply: Callable[[Any], None]
    ) -> None:
        self._path = path
        self._wait_seconds = wait_seconds
        self._current = current
        self._apply = apply
        self._complaint = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config-file", daemon=True)

    def start(self) -> None:
        """Starts polling, in a separate thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops polling; returns once nothing is being applied."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._wait_seconds):
            try:
                self._look()
            except ConfigFileError as error:
                self._complain(f"Failed to read ModelServerConfig file: {error}")
            except Exception as error:
                self._complain(f"PollFilesystemAndReloadConfig failed to ReloadConfig: {from_exception(error)}")
            else:
                self._complaint = ""

    def _look(self) -> None:
        config = read_text_proto(self._path, model_server_config_pb2.ModelServerConfig())
        if config != self._current():
            _LOGGER.info("applying the changed %s", self._path)
            self._apply(config)

    def _complain(self, message: str) -> None:
        if message != self._complaint:
            _LOGGER.error("%s. The previous configuration stays in force", message)
            self._complaint = message


def _from_platform_config(path: str) -> SessionBundleConfig:
    platforms = read_text_proto(path, platform_config_pb2.PlatformConfigMap()).platform_configs
    unknown = sorted(set(platforms) - {PLATFORM})
    if unknown or PLATFORM not in platforms:
        raise ConfigFileError(
            f'{path}: needs an entry for the platform "{PLATFORM}" and no other, got {sorted(platforms) or "none"}'
        )
    adapter = platforms[PLATFORM].source_adapter_config
    saved_model = source_adapter_config_pb2.SavedModelBundleSourceAdapterConfig()
    if adapter.Unpack(saved_model):
        return saved_model.legacy_config
    session_bundle = source_adapter_config_pb2.SessionBundleSourceAdapterConfig()
    if adapter.Unpack(session_bundle):
        return session_bundle.config
    raise ConfigFileError(
        f"{path}: source_adapter_config must be a tensorflow.serving.SavedModelBundleSourceAdapterConfig or "
        f"SessionBundleSourceAdapterConfig, got {adapter.type_url or 'nothing'}"
    )


def _check(bundle: SessionBundleConfig, path: str) -> SessionBundleConfig:
    for refused in refused_fields(bundle):
        raise ConfigFileError(f"{path}: {refused}. This can't be honoured here; remedy: remove it")
    if bundle.mixed_precision not in ("", _BFLOAT16):
        raise ConfigFileError(
            f"{path}: mixed_precision: {bundle.mixed_precision!r} is none of '', {_BFLOAT16!r}. Remedy: remove it"
        )
    return _with_precision(bundle)


def _with_precision(bundle: SessionBundleConfig) -> SessionBundleConfig:
    if bundle.mixed_precision == _BFLOAT16:
        bundle.session_config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = _REWRITER_ON
    return bundle
