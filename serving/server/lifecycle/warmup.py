"""Replays recorded requests on a freshly loaded model, so that no client waits for lazy initialisation.

Follows ``servables/tensorflow/saved_model_warmup_util.cc``, ``saved_model_warmup.cc`` and, for
``predict_streamed_log``, ``tfrt_saved_model_warmup.cc`` of TensorFlow Serving.
"""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from serving.protos import prediction_log_pb2
from serving.server.api.classify import run_classify
from serving.server.api.multi_inference import run_multi_inference
from serving.server.api.predict import run_predict_serialized
from serving.server.api.regress import run_regress
from serving.server.errors import StatusError, from_exception, invalid_argument
from serving.server.execution.servable import METHODS
from serving.server.operations.tfrecord import read_records

if TYPE_CHECKING:
    from serving.server.execution.servable import Servable
    from serving.server.operations.metrics import Metrics

MAX_RECORDS = 1000

_LOGGER = logging.getLogger(__name__)
_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
_TRY_SECONDS = 60.0
_BROKEN = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DATA_LOSS)


def warm_up(
    servable: "Servable",
    name: str,
    version: int,
    iterations: int = 1,
    *,
    check_method_names: bool = False,
    predict_alone: bool = False,
    metrics: "Metrics | None" = None,
) -> int:
    """Runs the requests of ``assets.extra/tf_serving_warmup_requests``, a TFRecord file of ``PredictionLog``s.

    Args:
        servable: the loaded model.
        name: its name.
        version: its version.
        iterations: how many times each request is run.
        check_method_names: as for ``Handlers``.
        predict_alone: whether Predict requests will never use the batch queue, which then needs no warm-up for
            them.
        metrics: where the time is recorded.

    Returns:
        Number of records run; 0 when the model has no warm-up file.

    Raises:
        StatusError: the file is broken, holds too many records, or a request failed. As in TensorFlow
            Serving, that fails the load: a model that can't answer its own samples must not go live.
    """
    path = servable.path / _FILE
    if not path.exists():
        _LOGGER.info("no warm-up data file found at %s", path)
        return 0
    start = time.monotonic()
    failure: StatusError | None = None
    try:
        read = metrics.model_warmup_records_read.cell(str(servable.path)).add if metrics is not None else int
        count = _replay(servable, name, version, path, iterations, check_method_names, predict_alone, read)
    except StatusError as error:
        failure = error
        raise
    finally:
        seconds = time.monotonic() - start
        if metrics is not None:
            metrics.record_warm_up(str(servable.path), seconds, failure)
    _LOGGER.info("warm-up of %s version %d: %d records in %.3f s", name, version, count, seconds)
    return count


def has_requests(directory: Path) -> bool:
    """Whether a version contains warm-up requests."""
    return (directory / _FILE).exists()


def try_out(servable: "Servable", name: str, version: int, keys: Iterable[str]) -> None:
    """Runs once each signature among ``keys`` whose inputs all have declared defaults.

    No inputs are invented: none is known to suit a model, and it must not be refused for one that does not. For the
    same reason only failures that no input can cause count: uninitialised state and damaged data. A signature without
    inputs is skipped, as it may exist for its side effects.

    Raises:
        StatusError: FAILED_PRECONDITION or DATA_LOSS, a signature can't be run.
    """
    for key in keys:
        signature = servable.signatures[key]
        is_whole_request = signature.inputs and signature.inputs.keys() <= signature.defaults.keys()
        if key.startswith("__") or signature.method_name not in METHODS or not is_whole_request:
            continue
        try:
            inputs = {alias: signature.defaults[alias] for alias in signature.inputs}
            servable.run(key, inputs, list(signature.outputs), timeout=_TRY_SECONDS)
        except StatusError as error:
            text = f"signature {key!r} of model {name} version {version} fails with its own defaults: {error.message}"
            if error.code in _BROKEN:
                raise StatusError(error.code, text) from error
            _LOGGER.warning("%s", text)


def _replay(
    servable: "Servable",
    name: str,
    version: int,
    path: Path,
    iterations: int,
    check: bool,
    alone: bool,
    read: Callable[[], object],
) -> int:
    count = 0
    try:
        with path.open("rb") as file:
            for record in read_records(file):
                if count >= MAX_RECORDS:
                    raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
                count += 1
                read()
                log = _parse(record, path)
                for _ in range(max(iterations, 1)):
                    _run(servable, name, version, log, check, alone)
    except StatusError as error:
        if error.code is grpc.StatusCode.DATA_LOSS:
            text = f"{error.message}. Please verify your warmup data is in TFRecord format ({path})."
        else:
            text = f"warm-up request {count} of {path} failed: {error.message}"
        raise StatusError(error.code, text) from error
    except Exception as error:
        failure = from_exception(error)
        raise StatusError(failure.code, f"warm-up request {count} of {path} failed: {failure.message}") from error
    return count


def _run(
    servable: "Servable", name: str, version: int, log: prediction_log_pb2.PredictionLog, check: bool, alone: bool
) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        run_predict_serialized(servable, name, version, log.predict_log.request, check_method_name=check, alone=alone)
    elif kind == "predict_streamed_log":
        requests = log.predict_streamed_log.request
        if len(requests) != 1:
            raise invalid_argument(
                "predict_streamed_log contains more than one request, which is not supported by PredictStreamed."
                if requests
                else "predict_streamed_log does not contain any requests."
            )
        run_predict_serialized(servable, name, version, requests[0], check_method_name=check, alone=alone)
    elif kind == "classify_log":
        run_classify(servable, name, version, log.classify_log.request, check_method_name=check)
    elif kind == "regress_log":
        run_regress(servable, name, version, log.regress_log.request, check_method_name=check)
    elif kind == "multi_inference_log":
        run_multi_inference(servable, version, log.multi_inference_log.request, check_method_name=check)
    elif kind == "session_run_log":
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")


def _parse(record: bytes, path: Path) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except Exception:
        raise invalid_argument(f"Failed to parse warmup record from {path}") from None
