"""What TensorBoard shows of a run, read back from its events."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.pr_curve import metadata as pr_curve_metadata

from trainer.models.calibration import load_calibrations
from trainer.runs import Run


@pytest.fixture(scope="module")
def events(tiny_run: Run) -> EventAccumulator:
    logs = tiny_run.tensorboard / "select" / "quality"
    return EventAccumulator(str(logs), size_guidance={"tensors": 0}).Reload()


def test_recall_by_pair_of_languages_after_each_epoch(events: EventAccumulator) -> None:
    pairs = [tag for tag in events.Tags()["tensors"] if tag.startswith("validation/language_pair/")]
    assert "validation/language_pair/ko_to_en/recall@10" in pairs
    for tag in pairs:
        values = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        assert [event.step for event in events.Tensors(tag)] == [0, 1, 2]
        assert all(0.0 <= value <= 1.0 for value in values)


def test_a_pr_curve_of_each_binary_head(events: EventAccumulator) -> None:
    assert (
        events.SummaryMetadata("heads/probability_like/pr_curves").plugin_data.plugin_name
        == pr_curve_metadata.PLUGIN_NAME
    )
    (curve,) = events.Tensors("heads/probability_like/pr_curves")
    true, false, _, missed, precision, recall = tf.make_ndarray(curve.tensor_proto)
    # At threshold 0 everything is called positive.
    assert true[0] > 0
    assert missed[0] == 0
    assert recall[0] == 1.0
    assert precision[0] == pytest.approx(true[0] / (true[0] + false[0]))
    assert (np.diff(recall) <= 0).all()


def test_reliability_and_precision_as_pictures(events: EventAccumulator) -> None:
    for name in ("heads/reliability", "heads/precision_recall"):
        (event,) = events.Tensors(name)
        width, height, picture = tf.make_ndarray(event.tensor_proto)
        shape = Image.open(io.BytesIO(picture)).size
        assert shape == (int(width), int(height))
        assert min(shape) > 300


def test_log_loss_before_and_after_calibration(events: EventAccumulator, tiny_run: Run) -> None:
    found = load_calibrations(tiny_run)["like"]
    for method, value in found.log_loss.items():
        (event,) = events.Tensors(f"heads/probability_like/{method}/log_loss")
        assert float(tf.make_ndarray(event.tensor_proto)) == pytest.approx(value, rel=1e-4)
