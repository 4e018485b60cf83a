"""Makes a servable of a version directory and takes it down again."""

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
from serving.server.lifecycle.warmup import has_requests, try_out, warm_up
from serving.server.lifecycle.whole import TFLITE_MODEL, WholeCheck
from serving.server.operations.figures import MAX_LABEL
from serving.server.operations.metrics import Metrics

_LOGGER = logging.getLogger(__name__)
# The key of the version in ML Metadata, which TensorFlow Extended's Pusher leaves there.
_UUID = Path("assets.extra") / "mlmd_uuid"


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """How models are loaded.

    Attributes:
        tags: tags of the meta graph.
        session_config: a ``tensorflow.ConfigProto``.
        warm_up: whether to replay the model's warm-up requests.
        warm_up_iterations: how many times each.
        check_method_names: as for ``Handlers``.
        batching: how to join concurrent requests; None runs each alone.
        predict_alone: whether Predict requests never come by the batch queue.
        prefer_tflite: serve ``model.tflite`` of a version directory where there is one.
        tflite_interpreters: interpreters of a TFLite model, which is how many requests it answers at once.
        check: tells what a version lacks.
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
    check: WholeCheck = field(default_factory=WholeCheck)


class ModelLoader:
    """Loads one version of one model.

    Args:
        name: the model's name.
        version: its version.
        path: the version directory.
        options: see ``LoaderOptions``.
        metrics: where loads are counted; None counts nowhere.
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
            StatusError: with what TensorFlow said and, where known, what to do about it.
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
            # Who records requests has said what is asked for.
            servable.fix_output_sets()

    def _check(self) -> None:
        """Refuses a version that is not whole, before it takes any memory."""
        problem = self._options.check.problem(self._path)
        if self._metrics is not None:
            self._metrics.version_check_count.cell(str(self._path), "fail" if problem else "success").add()
        if problem:
            raise StatusError(
                grpc.StatusCode.DATA_LOSS,
                f"version {self._version} of model {self._name} is not whole: {problem} (in {self._path}). "
                "Remedy: copy it again, best under a hidden name that is changed at the end",
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
        """Gives the memory back."""
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
