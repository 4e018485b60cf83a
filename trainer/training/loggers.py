"""Experiment trackers behind one small interface: MLflow and Weights & Biases (``training.loggers``).

They are configured by their own means (``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``, ``WANDB_PROJECT``,
``WANDB_MODE``, ...). The record's id is kept in the run directory, so that a resumed `fit`, and `evaluate` and `export`
after it, continue the same record.

A tracker that is unreachable when a command begins stops the command; one that fails later is dropped with a
warning, and training continues.
"""

import importlib
import logging
import os
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Self

import tensorflow as tf

from trainer.config.settings import flat_settings
from trainer.errors import BabelrecError, first_line
from trainer.provenance import source_commit
from trainer.runs import Run

_LOG = logging.getLogger(__name__)
_FILE: Final = "loggers.json"
_PROJECT: Final = "babelrec"
# MLflow accepts at most this many parameters per call.
_BATCH: Final = 100


class RunLogger(ABC):
    """One run's record in one tracker."""

    @abstractmethod
    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Logs the metrics of an epoch."""

    @abstractmethod
    def artifact(self, path: Path) -> None:
        """Uploads a file."""

    @abstractmethod
    def finish(self, *, done: bool) -> None:
        """Closes the record; ``done`` says whether the command ended well."""


class MlflowLogger(RunLogger):
    """A run of an MLflow experiment, using only the client API: no global state is changed.

    Args:
        run: Its settings become parameters; the id is kept in its directory.

    Raises:
        BabelrecError: MLflow is not installed, or its store can't be used.
    """

    def __init__(self, run: Run) -> None:
        self._mlflow = _import("mlflow")
        tracking = importlib.import_module("mlflow.tracking")
        before = _read(run).get("mlflow", {})
        # Without an environment variable, the store where the run began; only then MLflow's default, relative to here.
        uri = os.environ.get("MLFLOW_TRACKING_URI") or before.get("tracking_uri") or self._mlflow.get_tracking_uri()
        try:
            self._client = tracking.MlflowClient(tracking_uri=uri)
            self._id = self._resume(before.get("run_id"))
            if self._id is None:
                self._id = self._create(run)
        except Exception as error:
            raise BabelrecError(
                f"training.loggers: MLflow's store {uri} can't be used: {first_line(error)}. Set "
                "MLFLOW_TRACKING_URI to a server or to sqlite:///FILE, or remove mlflow from training.loggers."
            ) from error
        _note(run, "mlflow", {"run_id": self._id, "tracking_uri": uri})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See `RunLogger`; ``recall@10`` is logged as ``recall_at_10``, because MLflow doesn't allow ``@``."""
        now = int(time.time() * 1000)
        metric = self._mlflow.entities.Metric
        noted = [metric(_plain(name), float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=noted)

    def artifact(self, path: Path) -> None:
        """See `RunLogger`."""
        self._client.log_artifact(self._id, str(path))

    def finish(self, *, done: bool) -> None:
        """See `RunLogger`."""
        self._client.set_terminated(self._id, "FINISHED" if done else "FAILED")

    def _resume(self, run_id: str | None) -> str | None:
        if run_id is None:
            return None
        try:
            self._client.update_run(run_id, status="RUNNING")
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            _LOG.warning("MLflow's store no longer has run %s; starting a new one.", run_id)
            return None
        return run_id

    def _create(self, run: Run) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        tags = {"babelrec.run_dir": str(run.path.absolute()), "mlflow.source.git.commit": source_commit() or ""}
        created = self._client.create_run(experiment, run_name=run.config.name, tags=tags)
        entity = self._mlflow.entities.Param
        params = [entity(_plain(key), str(value)) for key, value in flat_settings(run.config).items()]
        for start in range(0, len(params), _BATCH):
            self._client.log_batch(created.info.run_id, params=params[start : start + _BATCH])
        return str(created.info.run_id)


class WandbLogger(RunLogger):
    """A Weights & Biases run; its local files are in the run directory.

    Args:
        run: Its settings become the config; the id is kept in its directory.

    Raises:
        BabelrecError: wandb is not installed, or the run can't be opened.
    """

    def __init__(self, run: Run) -> None:
        self._wandb = _import("wandb")
        identity = _read(run).get("wandb", {}).get("id") or uuid.uuid4().hex[:12]
        try:
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                id=identity,
                resume="allow",
                name=run.config.name,
                dir=str(run.path.absolute()),
                config=flat_settings(run.config),
                settings=self._wandb.Settings(silent=True),
            )
        except Exception as error:
            raise BabelrecError(
                f"training.loggers: Weights & Biases can't open a run: {first_line(error)}. Log in with `wandb "
                "login`, set WANDB_MODE=offline, or remove wandb from training.loggers."
            ) from error
        # Both phases count epochs from 1, and a resumed epoch is repeated; W&B's own step may only increase.
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")
        _note(run, "wandb", {"id": identity})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See `RunLogger`."""
        self._run.log({**values, "epoch": step})

    def artifact(self, path: Path) -> None:
        """See `RunLogger`."""
        name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{self._run.id}-{path.name}")
        artifact = self._wandb.Artifact(name, type="picture" if path.suffix == ".png" else "report")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def finish(self, *, done: bool) -> None:
        """See `RunLogger`."""
        self._run.finish(exit_code=0 if done else 1)


_LOGGERS: Final[Mapping[str, type[MlflowLogger] | type[WandbLogger]]] = {"mlflow": MlflowLogger, "wandb": WandbLogger}


class RunLoggers:
    """A run's trackers as one; a context manager that closes them."""

    def __init__(self, loggers: Sequence[RunLogger]) -> None:
        self._loggers = list(loggers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._each(lambda logger: logger.finish(done=kind is None))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Logs the metrics of an epoch."""
        self._each(lambda logger: logger.metrics(values, step))

    def artifacts(self, paths: Sequence[Path]) -> None:
        """Uploads files."""
        for path in paths:
            self._each(methodcaller("artifact", path))

    def _each(self, action: Callable[[RunLogger], None]) -> None:
        for logger in list(self._loggers):
            try:
                action(logger)
            except Exception as error:
                _LOG.warning("%s is disabled from now on: %s", type(logger).__name__, first_line(error))
                self._loggers.remove(logger)


def open_loggers(run: Run) -> RunLoggers:
    """Opens the trackers listed in ``training.loggers``, none by default.

    Raises:
        BabelrecError: one is not installed or can't be used; those opened before it are closed.
    """
    opened = RunLoggers([])
    for name in dict.fromkeys(run.config.training.loggers):
        try:
            opened._loggers.append(_LOGGERS[name](run))
        except BabelrecError as error:
            opened.__exit__(type(error), error, None)
            raise
    return opened


def log_files(run: Run, files: Sequence[Path], metrics: Mapping[str, float] | None = None) -> None:
    """Adds the output of `evaluate` or `export` to the run's record: files, and metrics for epoch 0.

    Raises:
        BabelrecError: As for `open_loggers`.
    """
    with open_loggers(run) as loggers:
        if metrics:
            loggers.metrics(metrics, 0)
        loggers.artifacts(files)


class EpochLogger(tf.keras.callbacks.Callback):
    """Passes each epoch's losses and validation metrics to the trackers.

    Args:
        loggers: Trackers of the run.
        phase: Prefix of the metric names.
    """

    def __init__(self, loggers: RunLoggers, phase: str) -> None:
        super().__init__()
        self._loggers = loggers
        self._phase = phase

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs them under the number of completed epochs."""
        self._loggers.metrics(
            {f"{self._phase}/{name}": float(value) for name, value in (logs or {}).items()}, epoch + 1
        )


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BabelrecError(
            f"training.loggers lists {name}, which can't be imported ({error}). Remedy: pip install "
            f"'babelrec[{name}]' (in a checkout: pip install -c constraints.txt -e '.[{name}]')."
        ) from error


def _read(run: Run) -> dict[str, dict[str, str]]:
    return dict(run.read(_FILE)) if (run.path / _FILE).exists() else {}


def _note(run: Run, name: str, entry: dict[str, str]) -> None:
    run.write(_FILE, _read(run) | {name: entry})


def _plain(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"), flags=re.ASCII)
