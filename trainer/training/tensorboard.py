"""TensorBoard pages beside the scalars: settings as text, hyperparameters, item embeddings."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy.special import expit
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.pr_curve import summary as pr_curve

from trainer.config import Config, dump_config, flat_settings
from trainer.data.catalogue import Catalogue
from trainer.data.heads import Head
from trainer.evaluation.head_events import HeadEvents
from trainer.evaluation.head_plots import precision_recall_figure, reliability_figure
from trainer.evaluation.heads import HeadResult
from trainer.evaluation.style import png
from trainer.files import atomic_file, write_text
from trainer.models.calibration import Calibrations


@contextlib.contextmanager
def recording(writer: tf.summary.SummaryWriter, step: int | None = None) -> Iterator[None]:
    """Summaries inside the block go to ``writer``, with ``step`` where they name none.

    Keras's own TensorBoard callback turns recording off between its summaries, and leaves it so when a training breaks
    off; inside the block it is on.
    """
    with writer.as_default(step=step), tf.summary.record_if(True):
        yield


def write_config_page(writer: tf.summary.SummaryWriter, config: Config) -> None:
    """The resolved settings on the text page."""
    with recording(writer):
        tf.summary.text("config", f"```yaml\n{dump_config(config)}\n```", step=0)


def write_hyperparameters(writer: tf.summary.SummaryWriter, config: Config) -> None:
    """The settings of model and training on the HParams page, by dotted name."""
    with recording(writer):
        sections = ("model.", "training.", "text.")
        hparams.hparams({name: value for name, value in flat_settings(config).items() if name.startswith(sections)})


def write_projector(directory: Path, catalogue: Catalogue, vectors: npt.NDArray[np.float32], limit: int) -> None:
    """Item vectors with title, language and categories for the projector page.

    Args:
        directory: TensorBoard's log directory.
        catalogue: N items.
        vectors: Float32 [N, D].
        limit: At most so many items, evenly spaced over the catalogue.
    """
    count = min(limit, len(catalogue))
    if count == 0:
        return
    rows = np.unique(np.linspace(0, len(catalogue) - 1, count).astype(int))
    lines = ["item_id\ttitle\tlanguage\tcategories"]
    for row in rows:
        labels = ", ".join(catalogue.labels(row))
        cells = (catalogue.item_ids[row], catalogue.titles[row], catalogue.languages[row], labels)
        lines.append("\t".join(" ".join(cell.split()) or "-" for cell in cells))
    write_text(directory / "items.tsv", "\n".join(lines) + "\n")
    with atomic_file(directory / "item_vectors.tsv") as temporary:
        np.savetxt(temporary, vectors[rows], fmt="%.6g", delimiter="\t")
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name = "items"
    embedding.tensor_path = "item_vectors.tsv"
    embedding.metadata_path = "items.tsv"
    projector.visualize_embeddings(str(directory), config)


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
        writer: Of the run.
        heads: Of the model.
        events: Their raw outputs and labels on the validation part.
        results: What was measured there.
        calibrations: What was fitted there, so that "after" is in-sample on this page; `evaluate` measures it on the
            test part.
        step: Epoch of the weights.
    """
    with recording(writer, step):
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
            picture = png(functools.partial(draw, results, "validation part"))
            if picture is not None:
                tf.summary.image(f"heads/{name}", tf.io.decode_png(picture, channels=4)[tf.newaxis])
    writer.flush()
