"""Replays recorded requests on a freshly loaded model, so that no client waits for lazy initialisation."""

import logging
import time
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.server.errors import StatusError, from_exception, invalid_argument
from serving.server.predict import run_predict
from serving.server.servable import SavedModelServable

_LOGGER = logging.getLogger(__name__)
_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
_MAX_RECORDS = 1000


def warm_up(servable: SavedModelServable, name: str, version: int, iterations: int = 1) -> int:
    """Runs the PREDICT logs of ``assets.extra/tf_serving_warmup_requests``, a TFRecord of PredictionLogs.

    Args:
        servable: the loaded model.
        name: its name.
        version: its version.
        iterations: how many times each request is run.

    Returns:
        Number of records run; 0 when the model brings no file.

    Raises:
        StatusError: the file is broken, holds too many records, or a request failed. As in TensorFlow
            Serving that fails the load: a model that can't answer its own sample must not go live.
    """
    path = servable.path / _FILE
    if not path.exists():
        _LOGGER.info("no warm-up data file found at %s", path)
        return 0
    start = time.monotonic()
    count = 0
    skipped: set[str] = set()
    try:
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            if count >= _MAX_RECORDS:
                raise invalid_argument(f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at {path}")
            count += 1
            log = _parse(record, path)
            kind = log.WhichOneof("log_type")
            if kind != "predict_log":
                skipped.add(str(kind))
                continue
            for _ in range(iterations):
                run_predict(servable, name, version, log.predict_log.request)
    except StatusError as error:
        raise StatusError(error.code, f"warm-up request {count} of {path} failed: {error.message}") from error
    except tf.errors.DataLossError as error:
        failure = from_exception(error)
        raise StatusError(
            failure.code,
            f"{failure.message}. Please verify your warmup data is in TFRecord format ({path}).",
        ) from error
    if skipped:
        _LOGGER.warning("warm-up records of other kinds than predict_log are skipped: %s", sorted(skipped))
    _LOGGER.info("warm-up of %s version %d: %d records in %.3f s", name, version, count, time.monotonic() - start)
    return count


def _parse(record: bytes, path: Path) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except Exception:
        raise invalid_argument(f"Failed to parse warmup record from {path}") from None
