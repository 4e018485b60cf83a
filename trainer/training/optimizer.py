"""AdamW with warm-up and cosine decay, which updates only those rows of an embedding table that a step has used."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from trainer.training.settings import TrainingConfig

BeforeChange = Callable[[tf.Variable, tf.Tensor, tf.Tensor], None]
"""Called with a table, the int rows [n] that are about to change, and their values [n, D]."""

# A step's decay is below 1: a row's decays since its last update are added up as logarithms.
_MOST_DECAY = 1.0 - 1e-6


class WarmupCosine(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine to 2 % of the peak (Loshchilov & Hutter, 2017, arXiv 1608.03983, eq. 5).

    Args:
        peak: Learning rate after the warm-up.
        warmup_steps: Steps of the warm-up.
        total_steps: Step at which the cosine ends.
    """

    _FLOOR = 0.02

    def __init__(self, peak: float, warmup_steps: int, total_steps: int) -> None:
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Learning rate at an integer step."""
        step = tf.cast(step, tf.float32)
        warm = (step + 1.0) / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        cosine = 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
        return self.peak * tf.where(step < self.warmup_steps, warm, self._FLOOR + (1.0 - self._FLOOR) * cosine)

    def get_config(self) -> dict[str, float | int]:
        """Constructor arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps}


class _Step(NamedTuple):
    """What all weights' updates of a step have in common, as scalars.

    Attributes:
        rate: Learning rate.
        powers: Both betas to the power of the number of this step, from 1.
        decay: Share of a weight that decays.
        log_decay: Sum of log(1 - decay) over all steps so far, float64.
    """

    rate: tf.Tensor
    powers: tuple[tf.Tensor, tf.Tensor]
    decay: tf.Tensor
    log_decay: tf.Tensor


class RowwiseAdamW(tf.keras.optimizers.AdamW):
    """AdamW whose step costs what its gradients do, however large the embedding tables are.

    The rows of a table that a step has not used stay as they are, and so do their moments (as in TensorFlow Addons'
    LazyAdam): the other rows are updated as AdamW would. A row's weight decay of the steps in between is applied when
    it is used next, so that it decays as much as all other weights. A row that each step uses has exactly AdamW's
    values. Gradients of one row are added up before their norm is taken and clipped.

    Args:
        tables: Weights [V, D] of which a step uses a few rows. Gradients of all others are made dense.
        fresh: Weights trained at a multiple of the learning rate, alongside previously trained ones (Howard & Ruder,
            2018, arXiv 1801.06146, 3.2). They decay at the learning rate itself.
        factor: The multiple.
        before_change: Called before rows of a table change.
        settings: As for AdamW.
    """

    _step: _Step

    def __init__(
        self,
        *,
        tables: Sequence[tf.Variable] = (),
        fresh: Sequence[tf.Variable] = (),
        factor: float = 1.0,
        before_change: BeforeChange | None = None,
        **settings: object,
    ) -> None:
        super().__init__(**settings)
        by_key = {self._var_key(table): table for table in tables}
        self._tables = set(by_key)
        # A strategy passes a device's copy of a variable to `update_step`: what it belongs to is known by the key. Not
        # the dictionary itself, which would be part of every checkpoint.
        self._table_of = by_key.__getitem__
        self._factors = {self._var_key(weight): factor for weight in fresh}
        self._before_change = before_change
        self._decayed: dict[str, tf.Variable] = {}

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the moments, and for each row of a table the decay that it has had: 8 bytes."""
        again = getattr(self, "_built", False)
        super().build(var_list)
        if again:
            return
        # Float64: a step's decay is small against the sum.
        self._log_decay = self._scalars([], "log_decay")
        for variable in var_list:
            key = self._var_key(variable)
            if key in self._tables:
                self._decayed[key] = self._scalars(variable.shape[:1], "decayed")

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one weight.

        Args:
            gradient: Clipped; indices are unique.
            variable: The weight.
        """
        key, step = self._var_key(variable), self._step
        place = self._index_dict[key]
        m, v = self._momentums[place], self._velocities[place]
        rate = step.rate * self._factors.get(key, 1.0)
        if key in self._tables:
            if not isinstance(gradient, tf.IndexedSlices):
                gradient = tf.IndexedSlices(gradient, tf.range(tf.shape(gradient)[0]))
            self._update_rows(gradient.indices, gradient.values, variable, m, v, rate)
            return
        if self._use_weight_decay(variable):
            variable.assign_sub(variable * step.decay)
        # One operation instead of twenty.
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=step.powers[0],
            beta2_power=step.powers[1],
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
        )

    def _update_rows(
        self,
        rows: tf.Tensor,
        gradient: tf.Tensor,
        table: tf.Variable,
        m: tf.Variable,
        v: tf.Variable,
        rate: tf.Tensor,
    ) -> None:
        step = self._step
        values = tf.gather(table, rows)
        if self._before_change is not None:
            self._before_change(self._table_of(self._var_key(table)), rows, values)
        if self._use_weight_decay(table):
            decayed = self._decayed[self._var_key(table)]
            missed = tf.exp(step.log_decay - tf.gather(decayed, rows))
            values *= tf.cast(missed, values.dtype)[:, tf.newaxis]
            _write(decayed, rows, tf.fill(tf.shape(rows), step.log_decay))
        means, squares = tf.gather(m, rows), tf.gather(v, rows)
        means += (gradient - means) * (1.0 - self.beta_1)
        squares += (tf.square(gradient) - squares) * (1.0 - self.beta_2)
        _write(m, rows, means)
        _write(v, rows, squares)
        rate *= tf.sqrt(1.0 - step.powers[1]) / (1.0 - step.powers[0])
        _write(table, rows, values - rate * means / (tf.sqrt(squares) + self.epsilon))

    def _clip_gradients(self, grads: Sequence[tf.Tensor | tf.IndexedSlices]) -> list[tf.Tensor | tf.IndexedSlices]:
        # Keras takes the norm of gradients whose rows may repeat.
        clipped: list[tf.Tensor | tf.IndexedSlices] = super()._clip_gradients(super()._deduplicate_sparse_grad(grads))
        return clipped

    def _deduplicate_sparse_grad(
        self, grads: Sequence[tf.Tensor | tf.IndexedSlices]
    ) -> Sequence[tf.Tensor | tf.IndexedSlices]:
        # Already done.
        return grads

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Called between clipping and the updates, which apply the decay themselves."""
        rate = tf.convert_to_tensor(self.learning_rate)
        count = tf.cast(self.iterations + 1, rate.dtype)
        decay = tf.minimum(rate * (self.weight_decay or 0.0), _MOST_DECAY)
        self._log_decay.assign_add(tf.math.log1p(-tf.cast(decay, tf.float64)))
        powers = tf.pow(self.beta_1, count), tf.pow(self.beta_2, count)
        self._step = _Step(rate, powers, decay, tf.identity(self._log_decay))

    def _scalars(self, shape: Sequence[int], name: str) -> tf.Variable:
        variable = tf.Variable(tf.zeros(shape, tf.float64), trainable=False, name=name)
        self._variables.append(variable)
        return variable


def _write(variable: tf.Variable, rows: tf.Tensor, values: tf.Tensor) -> None:
    variable.scatter_update(tf.IndexedSlices(values, rows))


def warmup_steps(config: TrainingConfig, total_steps: int) -> int:
    """Steps of the warm-up: as configured, or a share; at most half of all, so that the peak is reached in time."""
    wanted = config.warmup_steps if config.warmup_steps is not None else round(config.warmup * total_steps)
    return min(wanted, total_steps // 2)


def make_optimizer(
    config: TrainingConfig,
    total_steps: int,
    *,
    tables: Sequence[tf.Variable] = (),
    fresh: Sequence[tf.Variable] = (),
    before_change: BeforeChange | None = None,
) -> tf.keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019, arXiv 1711.05101) with clipping by the gradient's global norm.

    Args:
        config: Rates, decay, clipping.
        total_steps: Steps of the schedule.
        tables: Embedding tables.
        fresh: Weights trained at ``transfer.new_rate`` times the learning rate.
        before_change: See `RowwiseAdamW`.
    """
    peak = config.learning_rate * (1.0 if config.start_from is None else config.transfer.rate)
    return RowwiseAdamW(
        tables=tables,
        fresh=fresh,
        factor=config.transfer.new_rate,
        before_change=before_change,
        learning_rate=WarmupCosine(peak, warmup_steps(config, total_steps), total_steps),
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm,
    )
