"""Loads a version directory as a servable and unloads it."""

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from serving.protos import config_pb2
from serving.runtime.batching import BatchingOptions
from serving.runtime.priority import considerate
from serving.server.errors import StatusError, from_exception
from serving.server.execution import ops
from serving.server.execution.saved_model import SavedModelServable
from serving.server.execution.servable import Servable
from serving.server.lifecycle.completeness import TFLITE_MODEL, CompletenessCheck
from serving.server.lifecycle.warmup import has_requests, try_out, warm_up
from serving.server.operations.metric_values import MAX_LABEL
from serving.server.operations.metrics import Metrics

_LOGGER = logging.getLogger(__name__)
# The version's key in ML Metadata, written by TensorFlow Extended's Pusher.
_UUID = Path("assets.extra") / "mlmd_uuid"


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """How models are loaded.

    Attributes:
        tags: tags of the meta graph.
        session_config: a ``tensorflow.ConfigProto``.
        warm_up: whether to replay the model's warm-up requests.
        warm_up_iterations: how many times to replay each.
        check_method_names: as for ``Handlers``.
        batching: how to batch concurrent requests; None runs each alone.
        predict_alone: whether Predict requests never use the batch queue.
        prefer_tflite: serve ``model.tflite`` of a version directory where there is one.
        tflite_interpreters: interpreters of a TFLite model, which is how many requests it answers concurrently.
        check: reports what a version lacks.
    """

    tags: Sequence[str] = ("serve",)
    session_config: Any = field(default_factory=config_pb2.ConfigProto)
    warm_up: bool = True
    warm_up_iterations: int = 1
    check_method_names: bool = False
    batching: BatchingOptions | None = None
    predict_alone: bool = False
    prefer_tflite: bool = False
    tflite_interpreters: int = 1
    check: CompletenessCheck = field(default_factory=CompletenessCheck)


class ModelLoader:
    """Loads one version of one model.

    Args:
        name: the model's name.
        version: its version.
        path: the version directory.
        options: see ``LoaderOptions``.
        metrics: where loads are counted; None doesn't count them.
    """

    def __init__(
        self, name: str, version: int, path: Path, options: LoaderOptions, metrics: Metrics | None = None
    ) -> None:
        self._name = name
        self._version = version
        self._path = path
        self._options = options
        self._metrics = metrics
        self._servable: Servable | None = None

    @property
    def servable(self) -> Servable:
        """The model; only between ``load`` and ``unload``."""
        assert self._servable is not None
        return self._servable

    def load(self) -> None:
        """Loads and warms up.

        Raises:
            StatusError: with TensorFlow's message and, if known, the remedy.
        """
        with considerate(self._options.session_config):
            self._load()

    def _load(self) -> None:
        start = time.monotonic()
        servable = None
        try:
            self._check()
            servable = self._open()
            _LOGGER.info("%s loaded in %.3f s", self._path, time.monotonic() - start)
            self._show_uuid()
            if isinstance(servable, SavedModelServable):
                servable.check_signatures()
            if self._options.warm_up:
                self._warm_up(servable)
        except Exception as error:
            if servable is not None:
                servable.close()
            failure = from_exception(error)
            raise StatusError(failure.code, failure.message + ops.remedy(failure.message)) from error
        if self._metrics is not None and isinstance(servable, SavedModelServable) and servable.batching is not None:
            for operation in servable.batch_operations:
                self._metrics.batching.configure(self._name, operation, servable.batching)
            servable.batch_metrics = self._metrics.batching
        self._servable = servable

    def _warm_up(self, servable: Servable) -> None:
        with servable.warming_up() if isinstance(servable, SavedModelServable) else contextlib.nullcontext():
            warm_up(
                servable,
                self._name,
                self._version,
                self._options.warm_up_iterations,
                check_method_names=self._options.check_method_names,
                predict_alone=self._options.predict_alone,
                metrics=self._metrics,
            )
            if isinstance(servable, SavedModelServable):
                try_out(servable, self._name, self._version, servable.unused_signatures)
            elif not has_requests(self._path):
                try_out(servable, self._name, self._version, servable.signatures)
        if isinstance(servable, SavedModelServable) and has_requests(self._path):
            # The recorded requests show which signatures are used.
            servable.fix_output_sets()

    def _check(self) -> None:
        """Refuses an incomplete version, before it takes any memory."""
        problem = self._options.check.problem(self._path)
        if self._metrics is not None:
            self._metrics.version_check_count.cell(str(self._path), "fail" if problem else "success").add()
        if problem:
            raise StatusError(
                grpc.StatusCode.DATA_LOSS,
                f"version {self._version} of model {self._name} is incomplete: {problem} (in {self._path}). "
                "Remedy: copy it again, preferably under a hidden name that is renamed at the end",
            )

    def _show_uuid(self) -> None:
        """As ``MaybePublishMLMDStreamz`` in ``servables/tensorflow/machine_learning_metadata.cc``."""
        path = self._path / _UUID
        if self._metrics is None or not path.exists():
            return
        try:
            with path.open("rb") as file:
                uuid = file.read(MAX_LABEL).decode(errors="replace")
        except OSError as error:
            _LOGGER.warning("%s can't be read: %s", path, error)
            return
        self._metrics.record_uuid(self._name, self._version, uuid)

    def unload(self) -> None:
        """Frees the memory."""
        if self._servable is not None:
            self._servable.close()
            self._servable = None

    def _open(self) -> Servable:
        model = self._path / TFLITE_MODEL
        if self._options.prefer_tflite and model.exists():
            from serving.server.execution.tflite import TFLiteServable  # brings in TensorFlow's package

            _LOGGER.info("reading TFLite model %s", model)
            return TFLiteServable(self._path, model, self._options.tflite_interpreters)
        tags = self._options.tags
        _LOGGER.info("reading SavedModel from %s with tags {%s}", self._path, " ".join(tags))
        start = time.perf_counter()
        failure: StatusError | None = None
        try:
            return SavedModelServable(self._path, tags, self._options.session_config, self._options.batching)
        except Exception as error:
            failure = from_exception(error)
            raise
        finally:
            if self._metrics is not None:
                self._metrics.record_load(str(self._path), time.perf_counter() - start, failure)
