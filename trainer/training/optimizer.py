"""AdamW with warm-up and cosine decay."""

import math
from collections.abc import Sequence

import tensorflow as tf

from trainer.training.settings import TrainingConfig


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


class TwoRateAdamW(tf.keras.optimizers.AdamW):
    """AdamW that trains some weights at a multiple of its learning rate (Howard & Ruder, 2018, arXiv 1801.06146, 3.2).

    Args:
        fresh: New weights, alongside previously trained ones.
        factor: Factor of their learning rate.
        settings: As for AdamW.
    """

    def __init__(self, fresh: Sequence[tf.Variable], factor: float, **settings: object) -> None:
        self._factor = 1.0
        super().__init__(**settings)
        self._factors = {self._var_key(weight): factor for weight in fresh}

    @property
    def learning_rate(self) -> tf.Tensor:
        """The rate of the step; during a weight's update, that weight's rate."""
        return super().learning_rate * self._factor

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """AdamW's step at the weight's own rate."""
        self._factor = self._factors.get(self._var_key(variable), 1.0)
        super().update_step(gradient, variable)
        self._factor = 1.0


def warmup_steps(config: TrainingConfig, total_steps: int) -> int:
    """Steps of the warm-up: as configured, or a share; at most half of all, so that the peak is reached in time."""
    wanted = config.warmup_steps if config.warmup_steps is not None else round(config.warmup * total_steps)
    return min(wanted, total_steps // 2)


def make_optimizer(
    config: TrainingConfig, total_steps: int, fresh: Sequence[tf.Variable] = ()
) -> tf.keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019, arXiv 1711.05101) with clipping by the gradient's global norm.

    Args:
        config: Rates, decay, clipping.
        total_steps: Steps of the schedule.
        fresh: Weights trained at ``transfer.new_rate`` times the learning rate.
    """
    peak = config.learning_rate * (1.0 if config.start_from is None else config.transfer.rate)
    settings = {
        "learning_rate": WarmupCosine(peak, warmup_steps(config, total_steps), total_steps),
        "weight_decay": config.weight_decay,
        "global_clipnorm": config.clip_norm,
    }
    if fresh and config.transfer.new_rate != 1.0:
        return TwoRateAdamW(fresh, config.transfer.new_rate, **settings)
    return tf.keras.optimizers.AdamW(**settings)
