"""One training from scratch, common to the phases of `fit`."""

import logging
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console

from trainer import interrupts
from trainer.data.catalogue import Catalogue
from trainer.data.category_names import CategoryNames
from trainer.data.dataset import Dataset
from trainer.data.item_table import ItemTable
from trainer.data.pipeline import TrainingData
from trainer.data.split import Split, some_users
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.advice import below_popularity, still_improving
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.evaluation.protocols.impression_holdout import make_hold_out
from trainer.models.assembly import make_item_table, make_recommender
from trainer.models.calibration import save_calibrations
from trainer.models.ranker import CatalogueRanker
from trainer.models.ranking import RETRIEVAL
from trainer.models.recommender import Recommender
from trainer.models.text_search import SEARCH_RECORD, default_weights
from trainer.runs import Run
from trainer.training.blend import ChosenBlend
from trainer.training.callbacks import (
    Checkpoints,
    FiniteLossGuard,
    StopTogether,
    TensorBoardCurves,
    Validation,
    patience_is_over,
)
from trainer.training.cluster import Cluster
from trainer.training.crosslingual import CrossLingual
from trainer.training.factors import choose_factors
from trainer.training.head_quality import calibrate_on_validation, draw_quality
from trainer.training.linear import choose_regularization
from trainer.training.loggers import EpochLogger, RunLoggers
from trainer.training.optimizer import make_optimizer, warmup_steps
from trainer.training.progress import TrainingProgress
from trainer.training.state import TrainingState, WeightAverage
from trainer.training.tensorboard import write_graph, write_selected
from trainer.training.text_search import choose_search_weights
from trainer.training.transfer import Transfer

_LOG = logging.getLogger(__name__)
# Names of the phases: with a validation part, and on everything but the test part.
SELECT, FINAL = "select", "final"
_TITLES = {SELECT: "Training", FINAL: "Retraining"}


class Phase:
    """One training from scratch on one training part, with its own checkpoints."""

    def __init__(
        self,
        name: str,
        run: Run,
        dataset: Dataset,
        catalogue: Catalogue,
        parts: Split,
        loggers: RunLoggers,
        writer: tf.summary.SummaryWriter,
        cluster: Cluster,
    ) -> None:
        self.name = name
        self._cluster = cluster
        self._loggers = loggers
        self._writer = writer
        self.run = run
        self.history: dict[str, Any] = {}
        config = run.config
        self._config = config
        parts = some_users(parts, config.data.split.train_users, config.seed)
        self._dataset, self._catalogue, self._parts = dataset, catalogue, parts
        self._crosslingual = CrossLingual(config, dataset, catalogue, parts)
        texts = self._crosslingual.languages
        self.vocabulary = Vocabulary.from_training(dataset, catalogue, parts, config, texts)
        if config.training.start_from is not None and config.training.transfer.ids:
            # Layers over numbers were trained on the other run's bins.
            source = Vocabulary.load(Run.open(config.training.start_from).vocabulary)
            self.vocabulary = self.vocabulary.with_bins_of(source)
        self.heads = self.vocabulary.heads(config.data.positives)
        names = CategoryNames.load(config.data.category_names, catalogue.category_labels)
        self.items: ItemTable = make_item_table(
            config, catalogue, self.vocabulary, variants=self._crosslingual.variants, names=names
        )
        self._data = TrainingData(
            dataset, catalogue, self.vocabulary, parts, self.heads, config, replicas=cluster.replicas
        )
        self._item_counts = self._data.item_counts
        self.hold_out = make_hold_out(dataset, catalogue, self.vocabulary, parts, config) if cluster.chief else None
        self._ranker: CatalogueRanker | None = None
        # Whether the weights are final, so that the ranker's vectors stay as they are.
        self._settled = False
        self._selected: dict[str, float] = {}

    def ranker(self, model: Recommender) -> CatalogueRanker:
        """Ranker for the validation part, by retrieval with the model's current weights."""
        assert self.hold_out is not None
        if self._ranker is None or self._ranker.model is not model:
            self._ranker = self.hold_out.ranker(model, self.items, {RETRIEVAL: 1.0})
        elif not self._settled:
            self._ranker.refresh()
        return self._ranker

    def best_epoch_if_done(self) -> int | None:
        """The best epoch of a phase finished by an earlier process."""
        record = self.run.path / f"{self.name}.json"
        return int(self.run.read(record.name)["best_epoch"]) if record.exists() else None

    def calibrate(self, model: Recommender) -> None:
        """Fits the heads' calibration on the validation part, if any."""
        if self.hold_out is None or not model.heads:
            return
        events, found = calibrate_on_validation(
            self.ranker(model),
            self._dataset,
            self._catalogue,
            self.vocabulary,
            self._parts,
            self.hold_out.sample,
            self._config,
        )
        draw_quality(model, events, found, writer=self._writer, step=self._best_epoch)
        save_calibrations(self.run, found)

    def choose_search(self, model: Recommender) -> None:
        """Saves the weights of text search, chosen on the validation part if there is one.

        Without one, those that an earlier run has left in the directory (`trainer.updating`) stay.
        """
        if not self._config.model.search.enabled:
            return
        if self.hold_out is None:
            if (self.run.path / SEARCH_RECORD).exists():
                return
            weights = default_weights(self._config.model.search)
        else:
            ranker = self.ranker(model)
            weights = choose_search_weights(self._config, ranker, self._item_counts, self.hold_out)
        self.run.write(SEARCH_RECORD, asdict(weights))

    def finish(self, model: Recommender, blend: dict[str, float], chosen: ChosenBlend | None) -> int:
        """Saves blend, best epoch and warnings, so that a later process need not repeat this phase.

        Args:
            model: The trained model.
            blend: Weights of the final score.
            chosen: What they were chosen for; None if they were given.
        """
        self.run.write("blend.json", blend)
        record = {"best_epoch": self._best_epoch, "best": self._best_value, "warnings": self._warnings(model, blend)}
        if chosen is not None:
            record["blend"] = asdict(chosen)
        if self.hold_out is not None and self.hold_out.error is not None:
            record["validation"] = asdict(self.hold_out.error)
        self.run.write(f"{self.name}.json", record)
        return self._best_epoch

    def _warnings(self, model: Recommender, blend: dict[str, float]) -> list[str]:
        found = [still_improving(self._best_epoch, self._config.training.epochs, self._gain, self._config)]
        # Impressions are a different task: ranking given lists.
        if self.hold_out is not None and self.hold_out.monitor == HoldOut.monitor:
            by_heads = any(weight for name, weight in blend.items() if name != RETRIEVAL)
            ours = self.hold_out.metrics(self.ranker(model).blended(blend)) if by_heads else self._selected
            found.append(below_popularity(ours, self.hold_out.popularity(), "validation part", self._config))
        return [each for each in found if each is not None]

    def train(self, epochs: int, *, hold_out: bool, done: bool = False) -> Recommender:
        """Trains for at most ``epochs`` epochs and returns the model; on the chief, with its best weights.

        Args:
            epochs: Maximum, including those of an earlier process.
            hold_out: Whether to validate and to stop early.
            done: An earlier process has finished the phase: only restore its weights.
        """
        settings = self._config.training
        tf.keras.utils.set_random_seed(self._config.seed)
        chief = self._cluster.chief
        with self._cluster.scope():
            model = make_recommender(self._config, self.vocabulary, self.items, self._data.item_counts)
        if chief:
            self._solve_linear(model)
        if chief and model.transitions is not None:
            model.transitions.fit(self._data.histories.reindexed(self.items.ids.numpy() - 1))
        if chief and model.fusion.content is not None:
            shrinkage = self._config.model.content.metric_shrinkage
            model.fusion.content.fit(self.items.content.numpy(), self._data.histories, shrinkage=shrinkage)
        self._crosslingual.enter(model, self.vocabulary)
        transfer = None if settings.start_from is None else Transfer(self._config, model, self.vocabulary)
        model.ranking_model.set_label_scale(self._data.observed.labels)
        per_epoch = self._data.steps_per_epoch
        warm = math.ceil(warmup_steps(settings, epochs * per_epoch) / per_epoch)
        fresh = [] if transfer is None else transfer.fresh
        with self._cluster.scope():
            average = None if settings.ema_decay is None else WeightAverage(model, settings.ema_decay, model.tables)
            optimizer = make_optimizer(
                settings,
                epochs * per_epoch,
                tables=model.tables,
                fresh=fresh,
                before_change=None if average is None else average.settle,
            )
            optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer)
        # What a step reports is that of all replicas already.
        model.distribute_reduction_method = "first"
        state = TrainingState(self.run.path / "checkpoints" / self.name, model, average, writes=chief)
        if chief:
            state.resume()
        self._cluster.copy_from_chief(state.variables)
        start = int(state.step.numpy())
        if chief and self.name == SELECT:
            write_graph(self._writer, model, self._data.batches(start=0, stop=1))
        if transfer is not None:
            transfer.restrain(start)
        if start:
            _LOG.info("Resuming %s at step %d of %d.", self.name, start, epochs * per_epoch)
        callbacks: list[tf.keras.callbacks.Callback] = [FiniteLossGuard()]
        measure = validation = None
        if hold_out and self.hold_out is not None:
            held_out = self.hold_out

            def measure() -> dict[str, float]:
                return held_out.metrics(self.ranker(model))

            if self._cluster.replicas > 1:
                # It has a variable, which can't be created while `fit` calls back: see `Cluster.scope`.
                self.ranker(model)
            validation = Validation(
                measure,
                state,
                monitor=self.hold_out.monitor,
                patience=settings.patience,
                warm=warm,
                writer=self._writer,
            )
            callbacks.append(validation)
        callbacks.append(EpochLogger(self._loggers, self.name))
        checkpoints = Checkpoints(state, start, settings.checkpoint_steps, per_epoch)
        callbacks.append(checkpoints)
        if chief:
            prefix = "" if self.name == SELECT else "refit/"
            callbacks.append(
                TensorBoardCurves(self._writer, prefix=prefix, start=start, histograms=settings.histograms)
            )
        if self._cluster.place.workers > 1:
            callbacks.append(StopTogether(self._cluster.agree))
        best = int(state.best_epoch.numpy())
        if not done and not (hold_out and patience_is_over(start // per_epoch, best, warm, settings.patience)):
            title = _TITLES[self.name]
            if not chief:
                # Otherwise what is hidden at random would be hidden alike on every worker.
                tf.keras.utils.set_random_seed(self._config.seed + self._cluster.place.number)
            console = None if chief else Console(quiet=True)
            progress = TrainingProgress(title, start, per_epoch, epochs, console)
            with progress, interrupts.deferred_to_steps():
                try:
                    self._run_epochs(model, [*callbacks, progress], start, epochs)
                except interrupts.Interruption:
                    checkpoints.save_interrupted()
                    raise
        if not chief:
            return model
        self._gain = 0.0 if validation is None else validation.gain
        if average is not None:
            average.write()
        state.restore_best()
        if transfer is not None:
            transfer.choose_share(self.run, measure)
        choose_factors(model, self._config, self.run, measure)
        self._best_epoch = int(state.best_epoch.numpy()) or epochs
        self._crosslingual.report(model, self.vocabulary, self.run, self._writer, self._best_epoch)
        self._best_value = float(state.best_value.numpy())
        if measure is not None:
            self._selected = measure()
            write_selected(self._writer, self._selected, self._best_epoch)
        self._settled = True
        # Makes room for what is chosen next.
        del self._data
        return model

    def _solve_linear(self, model: Recommender) -> None:
        settings, known = self._config.model.linear, len(self.vocabulary.items)
        linear = model.fusion.linear
        if linear is None:
            if settings.rank == "auto":
                _LOG.info(
                    "No linear item-item model: %s known items are more than `model.linear.rank: auto` supports. Set a "
                    "number, such as 256, to enable it.",
                    f"{known:,}",
                )
            return
        ids = self.items.ids.numpy()
        histories = self._data.histories.reindexed(ids - 1)
        regularization = choose_regularization(self.run, settings, self.hold_out, ids, histories, known)
        linear.fit(histories, self.items, regularization=regularization, new_items=settings.new_items)

    def _run_epochs(
        self, model: Recommender, callbacks: list[tf.keras.callbacks.Callback], start: int, epochs: int
    ) -> None:
        """Calls `fit` for the epochs from step ``start`` on; the first may be partial."""
        per_epoch = self._data.steps_per_epoch
        epoch, within = divmod(start, per_epoch)
        spans = [(epoch, epoch + 1, per_epoch - within)] if within else []
        spans.append((epoch + bool(within), epochs, per_epoch))
        for first, last, steps in spans:
            if first >= last or model.stop_training:
                continue
            begin = start if steps != per_epoch else first * per_epoch
            batches = self._cluster.batches(self._data, start=begin, stop=last * per_epoch)
            result = model.fit(
                batches, initial_epoch=first, epochs=last, steps_per_epoch=steps, callbacks=callbacks, verbose=0
            )
            for name, values in result.history.items():
                self.history.setdefault(name, []).extend(float(np.mean(value)) for value in values)
