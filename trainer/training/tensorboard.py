"""TensorBoard pages beside the scalars: settings as text, hyperparameters, item embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hparams

from trainer.config import Config, dump_config
from trainer.data.catalogue import Catalogue
from trainer.files import atomic_file, write_text


def write_config_page(writer: tf.summary.SummaryWriter, config: Config) -> None:
    """The resolved settings on the text page."""
    with writer.as_default():
        tf.summary.text("config", f"```yaml\n{dump_config(config)}\n```", step=0)


def write_hyperparameters(writer: tf.summary.SummaryWriter, config: Config) -> None:
    """The settings of model and training on the HParams page, by dotted name."""
    with writer.as_default():
        hparams.hparams(
            {
                name: value
                for section in ("model", "training", "text")
                for name, value in _flat(config.model_dump(mode="json")[section], f"{section}.").items()
            }
        )


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


def _flat(section: dict[str, Any], prefix: str) -> dict[str, str | int | float | bool]:
    flat: dict[str, str | int | float | bool] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat
