"""What TensorBoard shows of a run, read back with its own readers."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups
from tensorboard.plugins.pr_curve import metadata as pr_curve_metadata
from werkzeug.test import Client

from tests.trainer.tiny import GENRES, LANGUAGES, tiny_config
from trainer.data.dataset import Dataset
from trainer.models.calibration import load_calibrations
from trainer.runs import Run
from trainer.training.fit import fit
from trainer.training.tensorboard import sampled, trial_name, write_histogram
from trainer.watch import Projector, plugins

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def runs(tiny: Dataset, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs that differ only in their seed; the directory above them."""
    directory = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        config = tiny_config(tiny.path, training={"epochs": 1, "refit": False})
        fit(config.model_copy(update={"seed": seed}), directory / f"shop-{seed}")
        # The projector orders by time of writing; two fast runs may share a second.
        os.utime(directory / f"shop-{seed}" / "projector_config.pbtxt", (1000 + seed, 1000 + seed))
    return directory


@pytest.fixture(scope="module")
def context(runs: Path) -> TBContext:
    multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 0}).AddRunsFromDirectory(str(runs)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(runs))
    return TBContext(data_provider=provider, logdir=str(runs), multiplexer=multiplexer)


@pytest.fixture(scope="module")
def events(tiny_run: Run) -> EventAccumulator:
    return EventAccumulator(str(tiny_run.path), size_guidance={"tensors": 0}).Reload()


def _steps(events: EventAccumulator, tag: str) -> list[int]:
    return [event.step for event in events.Tensors(tag)]


def _values(events: EventAccumulator, tag: str) -> list[float]:
    return [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]


def test_a_run_is_one_entry_with_the_name_of_its_directory(context: TBContext) -> None:
    found = context.data_provider.list_runs(RequestContext(), experiment_id="")
    assert sorted(run.run_name for run in found) == ["shop-1", "shop-2"]


def test_losses_and_learning_rate_of_both_trainings(events: EventAccumulator) -> None:
    tags = set(events.Tags()["tensors"])
    for prefix in ("", "refit/"):
        for name in ("loss", "retrieval_loss", "ranking_loss", "learning_rate"):
            assert f"{prefix}epoch/{name}" in tags
    # 3 epochs of 8 steps; every 20th is written.
    assert _steps(events, "epoch/loss") == [0, 1, 2]
    assert _steps(events, "batch/loss") == [20]
    assert _steps(events, "validation/recall@10") == [0, 1, 2]
    assert "item_language/ko/ndcg@10" in tags
    assert not any(tag.startswith(("val_", "epoch/val_")) for tag in tags)


def test_what_was_selected_is_the_best_epoch(events: EventAccumulator) -> None:
    assert _values(events, "selected/recall@10") == [pytest.approx(max(_values(events, "validation/recall@10")))]


def test_recall_by_pair_of_languages_after_each_epoch(events: EventAccumulator) -> None:
    pairs = [tag for tag in events.Tags()["tensors"] if tag.startswith("language_pair/")]
    assert "language_pair/ko_to_en/recall@10" in pairs
    for tag in pairs:
        assert _steps(events, tag) == [0, 1, 2]
        assert all(0.0 <= value <= 1.0 for value in _values(events, tag))


def test_settings_on_the_text_page(events: EventAccumulator, tiny_run: Run) -> None:
    (event,) = events.Tensors("config")
    assert f"dimension: {tiny_run.config.model.dimension}" in tf.make_ndarray(event.tensor_proto)[()].decode()


def test_runs_that_differ_in_their_seed_are_rows_of_their_own_with_recall_first(context: TBContext) -> None:
    hparams = backend_context.Context(context)
    metadata = hparams.hparams_metadata(RequestContext(), "")
    experiment = hparams.experiment_from_metadata(
        RequestContext(), "", True, metadata, hparams.hparams_from_data_provider(RequestContext(), "", None)
    )
    assert [info.display_name for info in experiment.metric_infos][:2] == ["Recall@10", "NDCG@10"]
    differing = [info.name for info in experiment.hparam_infos if info.differs]
    assert "seed" in differing
    assert "model.dimension" in differing, "the tests' 16 is not the default"
    assert "training.patience" not in differing, "the default"
    assert [info.name for info in experiment.hparam_infos][: len(differing)] == differing
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=10, allowed_statuses=[api_pb2.STATUS_UNKNOWN], include_metrics=True
    )
    handler = list_session_groups.Handler(RequestContext(), hparams, "", request)
    groups = {group.name: group for group in handler.run().session_groups}
    assert set(groups) == {"shop-1", "shop-2"}
    for seed in (1, 2):
        group = groups[f"shop-{seed}"]
        assert group.hparams["seed"].number_value == seed
        values = {value.name.tag: value.value for value in group.metric_values}
        assert 0.0 <= values["selected/recall@10"] <= 1.0


def test_a_trial_has_the_name_that_tensorboard_gives_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert trial_name(Path("runs/mine")) == "mine"
    assert trial_name(Path("runs/bench/상점")) == "bench/상점"
    assert trial_name(tmp_path / "runs" / "mine") == "mine"
    assert trial_name(Path("elsewhere/mine")) == "mine"


def test_the_graph_leads_from_the_batch_through_the_towers(events: EventAccumulator) -> None:
    graph = events.Graph()
    names = {node.name for node in graph.node}
    # Each box that TensorBoard draws; layers are numbered when they are used again.
    boxes = {name.partition("/")[0].rstrip("_0123456789") for name in names}
    assert {"batch", "step", "candidate_tower", "query_tower", "ranking_model"} <= boxes
    assert len(boxes) < 10
    for node in graph.node:
        for source in node.input:
            assert source.lstrip("^").partition(":")[0] in names
    with tf.Graph().as_default():
        # TensorBoard reads it with its own class.
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString(graph.SerializeToString()))


def test_histograms_of_the_weights(events: EventAccumulator) -> None:
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("weights/")]
    assert any("candidate_tower" in tag for tag in tags)
    assert len(tags) == len([tag for tag in events.Tags()["tensors"] if tag.startswith("refit/weights/")])
    for tag in tags:
        assert _steps(events, tag) == [0, 1, 2]
        assert events.SummaryMetadata(tag).plugin_data.plugin_name == "histograms"


@pytest.mark.parametrize("values", [[-2.0, -1.0, 0.5, 3.0, 3.0], [7.0, 7.0]], ids=["spread", "all one value"])
def test_a_histogram_counts_each_value_once(values: list[float], tmp_path: Path) -> None:
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        write_histogram("weights", np.array(values, np.float32), 4)
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Tensors("weights")
    left, right, counts = tf.make_ndarray(event.tensor_proto).T
    assert event.step == 4
    assert counts.sum() == len(values)
    assert (left[1:] == right[:-1]).all()
    for value in set(values):
        held = [
            count
            for low, high, count in zip(left, right, counts, strict=True)
            if low <= value < high or value == high == right[-1]
        ]
        assert held == [values.count(value)]


@pytest.mark.parametrize("shape", [(40_000, 50), (2_000_000,), (3, 400_000), (200, 100, 70)])
def test_a_large_tables_histogram_is_of_a_sample(shape: tuple[int, ...]) -> None:
    """100,000 of the values, spread like all of them; the same places in each epoch."""
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    weight = tf.Variable(values)
    found = sampled(weight)
    assert found.shape == (100_000,)
    assert np.isin(found[::500], values).all()
    np.testing.assert_allclose(np.percentile(found, [5, 50, 95]), [-1.645, 0.0, 1.645], atol=0.04)
    np.testing.assert_array_equal(sampled(weight), found)


def test_a_small_weights_histogram_is_of_every_value() -> None:
    weight = tf.Variable([[3.0, 1.0], [2.0, 5.0]])
    np.testing.assert_array_equal(np.sort(sampled(weight)), [1.0, 2.0, 3.0, 5.0])
    np.testing.assert_array_equal(sampled(tf.Variable(4.0)), [4.0])


@pytest.fixture
def projector(context: TBContext) -> Client:
    assert [each for each in plugins() if each is Projector] == [Projector]
    apps = Projector(context).get_plugin_apps()

    def dispatch(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        body: Iterable[bytes] = apps[environ["PATH_INFO"]](environ, start_response)
        return body

    return Client(dispatch)


def test_the_projector_opens_the_newest_run(projector: Client, runs: Path) -> None:
    assert projector.get("/runs").json == ["shop-2", "shop-1"]
    os.utime(runs / "shop-1" / "projector_config.pbtxt", (2000, 2000))
    assert projector.get("/runs").json == ["shop-1", "shop-2"]


def test_the_projector_shows_items_with_title_and_language(projector: Client) -> None:
    answer = projector.get("/metadata", query_string={"run": "shop-2", "name": "items"}).text.splitlines()
    rows = [line.split("\t") for line in answer]
    # Points are labelled by the first column of text.
    assert rows[0] == ["title", "language", "categories", "item_id"]
    assert len(rows) == 62
    assert {row[1] for row in rows[1:]} == set(LANGUAGES)
    assert {label for row in rows[1:] for label in row[2].split(", ")} >= set(GENRES)
    assert any("우주선" in row[0] and row[1] == "ko" for row in rows)
    vectors = np.frombuffer(
        projector.get("/tensor", query_string={"run": "shop-2", "name": "items"}).data, np.float32
    ).reshape(61, 16)
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) > 50


def test_the_projector_begins_with_the_colour_of_the_language(projector: Client) -> None:
    script = projector.get("/projector_binary.js").text
    assert 'o.name==="language"' in script
    # What an update of TensorBoard could change silently.
    assert "this.selectedColorOptionName=this.colorOptions[0].name" not in script


def test_a_pr_curve_of_each_binary_head(events: EventAccumulator) -> None:
    assert (
        events.SummaryMetadata("heads/probability_like/pr_curves").plugin_data.plugin_name
        == pr_curve_metadata.PLUGIN_NAME
    )
    (curve,) = events.Tensors("heads/probability_like/pr_curves")
    true, false, _, missed, precision, recall = tf.make_ndarray(curve.tensor_proto)
    # At threshold 0 everything is classified as positive.
    assert true[0] > 0
    assert missed[0] == 0
    assert recall[0] == 1.0
    assert precision[0] == pytest.approx(true[0] / (true[0] + false[0]))
    assert (np.diff(recall) <= 0).all()


def test_pictures_are_readable_in_tensorboards_small_cards(events: EventAccumulator) -> None:
    for name in ("reliability", "precision_recall"):
        (event,) = events.Tensors(f"heads/probability_like/{name}")
        width, height, picture = tf.make_ndarray(event.tensor_proto)
        image = Image.open(io.BytesIO(picture))
        assert image.size == (int(width), int(height))
        # Text of 10 points at 150 dpi has 21 pixels; a card shows 340 of the picture's, and 10 pixels can be read.
        assert 300 < image.width <= 340 * 21 / 10
        shades = np.asarray(image.convert("L"))
        assert shades.min() < 50
        assert shades.max() == 255


def test_log_loss_before_and_after_calibration(events: EventAccumulator, tiny_run: Run) -> None:
    found = load_calibrations(tiny_run)["like"]
    for method, value in found.log_loss.items():
        (event,) = events.Tensors(f"heads/probability_like/{method}/log_loss")
        assert float(tf.make_ndarray(event.tensor_proto)) == pytest.approx(value, rel=1e-4)
