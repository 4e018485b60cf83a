"""State that a killed run needs to resume: weights, optimiser, average, step and best result so far."""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import tensorflow as tf

from trainer.errors import BabelrecError
from trainer.models.weights import restore

_LOG = logging.getLogger(__name__)
# Where TensorFlow lists the checkpoints of a directory.
_LIST: Final = "checkpoint"


class WeightAverage(tf.Module):
    """Exponential moving average of a model's trainable weights.

    The average of a table's row goes on towards the row while the row stays the same. So it is brought up to date only
    when the row changes and when the average is read: a step costs nothing for the other rows.

    Args:
        model: Its weights are averaged.
        decay: Weight of the average at each step; the first steps use (1 + t) / (10 + t) while that
            is smaller, so that the random start is forgotten.
        tables: Embedding tables among them; whoever changes rows calls `settle` before.
    """

    def __init__(self, model: tf.keras.Model, decay: float, tables: Sequence[tf.Variable] = ()) -> None:
        super().__init__(name="weight_average")
        self._weights = model.trainable_variables
        self._decay = decay
        self.steps = tf.Variable(0.0, trainable=False)
        self.shadows = [tf.Variable(weight, trainable=False) for weight in self._weights]
        # Sum of the logarithms of all steps' decays, and what it was when each row was brought up to date.
        self.log_decay = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._places = {id(weight): place for place, weight in enumerate(self._weights)}
        self._tables = [weight for weight in tables if id(weight) in self._places]
        self.settled = {
            str(self._places[id(table)]): tf.Variable(tf.zeros(table.shape[:1], tf.float64), trainable=False)
            for table in self._tables
        }

    @tf.function
    def update(self) -> None:
        """Updates the average with the weights after a step."""
        self.steps.assign_add(1.0)
        decay = tf.minimum(self._decay, (1.0 + self.steps) / (10.0 + self.steps))
        self.log_decay.assign_add(tf.math.log(tf.cast(decay, tf.float64)))
        for place, (shadow, weight) in enumerate(zip(self.shadows, self._weights, strict=True)):
            if str(place) not in self.settled:
                shadow.assign_sub((1.0 - decay) * (shadow - weight))

    def settle(self, table: tf.Variable, rows: tf.Tensor, values: tf.Tensor) -> None:
        """Brings the average of a table's rows up to date.

        Args:
            table: A trained embedding table [V, D].
            rows: Distinct integers [n].
            values: Float32 [n, D], what they have been since they were brought up to date last.
        """
        place = self._places[id(table)]
        shadow, settled = self.shadows[place], self.settled[str(place)]
        kept = tf.cast(tf.exp(self.log_decay - tf.gather(settled, rows)), values.dtype)
        average = values + kept[:, tf.newaxis] * (tf.gather(shadow, rows) - values)
        shadow.scatter_update(tf.IndexedSlices(average, rows))
        settled.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(rows), tf.identity(self.log_decay)), rows))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Replaces the weights by the average inside the block."""
        kept = [tf.identity(weight) for weight in self._weights]
        self.write()
        try:
            yield
        finally:
            for weight, value in zip(self._weights, kept, strict=True):
                weight.assign(value)

    def write(self) -> None:
        """Overwrites the weights with the average."""
        for table in self._tables:
            self.settle(table, tf.range(tf.shape(table)[0]), tf.convert_to_tensor(table))
        for shadow, weight in zip(self.shadows, self._weights, strict=True):
            weight.assign(shadow)


class TrainingState:
    """Checkpoints of one phase of a run, whose directory's lock the caller holds.

    Args:
        directory: ``last`` and ``best`` are kept below it.
        model: Built model, compiled with its optimiser.
        average: Moving average of the weights, or None.
        writes: False: another process keeps the checkpoints, and this one only knows the state.
    """

    def __init__(
        self, directory: Path, model: tf.keras.Model, average: WeightAverage | None, *, writes: bool = True
    ) -> None:
        self._writes = writes
        self.model = model
        self.average = average
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_value = tf.Variable(-1.0, trainable=False)
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        model.optimizer.build(model.trainable_variables)
        parts = {
            "model": model,
            "optimizer": model.optimizer,
            "step": self.step,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
        }
        if average is not None:
            parts["average"] = average
        self._all = tf.train.Checkpoint(**parts)
        self._weights = tf.train.Checkpoint(model=model)
        # Otherwise created by the first checkpoint, which only one of several workers writes.
        self._counters = [each.save_counter for each in (self._all, self._weights)]
        for name in ("last", "best"):
            _sweep(directory / name)
        self._last = tf.train.CheckpointManager(self._all, str(directory / "last"), max_to_keep=2)
        self._best = tf.train.CheckpointManager(self._weights, str(directory / "best"), max_to_keep=1)

    @property
    def variables(self) -> list[tf.Variable]:
        """All that a checkpoint holds, in an order that depends on the model alone."""
        return [part for part in tf.train.TrackableView(self._all).descendants() if isinstance(part, tf.Variable)]

    def resume(self) -> int:
        """Restores the newest usable checkpoint; returns the step to continue with (0: no checkpoint).

        Raises:
            BabelrecError: there are checkpoints but none is usable.
        """
        paths = list(reversed(self._last.checkpoints))
        for path in paths:
            try:
                restore(self._all, path)
            except BabelrecError as error:
                if path == paths[-1]:
                    raise
                _LOG.warning("%s\nTrying the previous one.", error)
            else:
                return int(self.step.numpy())
        return 0

    def save(self, step: int) -> None:
        """Writes a checkpoint from which `resume` continues with ``step``."""
        self.step.assign(step)
        if self._writes:
            self._last.save(checkpoint_number=step)

    def offer(self, value: float, epoch: int) -> bool:
        """Keeps the current weights as the best if ``value`` is higher than any before."""
        if value <= float(self.best_value.numpy()):
            return False
        self.best_value.assign(value)
        self.best_epoch.assign(epoch)
        with self.averaged():
            self._best.save(checkpoint_number=epoch)
        return True

    def restore_best(self) -> None:
        """Restores the best weights, if any were kept."""
        if self._best.latest_checkpoint:
            restore(self._weights, self._best.latest_checkpoint)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The weights to evaluate and keep: the average's if there is one."""
        return contextlib.nullcontext() if self.average is None else self.average.applied()


def _sweep(directory: Path) -> None:
    """Removes leftovers of a killed process: checkpoint files not yet or no longer listed."""
    try:
        listed = tf.train.get_checkpoint_state(str(directory))
    except ValueError:
        return
    if listed is None and (directory / _LIST).exists():
        # It can't be read, so nothing is known about the others.
        return
    known = {Path(path).name for path in listed.all_model_checkpoint_paths} if listed else set()
    for path in directory.glob("*"):
        # ckpt-8.index, ckpt-8.data-00000-of-00001, ckpt-8_temp (a directory) before, and checkpoint.tmp* of the list.
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LIST and path.name.split(".")[0] not in known:
            path.unlink()
