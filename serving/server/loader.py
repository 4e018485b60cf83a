"""Makes a servable of a version directory and takes it down again."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import config_pb2

from serving.server import ops
from serving.server.errors import StatusError, from_exception
from serving.server.servable import SavedModelServable
from serving.server.warmup import warm_up

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """How SavedModels are loaded.

    Attributes:
        tags: tags of the meta graph.
        inter_op_threads: TensorFlow's threads between ops; 0 lets TensorFlow choose.
        intra_op_threads: TensorFlow's threads inside an op; 0 lets TensorFlow choose.
        warm_up: whether to replay the model's warm-up requests.
        warm_up_iterations: how many times each.
    """

    tags: Sequence[str] = ("serve",)
    inter_op_threads: int = 0
    intra_op_threads: int = 0
    warm_up: bool = True
    warm_up_iterations: int = 1


class SavedModelLoader:
    """Loads one version of one model.

    Args:
        name: the model's name.
        version: its version.
        path: the version directory.
        options: see ``LoaderOptions``.
    """

    def __init__(self, name: str, version: int, path: Path, options: LoaderOptions) -> None:
        self._name = name
        self._version = version
        self._path = path
        self._options = options
        self._servable: SavedModelServable | None = None

    @property
    def servable(self) -> SavedModelServable:
        """The model; only between ``load`` and ``unload``."""
        assert self._servable is not None
        return self._servable

    def load(self) -> None:
        """Loads and warms up.

        Raises:
            StatusError: with what TensorFlow said and, where known, what to do about it.
        """
        start = time.monotonic()
        _LOGGER.info("reading SavedModel from %s with tags {%s}", self._path, " ".join(self._options.tags))
        servable = None
        try:
            servable = SavedModelServable(self._path, self._options.tags, self._session_config())
            _LOGGER.info("SavedModel %s loaded in %.3f s", self._path, time.monotonic() - start)
            if self._options.warm_up:
                warm_up(servable, self._name, self._version, self._options.warm_up_iterations)
        except Exception as error:
            if servable is not None:
                servable.close()
            failure = from_exception(error)
            raise StatusError(failure.code, failure.message + ops.remedy(failure.message)) from error
        self._servable = servable

    def unload(self) -> None:
        """Gives the memory back."""
        if self._servable is not None:
            self._servable.close()
            self._servable = None

    def _session_config(self) -> Any:
        return config_pb2.ConfigProto(
            inter_op_parallelism_threads=self._options.inter_op_threads,
            intra_op_parallelism_threads=self._options.intra_op_threads,
        )
