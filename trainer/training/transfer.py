"""A run that starts from another: the weights it takes over, and how much it may forget."""

import logging
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.pipeline import TrainingBatch, TrainingData
from trainer.data.split import some_users, split
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.assembly import load_recommender, make_item_table, make_recommender
from trainer.models.calibration import save_calibrations
from trainer.models.ranking import RETRIEVAL
from trainer.models.recommender import Recommender
from trainer.models.sharing import all_weights, copy_ids, copy_starts, shared_weights
from trainer.models.weights import save_weights
from trainer.runs import Run
from trainer.text.settings import TextConfig
from trainer.training.head_quality import calibrate_on_validation

_LOG = logging.getLogger(__name__)
_RECORD = "transfer.json"
_METRIC = "recall@10"
# Shares of the trained weights to try when averaging them with the starting ones.
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def source_config(source: Run, text: TextConfig) -> Config:
    """A run's settings with another run's tuned encoder; its texts are prepared as in its training."""
    return source.config.model_copy(update={"text": source.config.text.model_copy(update={"tuning": text.tuning})})


class SourceModel:
    """The source run's model as changed by another run: its own id vectors with the other's shared weights.

    Args:
        source: A finished run.
        text: Settings of the run that starts from it: the encoder's tuned part belongs to the shared weights.

    Raises:
        BabelrecError: the two runs' encoders are incompatible.
    """

    def __init__(self, source: Run, text: TextConfig) -> None:
        check_encoders(source.config.text, text)
        self.run = source
        self.config = source_config(source, text)
        text = self.config.text
        self.dataset = source.dataset()
        self.catalogue = Catalogue.from_dataset(self.dataset)
        self.vocabulary = Vocabulary.load(source.vocabulary)
        self.parts = some_users(
            split(self.dataset, source.config.data), source.config.data.split.train_users, source.config.seed
        )
        heads = self.vocabulary.heads(source.config.data.positives)
        self._data = TrainingData(self.dataset, self.catalogue, self.vocabulary, self.parts, heads, self.config)
        items = make_item_table(self.config, self.catalogue, self.vocabulary)
        self.model: Recommender = make_recommender(self.config, self.vocabulary, items, self._data.item_counts)
        all_weights(load_recommender(source), self.model).copy()

    def follow(self, model: Recommender) -> Callable[[], int]:
        """Pairs the shared weights with those of ``model``; each call of the result copies them."""
        return shared_weights(model, self.model).copy

    def validator(self) -> Callable[[], float] | None:
        """Measures Recall@10 on the source's validation part with the current weights; None without one."""
        hold_out = self._hold_out()
        if hold_out is None:
            return None
        ranker = hold_out.ranker(self.model, self.model.items, {RETRIEVAL: 1.0})

        def measure() -> float:
            ranker.refresh()
            return hold_out.metrics(ranker)[_METRIC]

        return measure

    def _hold_out(self) -> HoldOut | None:
        if self.parts.validation.is_empty():
            return None
        return HoldOut(
            self.catalogue,
            self.vocabulary,
            self.parts.train,
            self.parts.validation,
            candidates=self.config.export.candidates,
            most=self.config.training.validation_users,
            seed=self.config.seed,
        )

    def batches(self, start: int) -> tf.data.Dataset:
        """The batches of its training part from step ``start`` on, endlessly."""
        return self._data.batches(start=start, stop=tf.int64.max)

    def save(self, path: Path) -> Run:
        """Writes it as a separate finished run, which can be evaluated and exported.

        Its heads are recalibrated, unless the source used ``refit`` and so was trained on its validation part.
        """
        run = Run.create(path, self.config)
        if not run.finished:
            for file in ("vocabulary.json", "data.json", "blend.json", "calibration.json"):
                if (self.run.path / file).exists():
                    run.write(file, self.run.read(file))
            hold_out = self._hold_out()
            if hold_out is not None and not self.config.training.refit:
                ranker = hold_out.ranker(self.model, self.model.items, {RETRIEVAL: 1.0})
                _, found = calibrate_on_validation(
                    ranker,
                    self.dataset,
                    self.catalogue,
                    self.vocabulary,
                    self.parts,
                    hold_out.sample,
                    self.config,
                )
                save_calibrations(run, found)
            save_weights(run, self.model)
        return run


class Transfer:
    """Starts a model from another run's weights, constrains its training, and averages the result with the start.

    Args:
        config: Settings of the new run; ``training.start_from`` is the other run.
        model: Built but untrained; receives the shared weights.
        vocabulary: Its vocabulary.

    Raises:
        BabelrecError: nothing to start from, or the encoders are incompatible.
    """

    def __init__(self, config: Config, model: Recommender, vocabulary: Vocabulary) -> None:
        if config.training.start_from is None:
            raise BabelrecError("training.start_from is not set: there is nothing to transfer.")
        self._config = config
        self._settings = config.training.transfer
        self._model = model
        self._source = Run.open(config.training.start_from)
        check_encoders(self._source.config.text, config.text)
        given = load_recommender(self._source)
        shared = shared_weights(given, model)
        shared.copy()
        copy_starts(given, model)
        ids = []
        if self._settings.ids:
            ids = copy_ids(given, Vocabulary.load(self._source.vocabulary), model, vocabulary, model.items)
        _LOG.info("Starting from %d weights of %s.", len(shared.names), self._source.path)
        encoder = model.candidate_tower.encoder
        tuned = [] if encoder is None else encoder.trainable_weights
        # The encoder's new parts are also shared by both languages; they start as the identity.
        self._weights = list({id(weight): weight for weight in [*shared.target, *tuned]}.values())
        self._start = [tf.identity(weight) for weight in self._weights]
        known = {id(weight) for weight in [*shared.target, *ids]}
        if config.text.tuning.mode in ("last", "full"):
            # The encoder's own pretrained layers.
            known |= {id(weight) for weight in tuned}
        self.fresh = [weight for weight in model.trainable_variables if id(weight) not in known]
        """Weights that start from scratch: vectors of ids, adapters and LoRA's factors, layers of different shape."""
        if self._settings.shared == "frozen":
            _freeze(model, {id(weight) for weight in shared.target} - {id(weight) for weight in tuned})
        self._other: SourceModel | None = None

    def restrain(self, step: int) -> None:
        """Adds the losses that constrain the shared weights; ``step`` is the one training continues with."""
        if self._settings.anchor:
            self._model.add_loss(self._anchor_loss)
        if self._settings.replay:
            other = self._source_model()
            self._model.add_loss(_Replay(other, self._model, self._settings.replay, step))

    def choose_share(self, run: Run, measure: Callable[[], dict[str, float]] | None) -> None:
        """Averages trained and starting weights (WiSE-FT), with the best share on the validation parts.

        The share is the one with the best Recall@10 on the target's validation part among those that lose no
        more than ``max_forgetting`` on the source's. It is chosen once per run and saved in ``transfer.json``.

        Args:
            run: The run being trained.
            measure: Measures the metrics on the target's validation part; None without one.
        """
        limit = self._settings.max_forgetting
        if limit is None:
            return
        trained = [tf.identity(weight) for weight in self._weights]
        if not (run.path / _RECORD).exists():
            if measure is None:
                return
            source = self._source_model()
            measure_source = source.validator()
            if measure_source is None:
                _LOG.warning("%s has no validation part: forgetting can't be limited.", self._source.path)
                return
            copy = source.follow(self._model)
            curve = []
            for share in _SHARES:
                self._mix(trained, share)
                copy()
                curve.append({"share": share, "target": measure()[_METRIC], "source": measure_source()})
            chosen = choose_share(curve, limit)
            run.write(_RECORD, {"share": chosen, "metric": _METRIC, "max_forgetting": limit, "curve": curve})
        chosen = float(run.read(_RECORD)["share"])
        _LOG.info("Averaged weights: %.0f %% trained, the rest from the starting weights.", 100 * chosen)
        self._mix(trained, chosen)

    def _source_model(self) -> SourceModel:
        if self._other is None:
            self._other = SourceModel(self._source, self._config.text)
        return self._other

    def _mix(self, trained: list[tf.Tensor], share: float) -> None:
        for weight, start, end in zip(self._weights, self._start, trained, strict=True):
            # Both ends exactly, despite rounding.
            weight.assign(end if share == 1.0 else start + share * (end - start))

    def _anchor_loss(self) -> tf.Tensor:
        """Squared distance to the starting weights, L2-SP (Li et al., 2018, arXiv 1802.01483, eq. 2)."""
        distances = [
            tf.reduce_sum(tf.square(weight - start)) for weight, start in zip(self._weights, self._start, strict=True)
        ]
        return self._settings.anchor * tf.add_n(distances)


class _Replay:
    """The loss of a batch of the source's training part, as a term whose gradient flows to the target's weights.

    The source's model has its own ids' vectors, so the shared weights are copied into it, its gradient is computed
    there, and the term is the linear function of the target's weights with that gradient.
    """

    def __init__(self, source: SourceModel, model: Recommender, weight: float, step: int) -> None:
        self._model = source.model
        self._weight = weight
        self._pairs = shared_weights(model, source.model)
        self._batches = iter(source.batches(step))

    def __call__(self) -> tf.Tensor:
        batch: TrainingBatch = self._batches.get_next()
        self._pairs.copy()
        with tf.GradientTape() as tape:
            loss = self._model.compute_loss(batch, training=True)
        gradients = tape.gradient(loss, self._pairs.target)
        terms = [
            _linear(gradient, weight)
            for gradient, weight in zip(gradients, self._pairs.source, strict=True)
            if gradient is not None
        ]
        return self._weight * (tf.stop_gradient(loss) + tf.add_n(terms))


def _linear(gradient: tf.Tensor | tf.IndexedSlices, weight: tf.Variable) -> tf.Tensor:
    """Zero, with ``gradient`` as its gradient with respect to ``weight``."""
    if isinstance(gradient, tf.IndexedSlices):
        rows = tf.gather(weight, gradient.indices)
        return tf.reduce_sum(tf.stop_gradient(gradient.values) * (rows - tf.stop_gradient(rows)))
    value = tf.convert_to_tensor(weight)
    return tf.reduce_sum(tf.stop_gradient(gradient) * (value - tf.stop_gradient(value)))


def choose_share(curve: list[dict[str, float]], max_forgetting: float) -> float:
    """The share of the trained weights with the best ``target`` among those that keep enough of ``source``.

    Args:
        curve: ``share``, ``target`` and ``source``; the first entry is the start, share 0.
        max_forgetting: Share of the start's ``source`` that may be lost.
    """
    least = (1.0 - max_forgetting) * curve[0]["source"]
    allowed = [point for point in curve if point["source"] >= least]
    return max(allowed, key=lambda point: (point["target"], point["source"]))["share"]


def check_encoders(source: TextConfig, target: TextConfig) -> None:
    """Refuses two runs whose text vectors are incompatible.

    Raises:
        BabelrecError: another encoder, or one that was tuned differently.
    """
    if source.encoder != target.encoder:
        raise BabelrecError(
            f"text.encoder is {target.encoder!r}, and the run to start from was trained with {source.encoder!r}. "
            "Use the same encoder."
        )
    if source.tuning.mode != "frozen" and source.tuning != target.tuning:
        raise BabelrecError(
            f"The run to start from has tuned its encoder (text.tuning: {source.tuning.model_dump()}), and this one "
            f"has {target.tuning.model_dump()}. Use the same text.tuning, so that none of it is lost."
        )


def _freeze(model: Recommender, weights: set[int]) -> None:
    """Freezes every layer that contains only ``weights``."""
    layers = [
        layer
        for layer in model.submodules
        if isinstance(layer, tf.keras.layers.Layer)
        and layer.trainable_weights
        and all(id(weight) in weights for weight in layer.trainable_weights)
    ]
    for layer in layers:
        layer.trainable = False
