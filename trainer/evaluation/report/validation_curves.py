"""The metric used for early stopping, read from a run's events."""

from typing import Final

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from serving.protos import tensor_pb2
from trainer.evaluation.report.curves import Curve
from trainer.runs import Run

# The less common one first.
_MONITORS: Final = ("auc", "recall@10")


def validation_curve(run: Run) -> Curve | None:
    """Values after each epoch, from TensorBoard's events; for an epoch logged twice, the last one."""
    events = EventAccumulator(str(run.path), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()["tensors"]
    for metric in _MONITORS:
        tag = f"validation/{metric}"
        if tag in tags:
            values = {event.step + 1: _scalar(event.tensor_proto) for event in events.Tensors(tag)}
            return Curve(metric, sorted(values.items()))
    return None


def _scalar(proto: tensor_pb2.TensorProto) -> float:
    if proto.tensor_content:
        return float(np.frombuffer(proto.tensor_content, np.float32)[0])
    return float(proto.float_val[0])
