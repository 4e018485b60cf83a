"""Training batches: a deterministic stream that can start at any step.

Every batch is a pure function of (seed, step). There is no shuffle buffer to fill or to save: the
order of an epoch is a pseudo-random permutation that is computed index by index, so a run that was
killed continues with the batch it would have seen.
"""

import math
from dataclasses import dataclass, fields
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl
import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.heads import Head, choose_heads, label_table
from trainer.data.query_features import feature_columns, user_profiles
from trainer.data.requests import RequestBatch, feature_indices
from trainer.data.split import Split
from trainer.data.steps import Steps
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import UNKNOWN, Vocabulary
from trainer.errors import BabelrecError
from trainer.training.settings import TransferConfig

_Ints = npt.NDArray[np.int32]


class Batch(RequestBatch):
    """B training requests, each with its positive item.

    ``item``: int32 [B] catalogue rows. ``labels``: float32 [B, heads], NaN unknown.
    """

    item: tf.Tensor
    labels: tf.Tensor


class TrainingBatch(TypedDict):
    """One step: positives for retrieval, observed events for the ranking heads."""

    positives: Batch
    observed: Batch


@dataclass(frozen=True, eq=False)
class _Examples:
    """E interactions; ``start`` and ``length`` delimit the positives usable as their history."""

    user: _Ints
    features: dict[str, _Ints]
    item: _Ints
    timestamp: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    length: _Ints
    skip: _Ints
    labels: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.user)

    def at(self, rows: npt.NDArray[np.integer]) -> "_Examples":
        """Some of them."""
        features = {name: column[rows] for name, column in self.features.items()}
        columns = {each.name: getattr(self, each.name)[rows] for each in fields(self) if each.name != "features"}
        return _Examples(features=features, **columns)


def _replayed(examples: _Examples, config: TransferConfig, seed: int) -> _Examples:
    """The examples since `TransferConfig.since`, and a sample of the older ones."""
    if config.since is None or config.replayed is None:
        return examples
    is_new = examples.timestamp >= config.since
    old = np.flatnonzero(~is_new)
    most = math.ceil(config.replayed * int(is_new.sum()))
    drawn = np.random.default_rng(seed).permutation(old)[:most]
    return examples.at(np.sort(np.concatenate([drawn, np.flatnonzero(is_new)])))


class TrainingData:
    """Positives and observed events of a training part, ready to be batched.

    Args:
        dataset: For users' profiles.
        catalogue: Maps item ids to rows.
        vocabulary: From the same training part.
        split: Only its ``train`` and ``observed`` tables are used.
        heads: Heads of the ranking model; one label column each.
        config: Batch size, history, text queries, seed.

    Raises:
        BabelrecError: no positives to train on.
    """

    def __init__(
        self,
        dataset: Dataset,
        catalogue: Catalogue,
        vocabulary: Vocabulary,
        split: Split,
        heads: list[Head],
        config: Config,
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
        builder = _ExampleBuilder(dataset, catalogue, vocabulary, split, config)
        self.histories = builder.histories
        """Catalogue rows of each known user's positives."""
        labels = label_table(split.observed, heads)
        transfer = config.training.transfer
        positives = builder.build(split.train, labels)
        observed = builder.build(labels, labels)
        self.positives, self.observed = (_replayed(each, transfer, config.seed) for each in (positives, observed))
        self._steps = Steps.plan(len(self.positives), config.training)
        # Of all positives, replayed or not: every item that was ever chosen is a negative for others.
        self.item_counts = np.bincount(positives.item, minlength=len(catalogue)).astype(np.float32)
        """Float32 [N]: training positives of each item."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch: see `trainer.data.steps`."""
        return self._steps.per_epoch

    def batches(self, *, start: int, stop: int) -> tf.data.Dataset:
        """The batches of steps ``start`` to ``stop - 1``, each a `TrainingBatch`."""
        size = self._steps.batch_size
        seed = self._config.seed
        positives = _Stream(self, self.positives, size, seed, text_queries=self._config.model.text_queries)
        observed = _Stream(self, self.observed, size, seed + 1, text_queries=0.0)
        return (
            tf.data.Dataset.range(start, stop)
            .map(
                lambda step: TrainingBatch(positives=positives(step), observed=observed(step)),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .prefetch(tf.data.AUTOTUNE)
        )


class _ExampleBuilder:
    """Makes examples of events. Ids are looked up once for each table; all else is by numbers."""

    def __init__(
        self, dataset: Dataset, catalogue: Catalogue, vocabulary: Vocabulary, split: Split, config: Config
    ) -> None:
        self._catalogue = catalogue
        self._vocabulary = vocabulary
        self._causal = config.training.history == "causal"
        self._users = pl.DataFrame({"user_id": vocabulary.users}, schema={"user_id": pl.String}).with_row_index("user")
        self._profiles = self._users.join(user_profiles(dataset), on="user_id", how="left", maintain_order="left")
        numbered = self._numbered(split.train)
        # A split is sorted by time for each user.
        numbered = numbered.with_columns(split.train["timestamp"]).sort("user", maintain_order=True)
        sizes = np.bincount(numbered["user"].to_numpy(), minlength=len(vocabulary.users))
        self.histories = UserItems.of_sizes(sizes, numbered["item"].to_numpy())
        self._positives = numbered.with_columns(place=pl.int_range(pl.len(), dtype=pl.Int32).over("user"))

    def _numbered(self, table: pl.DataFrame) -> pl.DataFrame:
        """``user``, int64 place in the vocabulary, and ``item``, int32 catalogue row, of rows with ids."""
        users = table.select("user_id").join(self._users, on="user_id", how="left", maintain_order="left")["user"]
        return pl.DataFrame({"user": users.cast(pl.Int64), "item": self._catalogue.rows(table["item_id"])})

    def build(self, events: pl.DataFrame, labels: pl.DataFrame) -> _Examples:
        """Examples of ``events`` (user_id, item_id, timestamp, and features where there are any)."""
        names = [name for name in labels.columns if name.startswith("label_")]
        numbered = self._numbered(events)
        pair = ["user", "item"]
        skip = numbered.join(self._positives.select(*pair, "place"), on=pair, how="left", maintain_order="left")
        if events is labels:
            known = labels.select(names)
        else:
            of_pairs = self._numbered(labels).hstack(labels.select(names))
            known = numbered.join(of_pairs, on=pair, how="left", maintain_order="left").select(names)
        user = numbered["user"].to_numpy()
        start = self.histories.indptr[user]
        length = (self.histories.indptr[user + 1] - start).astype(np.int32)
        skip_places = skip["place"].fill_null(-1).to_numpy()
        if self._causal:
            # A positive's history is what precedes it in the user's order; many share one second.
            earlier = self._earlier(user, events["timestamp"].to_numpy())
            length = np.where(skip_places >= 0, skip_places, earlier).astype(np.int32)
            skip_places = np.full_like(skip_places, -1)
        return _Examples(
            user=(user + 1).astype(np.int32),
            features=feature_indices(self._with_profiles(events, user), self._vocabulary),
            item=numbered["item"].to_numpy(),
            timestamp=events["timestamp"].to_numpy(),
            start=start,
            length=length,
            skip=skip_places,
            labels=known.to_numpy().astype(np.float32).reshape(events.height, len(names)),
        )

    def _with_profiles(self, events: pl.DataFrame, users: npt.NDArray[np.int64]) -> pl.DataFrame:
        """The columns of the events, and of their users, that are features."""
        profiles = self._profiles.drop("user", "user_id")
        # Without columns a frame has no rows either.
        return events.select("timestamp", *feature_columns(events)).hstack(profiles[users] if profiles.width else [])

    def _earlier(self, users: npt.NDArray[np.int64], timestamps: npt.NDArray[np.int64]) -> _Ints:
        """How many positives of the user are strictly older than each row."""
        times = self._positives["timestamp"].to_numpy()
        first = times.min()
        span = times.max() - first + 2
        # One increasing number for a user's positives after another's: all are searched at once.
        known = self._positives["user"].to_numpy() * span + (times - first)
        wanted = users * span + np.clip(timestamps - first, 0, span - 1)
        places: npt.NDArray[np.int64] = np.searchsorted(known, wanted)
        return (places - self.histories.indptr[users]).astype(np.int32)


class _Stream:
    """Step -> Batch, by TensorFlow operations that depend only on (seed, step)."""

    def __init__(self, data: TrainingData, examples: _Examples, size: int, seed: int, *, text_queries: float) -> None:
        self._size = size
        self._seed = seed
        self._text_queries = text_queries
        self._by_category = data._config.model.text_queries_by_category
        self._total = len(examples)
        self._thin = data._config.training.history == "leave_one_out"
        self._length = data._config.model.query.history_length
        self._items_total = data._items_total
        self._tensors = {
            "user": tf.constant(examples.user),
            "features": {name: tf.constant(column) for name, column in examples.features.items()},
            "item": tf.constant(examples.item),
            "timestamp": tf.constant(examples.timestamp),
        }
        self._start = tf.constant(examples.start)
        self._lengths = tf.constant(examples.length)
        self._skip = tf.constant(examples.skip)
        self._labels = tf.constant(examples.labels)
        self._history = tf.constant(data.histories.items)
        self._categories = tf.constant(data._categories)

    def __call__(self, step: tf.Tensor) -> Batch:
        place = step * self._size + tf.range(self._size, dtype=tf.int64)
        epoch = place // self._total
        fixed = tf.zeros_like(epoch)
        seeds = tf.stack([fixed + self._seed, epoch, fixed], axis=1)
        # The raw operation: tf.random.experimental.index_shuffle pads a matrix of seeds to a wrong shape (2.20).
        rows = tf.raw_ops.RandomIndexShuffle(
            index=place % self._total, seed=seeds, max_index=tf.constant(self._total - 1, tf.int64)
        )
        # Independent draws of one step differ in the last element of their seed.
        draws = tf.random.stateless_uniform([4, self._size], seed=tf.stack([step, self._seed + 7919]))
        columns = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), self._tensors)
        history = self._histories(rows, step)
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

    def _histories(self, rows: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Up to H items of each user except the target item, newest first.

        Longer histories are cut to their newest items, as in serving. If the history is everything
        but the target item, it is thinned instead: one random item from each of H equal stretches, so
        that old items are learned from as well.
        """
        start, length, skip = (tf.gather(tensor, rows) for tensor in (self._start, self._lengths, self._skip))
        available = length - tf.cast(skip >= 0, tf.int32)
        slots = tf.range(self._length, dtype=tf.int32)[tf.newaxis, :]
        jitter = tf.random.stateless_uniform([self._size, self._length], seed=tf.stack([step, self._seed + 104729]))
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
