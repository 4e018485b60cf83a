"""Quality of the heads on the validation part's events, for calibration and plots."""

import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import Split
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.heads.events import HeadEvents, head_events, sampled_events
from trainer.evaluation.heads.quality import evaluate_heads
from trainer.evaluation.sampling import UserSample
from trainer.models.calibration import Calibrations
from trainer.models.ranker import CatalogueRanker
from trainer.models.recommender import Recommender
from trainer.training.calibration import calibrate
from trainer.training.tensorboard import write_head_quality


def calibrate_on_validation(
    ranker: CatalogueRanker,
    dataset: Dataset,
    catalogue: Catalogue,
    vocabulary: Vocabulary,
    parts: Split,
    sample: UserSample,
    config: Config,
) -> tuple[HeadEvents, Calibrations]:
    """Calibrates the binary heads on the validation part's events; also returns these.

    Args:
        ranker: Of a model trained on ``parts.train``, over the catalogue.
        dataset, catalogue, vocabulary, parts: The data it was trained on.
        sample: The users that validation ranks. If these are not all, as many are calibrated on.
        config: Settings of the run.
    """
    heads = ranker.model.heads
    most = config.training.validation_users
    found = sampled_events(dataset, parts, "validation", parts.train, sample, most, config.seed)
    events = head_events(ranker, catalogue, vocabulary, heads, found.history, found.events)
    return events, calibrate(heads, events.outputs, events.labels)


def draw_quality(
    model: Recommender, events: HeadEvents, calibrations: Calibrations, *, writer: tf.summary.SummaryWriter, step: int
) -> None:
    """Draws PR curves and reliability of the heads for TensorBoard.

    Args:
        model: The model that produced the events' outputs.
        events, calibrations: As returned by `calibrate_on_validation`.
        writer: TensorBoard writer.
        step: Epoch of the weights.
    """
    results = evaluate_heads(model.heads, events, calibrations, model.ranking_model.scale.numpy(), resamples=0)
    write_head_quality(writer, model.heads, events, results, calibrations, step)
