"""Approximate and exact nearest neighbours inside the graph."""

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.errors import BabelrecError
from trainer.export.scann_training import Placement, ScannTraining
from trainer.export.settings import ExportConfig

if TYPE_CHECKING:
    from scann.scann_ops.py.scann_ops import ScannSearcher, ScannState


@dataclass(frozen=True)
class IndexSettings:
    """Resolved settings of an index, as they go into the model card.

    Attributes:
        kind: ``scann``, ``brute_force`` or ``portable``.
        leaves: Partitions; None: every item is scored.
        leaves_to_search: Partitions searched for the usual number of results.
        dimensions_per_block: Dimensions per code of ScaNN's asymmetric hashing.
        reorder: Candidates that ScaNN scores exactly.
        leaf_size: Items of the largest partition of a portable index.
        spread_weight: Weight of the spread of a partition's items when choosing partitions of a portable index.
    """

    kind: str
    leaves: int | None = None
    leaves_to_search: int | None = None
    dimensions_per_block: int | None = None
    reorder: int | None = None
    leaf_size: int | None = None
    spread_weight: float | None = None


# Up to this size exact search takes 1.3 million multiplications per query, well below a millisecond.
_EXACT_UP_TO = 20_000
# ScaNN trains its codebook on 16 centres, and each leaf needs some points.
_SCANN_AT_LEAST = 256
# Queries of a batch when measuring recall.
_AT_ONCE = 256
# Codes are trained to be accurate along an item's direction, where errors change the order of large products most (Guo
# et al., 2020, arXiv 1908.10396); the value is that of ScaNN's own examples.
ANISOTROPIC_THRESHOLD = 0.2
# Tuning lets at most so many times the first number of items be scored exactly.
_MOST_REORDERED = 8
# What scoring an item exactly costs, in items whose codes are scored: 50 of 100,000 items, 120 of a million, which are
# not in the cache.
_COST_OF_EXACT = 100.0


def choose_index(config: ExportConfig, items: int) -> IndexSettings:
    """Settings for a catalogue of ``items`` items.

    ``auto`` follows ScaNN's own advice (docs/algorithms.md of google-research/scann): no index for
    small sets, then about sqrt(N) leaves and reordering. A tenth of the leaves, at least 10, is
    searched, and four times the requested candidates are reordered, before tuning.

    ``portable`` is also exact for small sets, unless ``export.leaves`` is set. Otherwise it has about 5 sqrt(N)
    leaves: choosing among many small ones costs less than scoring the items of few large ones. A
    thirtieth is searched before tuning.

    Raises:
        BabelrecError: ScaNN is requested for fewer items than it can be trained on.
    """
    kind = config.index
    if kind == "auto":
        kind = "scann" if items > _EXACT_UP_TO else "brute_force"
    if kind == "brute_force":
        return IndexSettings(kind)
    if kind == "portable":
        if config.leaves is None and items <= _EXACT_UP_TO:
            return IndexSettings(kind)
        leaves = min(config.leaves or round(5 * math.sqrt(items)), items)
        return IndexSettings(
            kind, leaves=leaves, leaves_to_search=min(leaves, config.leaves_to_search or max(10, leaves // 30))
        )
    if items < _SCANN_AT_LEAST:
        raise BabelrecError(
            f"export.index is scann, which needs at least {_SCANN_AT_LEAST} items; the catalogue has {items}. "
            "Use brute_force or auto."
        )
    leaves = min(config.leaves or max(10, round(math.sqrt(items))), items)
    return IndexSettings(
        kind=kind,
        leaves=leaves,
        leaves_to_search=min(leaves, config.leaves_to_search or max(10, leaves // 10)),
        dimensions_per_block=config.dimensions_per_block,
        reorder=config.reorder or max(400, 4 * config.candidates),
    )


class Index(Protocol):
    """Finds the catalogue rows with the largest dot products."""

    def search(self, queries: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Queries float32 [B, D] -> (dot products [B, count], int32 rows [B, count]), best first.

        Positions without a result have row -1 and product -inf.
        """
        ...


class BruteForceIndex(tf.Module):
    """Exact: scores every item.

    Args:
        vectors: The catalogue, variable float32 [N, D].
    """

    def __init__(self, vectors: tf.Variable) -> None:
        super().__init__(name="brute_force_index")
        self._vectors = vectors

    def search(self, queries: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Index.search`."""
        found = tf.math.top_k(tf.matmul(queries, self._vectors, transpose_b=True), count)
        return found.values, found.indices


class ScannIndex(tfrs.layers.factorized_top_k.ScaNN):
    """TFRS's ScaNN layer with anisotropic codes and the number of results as a run-time input.

    The layer itself fixes at build time how many candidates are reordered and how many leaves are
    searched, so a request for more results than that would get fewer. Here both grow with it. Nor has it a setting for
    anisotropic quantization.

    Args:
        vectors: The catalogue, float32 [N, D].
        settings: From `choose_index`.
        usual: Usual number of requested results.
        training: Partitions and codebooks of an index with the same settings but ``leaves_to_search``; None: they are
            learned from ``vectors``.
        fixed_reorder: Whether tuning leaves the number of items that are scored exactly as it is.

    Attributes:
        settings: As tuned.
        training: Its partitions and codebooks.
        distortion: How far items are from their reconstruction by the index (`ScannTraining.distortion`).
    """

    def __init__(
        self,
        vectors: tf.Tensor,
        settings: IndexSettings,
        usual: int,
        training: ScannTraining | None = None,
        *,
        fixed_reorder: bool = False,
    ) -> None:
        super().__init__(
            k=usual,
            num_leaves=settings.leaves,
            num_leaves_to_search=settings.leaves_to_search,
            dimensions_per_block=settings.dimensions_per_block,
            num_reordering_candidates=settings.reorder,
            name="scann_index",
        )
        self.settings = settings
        self._size = int(vectors.shape[0])
        self._usual = usual
        self._fixed_reorder = fixed_reorder
        self._build_searcher = self._built
        # Two searchers without names in one graph would share a resource: the first would answer for both.
        self._resource = f"scann-{uuid.uuid4()}"
        values = tf.convert_to_tensor(vectors)
        if training is None:
            self.index(values)
            training, placement = self._learned()
        else:
            placement = training.place(values.numpy())
            self._serialized_searcher = _state(training, placement, values)
        self.training = training
        self.distortion = training.distortion(values.numpy(), placement)

    def _built(self, vectors: tf.Tensor) -> "ScannSearcher":
        from scann.scann_ops.py import scann_ops

        settings = self.settings
        builder = scann_ops.builder(vectors, self._usual, "dot_product")
        builder = builder.tree(num_leaves=settings.leaves, num_leaves_to_search=settings.leaves_to_search)
        builder = builder.score_ah(
            settings.dimensions_per_block, anisotropic_quantization_threshold=ANISOTROPIC_THRESHOLD
        )
        # A name of its own, so that no other searcher of the process shares the resource.
        return builder.reorder(settings.reorder).build(shared_name=f"{self._resource}-built")

    def _learned(self) -> tuple[ScannTraining, Placement]:
        """What a build has learned, and the items' places."""
        state = self._serialized_searcher
        named = (state.scann_config, state.serialized_partitioner, state.ah_codebook)
        training = ScannTraining(*(bytes(each.numpy()[0]) for each in named))
        return training, Placement(state.datapoint_to_token.numpy(), state.hashed_dataset.numpy())

    def search(self, queries: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Index.search`."""
        from scann.scann_ops.py import scann_ops

        settings = self.settings
        growth = tf.maximum(1.0, tf.cast(count, tf.float32) / self._usual)
        leaves = tf.minimum(tf.cast(tf.math.ceil(growth * settings.leaves_to_search), tf.int32), settings.leaves)
        reorder = tf.minimum(tf.maximum(settings.reorder, 2 * count), self._size)
        state = self._serialized_searcher
        handle = scann_ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name=self._resource,
        )
        found = scann_ops.ScannSearcher(handle).search_batched_parallel(
            queries, final_num_neighbors=count, pre_reorder_num_neighbors=reorder, leaves_to_search=leaves
        )
        # Searched leaves may hold fewer points than requested: ScaNN then returns fewer columns
        # for the whole batch, and with NaN distances in the rows with fewest results.
        distances = tf.ensure_shape(found.distances, [None, None])
        rows = tf.ensure_shape(tf.cast(found.indices, tf.int32), [None, None])
        known = tf.math.is_finite(distances)
        short = [[0, 0], [0, tf.maximum(count - tf.shape(rows)[1], 0)]]
        return (
            tf.pad(tf.where(known, distances, -math.inf), short, constant_values=-math.inf),
            tf.pad(tf.where(known, rows, -1), short, constant_values=-1),
        )

    def tune(self, queries: tf.Tensor, vectors: tf.Tensor, *, count: int, target: float) -> float:
        """Searches more leaves and scores more items exactly until recall@count of exact search reaches ``target``.

        Of all pairs of both numbers that reach it, the one that costs least is taken. If none does, all leaves are
        searched, and the most items are scored exactly.

        Args:
            queries: Float32 [Q, D], the model's own query vectors.
            vectors: Float32 [N, D], the catalogue.
            count: k of the recall.
            target: Recall to reach, with all leaves at most.

        Returns:
            The recall reached; `settings` has the numbers.
        """
        exact = _exact_rows(queries, vectors, min(count, self._size))
        first = self.settings
        found: list[tuple[float, float, IndexSettings]] = []
        recall = 0.0
        for factor in (1,) if self._fixed_reorder else _powers_of_two(_MOST_REORDERED):
            self.settings = replace(first, reorder=min(factor * (first.reorder or 1), self._size))
            least = min((cost for cost, _, _ in found), default=math.inf)
            while (cost := self._cost()) < least:
                recall = _recall(self, queries, exact)
                if recall >= target:
                    found.append((cost, recall, self.settings))
                    break
                leaves, search = self.settings.leaves or 1, self.settings.leaves_to_search or 1
                if search >= leaves:
                    break
                self.settings = replace(self.settings, leaves_to_search=min(leaves, math.ceil(1.25 * search)))
            if self.settings.reorder == self._size:
                break
        if found:
            _, recall, self.settings = min(found, key=lambda each: each[0])
        return recall

    def _cost(self) -> float:
        """Of a query, in items whose codes are scored."""
        settings = self.settings
        searched = self._size * (settings.leaves_to_search or 1) / (settings.leaves or 1)
        return searched + _COST_OF_EXACT * (settings.reorder or 0)


def _powers_of_two(most: int) -> Iterator[int]:
    power = 1
    while power <= most:
        yield power
        power *= 2


def recall_of_exact(index: Index, queries: tf.Tensor, vectors: tf.Tensor, count: int) -> float:
    """Share of the exact top ``count`` that the index finds, averaged over queries float32 [Q, D]."""
    return _recall(index, queries, _exact_rows(queries, vectors, count))


def _exact_rows(queries: tf.Tensor, vectors: tf.Tensor, count: int) -> tf.Tensor:
    """Rows of the exact top ``count``, int32 [Q, count]."""
    batches = (queries[start : start + _AT_ONCE] for start in range(0, queries.shape[0], _AT_ONCE))
    best = [tf.math.top_k(tf.matmul(batch, vectors, transpose_b=True), count).indices for batch in batches]
    return tf.concat(best, axis=0)


def _recall(index: Index, queries: tf.Tensor, exact: tf.Tensor) -> float:
    """Share of the rows [Q, count] that the index finds."""
    hits, count = 0.0, tf.shape(exact)[1]
    for start in range(0, queries.shape[0], _AT_ONCE):
        _, found = index.search(queries[start : start + _AT_ONCE], count)
        both = tf.sets.intersection(found, exact[start : start + _AT_ONCE])
        hits += float(tf.reduce_sum(tf.cast(tf.sets.size(both), tf.float32)))
    return hits / int(tf.size(exact))


def _state(training: ScannTraining, placement: Placement, vectors: tf.Tensor) -> "ScannState":
    """A searcher's tensors, as ScaNN builds them."""
    from scann.scann_ops.py.scann_ops import ScannState

    unused = tf.constant(0, tf.int8), tf.constant(0.0), tf.constant(0.0)
    config, partitioner, codebook = (
        tf.constant([part]) for part in (training.config, training.partitioner, training.codebook)
    )
    return ScannState((config, partitioner, placement.partitions, codebook, placement.codes, *unused, vectors))
