"""What the replicas of a model tell each other within a training step.

A replica is a device that trains with its share of each batch: a machine, or one of its GPUs. Outside of a distributed
`fit` there is one, and nothing here adds an operation to its step.
"""

from collections.abc import Sequence
from typing import Any, Self

import tensorflow as tf


class Replicas:
    """The replicas of the step that is being traced.

    Attributes:
        count: How many there are.
        index: This one's number, from 0: an integer, or a scalar tensor.
    """

    def __init__(self, context: tf.distribute.ReplicaContext) -> None:
        self._context = context
        self.count = int(context.num_replicas_in_sync)
        self.index: int | tf.Tensor = context.replica_id_in_sync_group

    @classmethod
    def here(cls) -> Self:
        """Those of the current replica's step."""
        return cls(tf.distribute.get_replica_context())

    def share(self, values: tf.Tensor) -> tf.Tensor:
        """This replica's part of values [n, ...] that all have, [ceil(n / count), ...].

        The parts have one size; if n can't be divided, the last ones repeat the first values: see `gather`.
        """
        if self.count == 1:
            return values
        total = tf.shape(values)[0]
        size = (total + self.count - 1) // self.count
        places = (self.index * size + tf.range(size)) % tf.maximum(total, 1)
        return tf.gather(values, places)

    def gather(self, parts: Sequence[tf.Tensor], totals: Sequence[tf.Tensor | int]) -> list[tf.Tensor]:
        """Joins the replicas' parts in the replicas' order; a gradient finds its way back to the replica it belongs to.

        All parts travel together: a message costs more than its content.

        Args:
            parts: Float32 [n, D] each, n the same on all replicas.
            totals: Of each part, how many rows to keep of all replicas' together.

        Returns:
            Float32 [total, D] of each part.
        """
        if self.count == 1:
            return list(parts)
        sizes = [tf.shape(part)[0] for part in parts]
        width = parts[0].shape[-1]
        joined = self._context.all_gather(tf.concat(parts, axis=0), axis=0)
        by_replica = tf.split(tf.reshape(joined, [self.count, -1, width]), sizes, axis=1)
        return [tf.reshape(each, [-1, width])[:total] for each, total in zip(by_replica, totals, strict=True)]

    def total(self, values: tf.Tensor) -> tf.Tensor:
        """The sum over all replicas, of the same shape and without a gradient."""
        if self.count == 1:
            return values
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(values))

    def part_of_mean(self, value: tf.Tensor) -> tf.Tensor:
        """What a replica's mean contributes to the mean over all replicas' examples, of which each has as many."""
        return value if self.count == 1 else value / self.count


class StepMean(tf.keras.metrics.Mean):
    """Mean of a figure that every replica knows for the whole step, such as a `Replicas.total`.

    Keras's own metrics keep a sum on each replica, which all must add up whenever one reads it or writes a checkpoint.
    """

    def add_weight(self, *arguments: Any, **settings: Any) -> tf.Variable:  # noqa: ANN401  Keras's own
        """As in Keras, but a variable that is equal on all replicas."""
        settings |= {"synchronization": tf.VariableSynchronization.AUTO, "aggregation": tf.VariableAggregation.NONE}
        return super().add_weight(*arguments, **settings)
