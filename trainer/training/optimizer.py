"""AdamW with warm-up and cosine decay."""

import math

import tensorflow as tf

from trainer.config import TrainingConfig


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
        """Learning rate of an integer step."""
        step = tf.cast(step, tf.float32)
        warm = (step + 1.0) / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        cosine = 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
        return self.peak * tf.where(step < self.warmup_steps, warm, self._FLOOR + (1.0 - self._FLOOR) * cosine)

    def get_config(self) -> dict[str, float | int]:
        """Constructor arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps}


def make_optimizer(config: TrainingConfig, total_steps: int) -> tf.keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019, arXiv 1711.05101) with clipping by the gradient's global norm."""
    return tf.keras.optimizers.AdamW(
        learning_rate=WarmupCosine(config.learning_rate, config.warmup_steps, total_steps),
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm,
    )
