"""`fit`: trains a model into a run directory."""

import contextlib
import logging
import tempfile
import time
from pathlib import Path

import tensorflow as tf

from trainer.config.checks import check_compatible
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.heads import Head
from trainer.data.sources import prepare
from trainer.data.split import split, without_validation
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.registry import with_own
from trainer.locks import writing_alone
from trainer.models.ranking import RETRIEVAL
from trainer.models.recommender import Recommender
from trainer.models.transitions import TRANSITIONS
from trainer.models.weights import save_weights
from trainer.runs import Run
from trainer.training.blend import ChosenBlend, choose_blend
from trainer.training.cluster import Cluster
from trainer.training.loggers import RunLoggers, open_loggers
from trainer.training.phase import FINAL, SELECT, Phase
from trainer.training.sameness import check_same, check_shareable
from trainer.training.tensorboard import open_writer, write_config_page, write_hyperparameters, write_projector
from trainer.training.terms import own_loss

_LOG = logging.getLogger(__name__)


def fit(config: Config, run_dir: Path) -> Run:
    """Trains a model; continues where a killed run of the same settings stopped.

    First on the training part with early stopping on the validation part, then, with
    ``training.refit``, from scratch on both for the number of epochs that was best.

    Args:
        config: The settings.
        run_dir: Directory for all output.

    Returns:
        The finished run.

    Raises:
        BabelrecError: bad data or settings, a non-finite loss, unusable checkpoints, data that has changed since the
            run began, or another process writing there.
    """
    check_compatible(config)
    with_own(config.evaluation.metrics)
    for own in config.training.own_losses:
        own_loss(own.path)
    Run.check_path(run_dir)
    cluster = Cluster.from_environment(all_gpus=config.training.all_gpus)
    check_shareable(config, cluster)
    with cluster.watched():
        if cluster.chief:
            with writing_alone(run_dir):
                return fit_locked(config, run_dir, cluster)
        _follow(config, cluster)
    return Run(run_dir, config)


def _follow(config: Config, cluster: Cluster) -> None:
    """Trains along with the chief, and keeps nothing."""
    training = config.training.model_copy(update={"loggers": []})
    with tempfile.TemporaryDirectory(prefix="babelrec-worker-") as scratch:
        fit_locked(config.model_copy(update={"training": training}), Path(scratch) / "run", cluster)


def fit_locked(config: Config, run_dir: Path, cluster: Cluster | None = None) -> Run:
    """`fit` for a caller that already holds the directory's lock (`writing_alone`); without a cluster, alone."""
    cluster = cluster or Cluster.alone()
    run = Run.create(run_dir, config)
    if cluster.agree(int(run.finished)):
        if cluster.chief:
            run.check_training_data()
            _LOG.info("%s is already finished; nothing to do.", run_dir)
        return run
    opened = open_writer(run) if cluster.chief else tf.summary.create_noop_writer()
    with open_loggers(run) as loggers, contextlib.closing(opened) as writer:
        write_config_page(writer, config)
        write_hyperparameters(writer, run)
        _fit(run, loggers, writer, cluster)
        if cluster.chief:
            loggers.artifacts([run.path / "history.json"])
    # A worker that ended earlier would look lost to the others.
    cluster.agree(0)
    return run


def _fit(run: Run, loggers: RunLoggers, writer: tf.summary.SummaryWriter, cluster: Cluster) -> None:
    config = run.config
    started = time.monotonic()
    dataset = prepare(config.data.source)
    run.record_data(dataset)
    check_same(cluster, config, dataset)
    catalogue = Catalogue.from_dataset(dataset)
    everything = split(dataset, config.data)
    _LOG.info(
        "%s: %d items, %d training, %d validation, %d test positives.",
        dataset.name,
        len(catalogue),
        everything.train.height,
        everything.validation.height,
        everything.test.height,
    )
    refit = config.training.refit and not everything.validation.is_empty()
    selection = Phase(SELECT, run, dataset, catalogue, everything, loggers, writer, cluster)
    # The phase keeps what it needs, and is dropped before the next one.
    del everything
    _check_heads(config, selection.vocabulary, selection.heads)
    epochs = cluster.agree(selection.best_epoch_if_done() or 0)
    model: Recommender | None = None
    if not epochs:
        model = selection.train(config.training.epochs, hold_out=True)
        if cluster.chief:
            selection.calibrate(model)
            selection.choose_search(model)
            epochs = selection.finish(model, *_blend(selection, model))
        epochs = cluster.agree(epochs)
    if refit:
        _LOG.info("Retraining on training + validation for %d epochs.", epochs)
        # Otherwise its catalogue would stay in memory along with the next one.
        del selection, model
        parts = split(dataset, without_validation(config.data))
        last = Phase(FINAL, run, dataset, catalogue, parts, loggers, writer, cluster)
        model = last.train(epochs, hold_out=False)
    else:
        last = selection
        if model is None:
            model = selection.train(config.training.epochs, hold_out=True, done=True)
    if not cluster.chief:
        return
    last.vocabulary.save(run.vocabulary)
    # Only the towers' own components: otherwise untrained content would dominate the view.
    vectors = model.fusion.of_towers(model.candidate_vectors(last.items)).numpy()
    write_projector(run, catalogue, vectors, config.training.projector_items)
    run.write(
        "history.json", {"seconds": round(time.monotonic() - started, 1), "epochs": epochs, "phases": last.history}
    )
    save_weights(run, model)
    for warning in run.read(f"{SELECT}.json").get("warnings", []):
        _LOG.warning("%s", warning)


def _check_heads(config: Config, vocabulary: Vocabulary, heads: list[Head]) -> None:
    """Reports which heads are left out, and refuses a blend with unknown heads."""
    names = [RETRIEVAL, *(head.name for head in heads)]
    if config.model.ranking.transitions.successors:
        names.append(TRANSITIONS)
    for name, label in vocabulary.constant_heads.items():
        reason = "it has no label" if label is None else f"each of its labels is {label:g}"
        _LOG.info("No ranking head for %r: in the training part %s, so there is nothing to learn.", name, reason)
    for name in config.model.ranking.blend or {}:
        if name in vocabulary.constant_heads:
            raise BabelrecError(
                f"model.ranking.blend weighs {name!r}, whose labels are all equal, so it is not trained. Remove it, "
                "or provide events that were not positive (views, impressions, low ratings)."
            )
        if name not in names:
            raise BabelrecError(f"model.ranking.blend weighs {name!r}; the heads are {', '.join(names)}.")


def _blend(phase: Phase, model: Recommender) -> tuple[dict[str, float], ChosenBlend | None]:
    """Weights of the final score: as configured, or chosen on the validation part, or those of an earlier run."""
    config = phase.run.config
    given = config.model.ranking.blend
    if given is not None:
        return given, None
    if phase.hold_out is None:
        # What `trainer.updating` has taken over from the run to start from.
        earlier = (phase.run.path / "blend.json").exists()
        return (dict(phase.run.read("blend.json")) if earlier else {RETRIEVAL: 1.0}), None
    chosen = choose_blend(phase.ranker(model), phase.hold_out, model.signals, config.seed)
    return chosen.weights, chosen
