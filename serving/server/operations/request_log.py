"""Sampled logging of requests and responses, per model, as ``PredictionLog`` records.

Like ``core/server_request_logger.cc`` and ``core/request_logger.cc`` of TensorFlow Serving, whose public
server has the config but neither a collector nor a call that logs.
"""

import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from serving.protos import (
    log_collector_config_pb2,
    logging_config_pb2,
    logging_pb2,
    model_server_config_pb2,
    prediction_log_pb2,
)
from serving.server.errors import StatusError, from_exception, invalid_argument
from serving.server.operations.log_collector import FACTORIES, Factory, LogCollector, check_prefix, factory_for
from serving.server.operations.metrics import Metrics
from serving.tensors import varint
from serving.wire import delimited

_LOGGER = logging.getLogger(__name__)
_FIELDS = prediction_log_pb2.PredictionLog.DESCRIPTOR.fields_by_name
# Key bytes of PredictionLog's fields by request type.
_METADATA = varint(_FIELDS["log_metadata"].number << 3 | 2)
_KEYS = {
    f"tensorflow.serving.{request}": varint(_FIELDS[field].number << 3 | 2)
    for request, field in (
        ("PredictRequest", "predict_log"),
        ("ClassificationRequest", "classify_log"),
        ("RegressionRequest", "regress_log"),
        ("MultiInferenceRequest", "multi_inference_log"),
    )
}
_REQUEST, _RESPONSE = b"\x0a", b"\x12"  # fields 1 and 2 of all those logs
_CLOSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Logger:
    """An active ``LoggingConfig``."""

    rate: float
    sampling_config: Any
    collector: LogCollector


class ServerRequestLogger:
    """Logs the requests of all models; thread-safe.

    ``update`` must be called with every config that the server applies, including the first.

    Args:
        metrics: where logged and lost records are counted (``request_log_count``).
        saved_model_tags: written to the logs' metadata.
        factories: collector factories by type.
        root: the directory that must contain all files; empty: those of the operator's configuration may be anywhere.

    Attributes:
        active: whether any model's requests may be logged; check it before calling ``log``.
    """

    def __init__(
        self,
        metrics: Metrics,
        saved_model_tags: Sequence[str] = ("serve",),
        factories: Mapping[str, Factory] = FACTORIES,
        *,
        root: str = "",
    ) -> None:
        self._root = Path(root).resolve() if root else None
        self.active = False
        self._metrics = metrics
        self._tags = list(saved_model_tags)
        self._factories = factories
        self._update_lock = threading.Lock()
        self._loggers: dict[str, list[_Logger]] = {}
        # By serialised LogCollectorConfig: models with the same one share it, and a change of the sampling
        # rate does not affect the file.
        self._collectors: dict[bytes, LogCollector] = {}

    def check(self, config: model_server_config_pb2.ModelServerConfig, *, requested: bool = False) -> None:
        """Checks whether ``update`` would accept this ``ModelServerConfig``.

        Args:
            config: the configuration.
            requested: whether a client sent it; without a root, a client may only name files in use.

        Raises:
            StatusError: NOT_FOUND for an unknown collector type; INVALID_ARGUMENT or FAILED_PRECONDITION
                for a file prefix that can't be written to; PERMISSION_DENIED for one that is not allowed.
        """
        for name, logging_configs in _logging_configs(config).items():
            for logging_config in logging_configs:
                collector_config = logging_config.log_collector_config
                factory_for(collector_config, self._factories)
                if collector_config.type in ("", "file"):
                    self._check_place(collector_config, requested)
                    check_prefix(collector_config.filename_prefix)
                rate = logging_config.sampling_config.sampling_rate
                if not 0.0 <= rate <= 1.0:
                    raise invalid_argument(f"the sampling_rate of model {name} must be from 0 to 1, is {rate}")

    def update(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Applies the logging of a ``ModelServerConfig``; collectors that it doesn't name are closed.

        Raises:
            StatusError: see ``check``; nothing changes then.
        """
        self.check(config)
        with self._update_lock:
            collectors: dict[bytes, LogCollector] = {}
            loggers: dict[str, list[_Logger]] = {}
            try:
                for name, logging_configs in _logging_configs(config).items():
                    loggers[name] = [self._logger(name, c, collectors) for c in logging_configs]
            except Exception:
                _close(made for key, made in collectors.items() if key not in self._collectors)
                raise
            old, self._collectors = self._collectors, collectors
            self._loggers = loggers
            self.active = bool(loggers)
            # Last, so that concurrent requests find open ones.
            _close(collector for key, collector in old.items() if key not in collectors)

    def log(self, request: Message, response: Message | bytes, name: str, version: int, signature_name: str) -> None:
        """Logs a request with the probability set in its model's config; never fails and never waits for a disk.

        Args:
            request: of one of the four inference methods.
            response: its response, as a message or serialised.
            name: the model that answered, for the metadata.
            version: its version, for the metadata.
            signature_name: its signature, for the metadata.
        """
        for logger in self._loggers.get(name, ()):
            if random.random() < logger.rate:
                try:
                    record = self._record(logger, request, response, name, version, signature_name)
                    logger.collector.collect(name, record)
                except Exception as error:
                    _LOGGER.exception("a request of %s can't be logged", name)
                    self._report(name, from_exception(error).code)

    def close(self, timeout: float = _CLOSE_SECONDS) -> bool:
        """Writes everything that was logged to disk; to be called once no request is running.

        Returns:
            Whether everything was written within ``timeout`` seconds.
        """
        with self._update_lock:
            self.active = False
            self._loggers = {}
            old, self._collectors = self._collectors, {}
            return _close(old.values(), timeout)

    def _check_place(self, config: log_collector_config_pb2.LogCollectorConfig, requested: bool) -> None:
        prefix = config.filename_prefix
        if self._root is not None:
            if not Path(prefix).resolve().is_relative_to(self._root):
                raise StatusError(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"filename_prefix {prefix} is not below {self._root}, the directory of --request_log_root",
                )
        elif requested and config.SerializeToString(deterministic=True) not in self._collectors:
            raise StatusError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"a request may not write files to {prefix}. Remedy: start the server with --request_log_root, "
                "the directory below which log files may be written, or name the file in --model_config_file",
            )

    def _logger(
        self, name: str, config: logging_config_pb2.LoggingConfig, collectors: dict[bytes, LogCollector]
    ) -> _Logger:
        if config.HasField("custom_logging_config"):
            _LOGGER.warning("model %s: custom_logging_config has no effect on this server", name)
        if config.sampling_config.per_task_sampling_configs or config.sampling_config.attributes:
            _LOGGER.warning("model %s: only sampling_rate of sampling_config is used", name)
        key = config.log_collector_config.SerializeToString(deterministic=True)
        collector = collectors.get(key) or self._collectors.get(key)
        if collector is None:
            factory = factory_for(config.log_collector_config, self._factories)
            collector = factory(config.log_collector_config, self._report)
        collectors[key] = collector
        return _Logger(config.sampling_config.sampling_rate, config.sampling_config, collector)

    def _record(
        self, logger: _Logger, request: Message, response: Message | bytes, name: str, version: int, signature_name: str
    ) -> bytes:
        metadata = logging_pb2.LogMetadata(
            sampling_config=logger.sampling_config, saved_model_tags=self._tags, timestamp_secs=int(time.time())
        )
        metadata.model_spec.name = name
        metadata.model_spec.version.value = version
        metadata.model_spec.signature_name = signature_name
        # Concatenated as bytes: filling a PredictionLog would copy both messages again.
        answer = response if isinstance(response, bytes) else response.SerializeToString()
        exchange = delimited(_REQUEST, request.SerializeToString()) + delimited(_RESPONSE, answer)
        key = _KEYS[request.DESCRIPTOR.full_name]
        return delimited(_METADATA, metadata.SerializeToString()) + delimited(key, exchange)

    def _report(self, name: str, code: grpc.StatusCode) -> None:
        self._metrics.request_log_count.cell(name, code.name).add()


def _logging_configs(
    config: model_server_config_pb2.ModelServerConfig,
) -> dict[str, list[logging_config_pb2.LoggingConfig]]:
    return {
        model.name: [model.logging_config]
        for model in config.model_config_list.config
        if model.HasField("logging_config")
    }


def _close(collectors: Iterable[LogCollector], timeout: float = _CLOSE_SECONDS) -> bool:
    deadline = time.monotonic() + timeout
    done = True
    for collector in collectors:
        done = collector.close(max(deadline - time.monotonic(), 0.0)) and done
    return done
