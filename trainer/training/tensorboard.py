"""Output for TensorBoard's pages other than the training curves."""

import functools
import math
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy.special import expit
from tensorboard.plugins import projector
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.pr_curve import summary as pr_curve

from trainer.config.settings import Config, dump_config, flat_settings
from trainer.data.catalogue import Catalogue
from trainer.data.heads import Head
from trainer.evaluation.heads.events import HeadEvents
from trainer.evaluation.heads.result import HeadResult
from trainer.evaluation.report.head_plots import precision_recall_figure, reliability_figure
from trainer.evaluation.report.style import png
from trainer.files import atomic_file, write_text
from trainer.models.calibration import Calibrations
from trainer.models.recommender import Recommender
from trainer.runs import Run

# Metrics of a run on the HParams page, in this order; the second pair is for impressions.
_METRICS: Final = {
    "selected/recall@10": "Recall@10",
    "selected/ndcg@10": "NDCG@10",
    "selected/auc": "AUC",
    "selected/mrr": "MRR",
}
_SECTIONS: Final = ("seed", "data.split.", "model.", "training.", "text.")
_BUCKETS: Final = 30
# Values that a histogram counts at most: a larger table is sampled, which bounds time and memory.
_COUNTED: Final = 100_000
# Values that are read at a time.
_READ: Final = 1 << 22
# Directory of the projector's tables inside the run directory.
PROJECTOR: Final = "projector"


def open_writer(run: Run) -> tf.summary.SummaryWriter:
    """A writer of TensorBoard events into the run directory itself.

    TensorBoard names a run after the directory of its events, so ``--logdir runs`` lists ``runs/mine`` as ``mine``.
    """
    return tf.summary.create_file_writer(str(run.path))


def write_config_page(writer: tf.summary.SummaryWriter, config: Config) -> None:
    """The resolved settings on the text page."""
    with writer.as_default():
        tf.summary.text("config", f"```yaml\n{dump_config(config)}\n```", step=0)


def write_hyperparameters(writer: tf.summary.SummaryWriter, run: Run) -> None:
    """The seed and the settings of split, model, training and text on the HParams page, by dotted name.

    The trial is named after the run: without a name, TensorBoard merges all runs with equal settings in one row.
    Settings other than the defaults are marked as differing, which TensorBoard shows first.
    """
    settings = _shown_settings(run.config)
    defaults = _shown_settings(Config(name=run.config.name, data=run.config.data))
    experiment = api_pb2.Experiment(
        hparam_infos=[
            api_pb2.HParamInfo(name=name, differs=name == "seed" or value != defaults.get(name), type=_type(value))
            for name, value in settings.items()
        ],
        metric_infos=[hparams.Metric(tag, display_name=label).as_proto() for tag, label in _METRICS.items()],
    )
    content = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    with writer.as_default(step=0):
        tf.summary.write(
            hparams_metadata.EXPERIMENT_TAG, 0.0, metadata=hparams_metadata.create_summary_metadata(content)
        )
        hparams.hparams(settings, trial_id=trial_name(run.path))


def write_selected(writer: tf.summary.SummaryWriter, metrics: Mapping[str, float], epoch: int) -> None:
    """Validation metrics of the selected weights and factors, for the HParams page."""
    with writer.as_default(step=epoch):
        for name, value in metrics.items():
            if "/" not in name:
                tf.summary.scalar(f"selected/{name}", value)


def trial_name(path: Path) -> str:
    """TensorBoard's name of a run below ``runs``: ``runs/bench/a`` is ``bench/a``; elsewhere its directory name."""
    resolved, runs = path.resolve(), Path("runs").resolve()
    return resolved.relative_to(runs).as_posix() if resolved.is_relative_to(runs) else resolved.name


def write_graph(writer: tf.summary.SummaryWriter, model: Recommender, batches: tf.data.Dataset) -> None:
    """The graph from a training batch to the loss, without gradients, on the graph page.

    Args:
        writer: TensorBoard writer of the run.
        model: The built model.
        batches: Training batches; none is consumed.
    """
    function = tf.function(lambda batch: model.compute_loss(batch, training=True))
    graph = function.get_concrete_function(batches.element_spec).graph.as_graph_def()
    with writer.as_default():
        tf.summary.graph(_grouped(graph, {layer.name for layer in model.layers}))


def _grouped(graph: tf.compat.v1.GraphDef, layers: Set[str]) -> tf.compat.v1.GraphDef:
    """Groups the graph in a few boxes: TensorBoard draws each node outside a scope separately, hundreds here.

    Inputs go into ``batch``; what belongs to no layer (looking up features, drawing negatives, losses) into ``step``.
    """

    def scoped(name: str) -> str:
        first = re.sub(r"_\d+$", "", name.partition("/")[0])
        if first in layers:
            return name
        return f"batch/{name}" if first == "batch" else f"step/{name}"

    grouped = tf.compat.v1.GraphDef()
    grouped.CopyFrom(graph)
    for node in grouped.node:
        node.name = scoped(node.name)
        for place, source in enumerate(node.input):
            control, name = ("^", source[1:]) if source.startswith("^") else ("", source)
            node.input[place] = control + scoped(name)
        # Gives the nodes it is colocated with, by their old names.
        node.attr.pop("_class", None)
    return grouped


def sampled(weight: tf.Variable, most: int = _COUNTED) -> npt.NDArray[np.floating]:
    """The values of a weight, or of ``most`` places drawn with repeats, the same for each step; [n]."""
    size = math.prod(weight.shape)
    if size <= most:
        values: npt.NDArray[np.floating] = weight.numpy().ravel()
        return values
    places = np.unravel_index(np.random.default_rng(size).integers(0, size, most), weight.shape)
    # By blocks of rows, each row once: reading the whole would copy the table.
    read = min(most, weight.shape[0]) * math.prod(weight.shape[1:])
    parts = []
    for block in np.array_split(np.argsort(places[0], kind="stable"), max(1, read // _READ)):
        rows, places_in_them = np.unique(places[0][block], return_inverse=True)
        values = tf.gather(weight, rows).numpy()
        parts.append(values[(places_in_them, *(place[block] for place in places[1:]))])
    return np.concatenate(parts)


def write_histogram(name: str, values: npt.NDArray[np.floating], step: int) -> None:
    """A histogram summary for the default writer.

    TensorBoard's own builds a one-hot matrix of the values, 240 bytes each; this one counts.
    """
    counts, edges = np.histogram(values, bins=_BUCKETS)
    tf.summary.write(
        name,
        np.stack([edges[:-1], edges[1:], counts], axis=1),
        step=step,
        metadata=histogram_metadata.create_summary_metadata(display_name=None, description=None),
    )


def _shown_settings(config: Config) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in flat_settings(config).items() if name.startswith(_SECTIONS)}


def _type(value: str | int | float | bool) -> api_pb2.DataType:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


def write_projector(run: Run, catalogue: Catalogue, vectors: npt.NDArray[np.float32], limit: int) -> None:
    """Item vectors with title, language and categories for the projector page.

    Args:
        run: Its directory contains the events: the projector looks nowhere else.
        catalogue: N items.
        vectors: Float32 [N, D].
        limit: Maximum number of items, evenly spaced over the catalogue.
    """
    count = min(limit, len(catalogue))
    if count == 0:
        return
    rows = np.unique(np.linspace(0, len(catalogue) - 1, count).astype(int))
    # The projector labels the points with the first text column.
    lines = ["title\tlanguage\tcategories\titem_id"]
    for row in rows:
        labels = ", ".join(catalogue.labels(row))
        cells = (catalogue.titles[row], catalogue.languages[row], labels, catalogue.item_ids[row])
        lines.append("\t".join(" ".join(cell.split()) or "-" for cell in cells))
    directory = run.path / PROJECTOR
    directory.mkdir(exist_ok=True)
    write_text(directory / "items.tsv", "\n".join(lines) + "\n")
    with atomic_file(directory / "vectors.tsv") as temporary:
        np.savetxt(temporary, vectors[rows], fmt="%.6g", delimiter="\t")
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name = "items"
    embedding.tensor_path = f"{PROJECTOR}/vectors.tsv"
    embedding.metadata_path = f"{PROJECTOR}/items.tsv"
    projector.visualize_embeddings(str(run.path), config)


def write_head_quality(
    writer: tf.summary.SummaryWriter,
    heads: Sequence[Head],
    events: HeadEvents,
    results: Mapping[str, HeadResult],
    calibrations: Calibrations,
    step: int,
) -> None:
    """The heads on the validation part: PR curves of the calibrated probabilities, reliability plots, and scalars.

    Args:
        writer: TensorBoard writer of the run.
        heads: Heads of the model.
        events: Their raw outputs and labels on the validation part.
        results: Results measured there.
        calibrations: Calibrations fitted there, so that "after" is in-sample on this page; `evaluate` measures it on
            the test part.
        step: Epoch of the weights.
    """
    with writer.as_default(step=step):
        for column, head in enumerate(heads):
            result = results.get(head.name)
            if result is None:
                continue
            for name, metric in result.metrics.items():
                tf.summary.scalar(f"heads/{head.output}/{name}", metric.value)
            for method, metrics in result.probabilities.items():
                for name, metric in metrics.items():
                    tf.summary.scalar(f"heads/{head.output}/{method}/{name}", metric.value)
            known = np.isfinite(events.labels[:, column])
            if head.kind == "binary" and known.any():
                fitted = calibrations.get(head.name)
                margin = events.outputs[known, column]
                probability = expit(margin if fitted is None else fitted.applied.logits(margin))
                curve = pr_curve.pb(f"heads/{head.output}", events.labels[known, column] > 0, probability)
                tf.summary.experimental.write_raw_pb(curve.SerializeToString())
            for name, draw in (("reliability", reliability_figure), ("precision_recall", precision_recall_figure)):
                picture = png(functools.partial(draw, {head.name: result}, "Validation part", card=True))
                if picture is not None:
                    tf.summary.image(f"heads/{head.output}/{name}", tf.io.decode_png(picture, channels=3)[tf.newaxis])
    writer.flush()
