"""Keras callbacks: validation, checkpoints, guards and TensorBoard's extra pages."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainer import interrupts
from trainer.errors import BabelrecError
from trainer.training.state import TrainingState
from trainer.training.tensorboard import sampled, write_histogram

Metrics = dict[str, float]


def patience_is_over(epochs: int, best_epoch: int, warm: int, patience: int) -> bool:
    """Whether training stops after ``epochs`` epochs with the best being ``best_epoch``; see `Validation`."""
    return epochs - max(best_epoch, warm) >= patience


class FiniteLossGuard(tf.keras.callbacks.Callback):
    """Stops with a clear message when the loss is no longer finite."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises BabelrecError on a non-finite loss."""
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            rate = float(tf.convert_to_tensor(self.model.optimizer.learning_rate))
            raise BabelrecError(
                f"The loss became {loss} at batch {batch + 1} of this epoch. Lower training.learning_rate "
                f"(now {rate:.2g}) or training.clip_norm, raise training.warmup, or look for extreme values "
                "in numeric and embedding columns. The last good checkpoint is kept."
            )


class Checkpoints(tf.keras.callbacks.Callback):
    """Saves the whole state every ``every`` steps and at the end of each epoch; updates the moving average.

    Args:
        state: The state to save.
        start: Step of the first batch.
        every: Steps between checkpoints.
        per_epoch: Steps per epoch. The last one is saved only after validation: a run killed
            in between must not believe that the epoch was validated.
    """

    def __init__(self, state: TrainingState, start: int, every: int, per_epoch: int) -> None:
        super().__init__()
        self._per_epoch = per_epoch
        self._state = state
        self._done = self._saved = start
        self._every = every

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the step; raises a signal received during it."""
        self._done += 1
        if self._state.average is not None:
            self._state.average.update()
        # Not earlier: the first step takes long, and there is nothing to save.
        interrupts.defer()
        if self._done % self._every == 0 and self._done % self._per_epoch:
            self._save(self._done)
        interrupts.check()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves after validation, so that its result is in the checkpoint."""
        self._save(self._done)
        interrupts.check()

    def save_interrupted(self) -> None:
        """Saves the steps since the last checkpoint; an epoch not yet validated repeats its last step."""
        step = self._done - (self._done % self._per_epoch == 0)
        if step > self._saved:
            self._save(step)

    def _save(self, step: int) -> None:
        self._state.save(step)
        self._saved = step


class StopTogether(tf.keras.callbacks.Callback):
    """Stops every worker when the chief stops; comes after `Validation`, which the chief alone has.

    Args:
        agree: The chief's value of a number, on every worker.
    """

    def __init__(self, agree: Callable[[int], int]) -> None:
        super().__init__()
        self._agree = agree

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Waits for the chief's decision."""
        self.model.stop_training = bool(self._agree(int(self.model.stop_training)))


class Validation(tf.keras.callbacks.Callback):
    """Measures validation metrics after each epoch, keeps the best weights and stops early.

    Args:
        measure: Measures the model's current metrics; keys such as ``recall@10`` and
            ``item_language/ko/recall@10``.
        state: Keeps the best weights.
        monitor: The metric to maximise.
        patience: Epochs without improvement before training stops.
        warm: Epoch, from 1, in which the warm-up ends: patience counts from it, because a learning rate that is still
            rising says nothing about the benefit of further training.
        writer: TensorBoard writer.
    """

    def __init__(
        self,
        measure: Callable[[], Metrics],
        state: TrainingState,
        *,
        monitor: str,
        patience: int,
        warm: int,
        writer: tf.summary.SummaryWriter,
    ) -> None:
        super().__init__()
        self._measure = measure
        self._state = state
        self._monitor = monitor
        self._patience = patience
        self._warm = warm
        self.gain = 0.0
        """Relative gain of the last epoch over the best one before it; 0 if it was not better."""
        self._writer = writer

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Validates and decides whether to stop."""
        with self._state.averaged(), interrupts.immediate():
            metrics = self._measure()
        with self._writer.as_default(step=epoch):
            for name, value in metrics.items():
                tf.summary.scalar(name if "/" in name else f"validation/{name}", value)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in metrics.items() if "/" not in name})
        value, before = metrics[self._monitor], float(self._state.best_value.numpy())
        better = self._state.offer(value, epoch + 1)
        self.gain = value / before - 1.0 if better and before > 0.0 else 0.0
        if patience_is_over(epoch + 1, int(self._state.best_epoch.numpy()), self._warm, self._patience):
            self.model.stop_training = True


class TensorBoardCurves(tf.keras.callbacks.Callback):
    """Losses, learning rate and histograms of the weights for TensorBoard.

    Unlike Keras's callback it writes into one directory, and doesn't disable the recording of other summaries.

    Args:
        writer: TensorBoard writer of the run.
        prefix: Prefix of each tag, such as ``refit/``.
        start: Step of the first batch.
        histograms: Whether to write the weights' histograms after each epoch.
    """

    _EVERY = 20

    def __init__(self, writer: tf.summary.SummaryWriter, *, prefix: str, start: int, histograms: bool) -> None:
        super().__init__()
        self._writer = writer
        self._prefix = prefix
        self._done = start
        self._histograms = histograms

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the losses of the epoch so far, every 20 steps, by step."""
        self._done += 1
        if self._done % self._EVERY == 0:
            self._scalars("batch", logs or {}, self._done)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the epoch's losses and the learning rate, by epoch."""
        losses = {name: value for name, value in (logs or {}).items() if not name.startswith("val_")}
        # A strategy's variable is no number.
        rate = float(tf.convert_to_tensor(self.model.optimizer.learning_rate))
        self._scalars("epoch", losses | {"learning_rate": rate}, epoch)
        if self._histograms:
            with self._writer.as_default():
                for weight in self.model.trainable_weights:
                    write_histogram(f"{self._prefix}weights/{weight.name.split(':')[0]}", sampled(weight), epoch)
        self._writer.flush()

    def _scalars(self, group: str, values: dict[str, Any], step: int) -> None:
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{self._prefix}{group}/{name}", value)
