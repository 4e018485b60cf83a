"""Training batches: a deterministic stream that can start at any step.

Every batch is a pure function of (seed, step). There is no shuffle buffer to fill or to save: the
order of an epoch is a pseudo-random permutation that is computed index by index, so a run that was
killed continues with the batch it would have seen.
"""

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.draws import Draws
from trainer.data.examples import ExampleBuilder, Examples, replayed
from trainer.data.heads import Head, choose_heads, label_table
from trainer.data.requests import RequestBatch
from trainer.data.shares import WHOLE, Share
from trainer.data.split import Split
from trainer.data.steps import Steps
from trainer.data.vocabulary import UNKNOWN, Vocabulary
from trainer.errors import BabelrecError


class Batch(RequestBatch):
    """B training requests, each with its positive item.

    ``item``: int32 [B] catalogue rows. ``labels``: float32 [B, heads], NaN unknown.
    """

    item: tf.Tensor
    labels: tf.Tensor


class TrainingBatch(TypedDict):
    """One step, or the share of it that one of several devices trains with.

    ``positives``, ``observed``: B requests for retrieval, B events for the ranking heads. ``items``: int32 [G], rows of
    the items of the whole step's positives, of which a share has B. ``negatives``: int32 [U], rows drawn uniformly from
    the training part's items, the same for all shares; none for a full softmax. ``picked``: int32 [B, negatives of
    ranking], places among the step's candidates: ``items`` and then ``negatives``, or the training part's items.
    """

    positives: Batch
    observed: Batch
    items: tf.Tensor
    negatives: tf.Tensor
    picked: tf.Tensor


class TrainingData:
    """Positives and observed events of a training part, ready to be batched.

    Args:
        dataset: For users' profiles.
        catalogue: Maps item ids to rows.
        vocabulary: From the same training part.
        split: Only its ``train`` and ``observed`` tables are used.
        heads: Heads of the ranking model; one label column each.
        config: Batch size, history, text queries, seed.
        replicas: Devices that share a batch.

    Raises:
        BabelrecError: no positives to train on, or batches that can't be shared equally.
    """

    def __init__(
        self,
        dataset: Dataset,
        catalogue: Catalogue,
        vocabulary: Vocabulary,
        split: Split,
        heads: list[Head],
        config: Config,
        replicas: int = 1,
    ) -> None:
        if split.train.is_empty():
            raise BabelrecError(
                "The training part has no positives. Check data.positives (event -> smallest value) against the "
                "dataset's events, and data.split.min_positives against its users."
            )
        if not choose_heads(vocabulary.events, config.data.positives):
            raise BabelrecError(
                "The training part has no event that a ranking head could learn from. Check data.positives: it must "
                f"name an event of the dataset (here: {', '.join(vocabulary.events) or 'none'})."
            )
        self._config = config
        self._categories = catalogue.categories
        self._items_total = len(catalogue)
        builder = ExampleBuilder(dataset, catalogue, vocabulary, split, config)
        self.histories = builder.histories
        """Catalogue rows of each known user's positives."""
        labels = label_table(split.observed, heads)
        examples = [builder.build(split.train, labels), builder.build(labels, labels)]
        # Of millions of rows nothing is to lie next to the tensors that isn't used again.
        del builder, labels
        # Of all positives, replayed or not: every item that was ever chosen is a negative for others.
        self.item_counts = np.bincount(examples[0].item, minlength=len(catalogue)).astype(np.float32)
        """Float32 [N]: training positives of each item."""
        self._tables: list[_Table] = []
        while examples:
            self._tables.append(_Table(replayed(examples.pop(0), config.training.transfer, config.seed)))
        self.positives, self.observed = (table.examples for table in self._tables)
        self._steps = Steps.plan(len(self.positives), config.training, replicas)
        self._history = tf.constant(self.histories.items)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch: see `trainer.data.steps`."""
        return self._steps.per_epoch

    def batches(self, *, start: int, stop: int, share: Share = WHOLE) -> tf.data.Dataset:
        """The batches of steps ``start`` to ``stop - 1``, each a `TrainingBatch`; of each, the parts of ``share``."""
        size = self._steps.batch_size
        seed = self._config.seed
        first, second = self._tables
        positives = _Stream(self, first, size, seed, text_queries=self._config.model.text_queries)
        observed = _Stream(self, second, size, seed + 1, text_queries=0.0)
        draws = Draws.of(self._config, self.item_counts, size)

        def batch(number: tf.Tensor) -> TrainingBatch:
            step = start + number // share.count
            rows = _part(size, share.replicas, share.first + number % share.count)
            return TrainingBatch(
                positives=positives(step, rows),
                observed=observed(step, rows),
                items=positives.items(step),
                negatives=draws.negatives(step),
                picked=tf.gather(draws.picked(step), rows),
            )

        steps = tf.data.Dataset.range((stop - start) * share.count)
        return steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def _part(size: int, parts: int, number: tf.Tensor) -> tf.Tensor:
    """The places in a batch of one of its parts, int64 [size / parts]."""
    return number * (size // parts) + tf.range(size // parts, dtype=tf.int64)


class _Table:
    """Examples as tensors, whose memory the arrays share: of millions there is one copy.

    Args:
        given: The examples.

    Attributes:
        tensors: Those of a batch; ``start``, ``length``, ``skip``, ``labels``: as of `Examples`.
        examples: The same as ``given``.
    """

    def __init__(self, given: Examples) -> None:
        self.tensors = {
            "user": tf.constant(given.user),
            "features": {name: tf.constant(column) for name, column in given.features.items()},
            "item": tf.constant(given.item),
            "timestamp": tf.constant(given.timestamp),
        }
        self.start, self.length = tf.constant(given.start), tf.constant(given.length)
        self.skip, self.labels = tf.constant(given.skip), tf.constant(given.labels)
        of_user = {"start": self.start, "length": self.length, "skip": self.skip, "labels": self.labels}
        self.examples = Examples(**tf.nest.map_structure(_view, self.tensors | of_user))


def _view(tensor: tf.Tensor) -> npt.NDArray[Any]:
    # Its buffer; `Tensor.numpy` would copy.
    return np.asarray(memoryview(tensor))


class _Stream:
    """Step -> Batch, by TensorFlow operations that depend only on (seed, step)."""

    def __init__(self, data: TrainingData, table: _Table, size: int, seed: int, *, text_queries: float) -> None:
        self._size = size
        self._seed = seed
        self._text_queries = text_queries
        self._by_category = data._config.model.text_queries_by_category
        self._total = len(table.examples)
        self._thin = data._config.training.history == "leave_one_out"
        self._length = data._config.model.query.history_length
        self._items_total = data._items_total
        self._tensors = table.tensors
        self._start, self._lengths, self._skip, self._labels = table.start, table.length, table.skip, table.labels
        self._history = data._history
        self._categories = tf.constant(data._categories)

    def items(self, step: tf.Tensor) -> tf.Tensor:
        """The items of a step's examples, int32 [size]: without what else the examples have, they cost little."""
        return tf.gather(self._tensors["item"], self._examples(step, tf.range(self._size, dtype=tf.int64)))

    def __call__(self, step: tf.Tensor, places: tf.Tensor) -> Batch:
        """The examples at int64 ``places`` [B] in the step's batch.

        Everything is drawn for the whole batch, so that an example is the same whoever makes it.
        """
        rows = self._examples(step, places)
        # Independent draws of one step differ in the last element of their seed.
        draws = tf.random.stateless_uniform([4, self._size], seed=tf.stack([step, self._seed + 7919]))
        draws = tf.gather(draws, places, axis=1)
        columns = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), self._tensors)
        history = self._histories(rows, step, places)
        text = self._texts(columns["item"], draws)
        typed = text >= 0
        # Half of the text queries come from unknown users, so that the text alone must suffice.
        unknown = typed & (draws[3] < 0.5)
        return Batch(
            user=tf.where(unknown, UNKNOWN, columns["user"]),
            history=tf.where(unknown[:, tf.newaxis], -1, history),
            features=columns["features"],
            timestamp=columns["timestamp"],
            text=text,
            item=columns["item"],
            labels=tf.gather(self._labels, rows),
        )

    def _examples(self, step: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Numbers of the examples at int64 ``places`` [B] in a step's batch, int64 [B]."""
        place = step * self._size + places
        epoch = place // self._total
        fixed = tf.zeros_like(epoch)
        seeds = tf.stack([fixed + self._seed, epoch, fixed], axis=1)
        # The raw operation: tf.random.experimental.index_shuffle pads a matrix of seeds to a wrong shape (2.20).
        return tf.raw_ops.RandomIndexShuffle(
            index=place % self._total, seed=seeds, max_index=tf.constant(self._total - 1, tf.int64)
        )

    def _histories(self, rows: tf.Tensor, step: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Up to H items of each user except the target item, newest first.

        Longer histories are cut to their newest items, as in serving. If the history is everything
        but the target item, it is thinned instead: one random item from each of H equal stretches, so
        that old items are learned from as well.
        """
        start, length, skip = (tf.gather(tensor, rows) for tensor in (self._start, self._lengths, self._skip))
        available = length - tf.cast(skip >= 0, tf.int32)
        slots = tf.range(self._length, dtype=tf.int32)[tf.newaxis, :]
        jitter = tf.random.stateless_uniform([self._size, self._length], seed=tf.stack([step, self._seed + 104729]))
        jitter = tf.gather(jitter, places)
        stretch = tf.cast(available, tf.float32)[:, tf.newaxis] / self._length
        thinned = tf.cast((tf.cast(slots, tf.float32) + jitter) * stretch, tf.int32)
        age = tf.where(self._thin & (available[:, tf.newaxis] > self._length), thinned, slots)
        age = tf.minimum(age, tf.maximum(available[:, tf.newaxis] - 1, 0))
        place = available[:, tf.newaxis] - 1 - age
        place += tf.cast((skip[:, tf.newaxis] >= 0) & (place >= skip[:, tf.newaxis]), tf.int32)
        there = slots < available[:, tf.newaxis]
        flat = tf.where(there, start[:, tf.newaxis] + tf.cast(place, tf.int64), 0)
        return tf.where(there, tf.gather(self._history, flat), -1)

    def _texts(self, items: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """The query text: none, the item's text, or one of its category labels."""
        categories = tf.gather(self._categories, items)
        known = tf.reduce_sum(tf.cast(categories >= 0, tf.int32), axis=1)
        pick = tf.minimum(tf.cast(draws[2] * tf.cast(known, tf.float32), tf.int32), tf.maximum(known - 1, 0))
        label = tf.gather(categories, pick, batch_dims=1)
        by_category = (known > 0) & (draws[1] < self._by_category)
        text = tf.where(by_category, self._items_total + label, items)
        return tf.where(draws[0] < self._text_queries, text, -1)
