"""What ScaNN learns from a catalogue, and how other items are placed by it without learning again.

A ScaNN index has partitions, k-means over the items, and a codebook for each block of dimensions, k-means over the
differences between the items and their partitions' centres. Learning both takes most of the time of a build. An item
is then in the partition of the nearest centre, and its codes are the nearest of each block. A later catalogue with few
changes can be placed in the partitions of the one before.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

# Where the searcher of an index is below the object that holds it, and a variable's place in a checkpoint.
SEARCHER: Final = "_serialized_searcher"
_VALUE: Final = "/.ATTRIBUTES/VARIABLE_VALUE"
# Items compared with all centres at once: a block of the product stays in the processor's cache.
_BLOCK: Final = 4_096
_SAMPLE: Final = 8_192
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """N items in the partitions and codes of a `ScannTraining`.

    Attributes:
        partitions: Int32 [N], each item's partition.
        codes: Uint8 [N, B], its code in each block of dimensions.
    """

    partitions: npt.NDArray[np.int32]
    codes: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ScannTraining:
    """Partitions and codebooks, as ScaNN stores them.

    Attributes:
        config: Serialized ``ScannConfig``.
        partitioner: Serialized ``SerializedPartitioner``.
        codebook: Serialized ``CentersForAllSubspaces``.
    """

    config: bytes
    partitioner: bytes
    codebook: bytes

    @classmethod
    def of_version(cls, version: Path, place: str) -> "ScannTraining | None":
        """That of an index in a version directory, at a place such as ``_index``; None if it can't be read."""
        try:
            reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
            names = ("scann_config", "serialized_partitioner", "ah_codebook")
            parts = (reader.get_tensor(f"{place}/{SEARCHER}/{name}{_VALUE}") for name in names)
            return cls(*(bytes(part[0]) for part in parts))
        except (tf.errors.OpError, ValueError, RuntimeError):
            return None

    @cached_property
    def centres(self) -> _Floats:
        """Centres of the L partitions, float32 [L, D]."""
        from scann.partitioning import partitioner_pb2

        root = partitioner_pb2.SerializedPartitioner.FromString(self.partitioner).kmeans.kmeans_tree.root
        order = np.argsort([child.leaf_id for child in root.children])
        return np.array([centre.dimension for centre in root.centers], np.float32)[order]

    @cached_property
    def blocks(self) -> list[_Floats]:
        """For each of the B blocks of w dimensions its K codes, float32 [K, w]."""
        from scann.proto import centers_pb2

        subspaces = centers_pb2.CentersForAllSubspaces.FromString(self.codebook).subspace_centers
        return [
            np.array([centre.feature_value_float for centre in subspace.center], np.float32) for subspace in subspaces
        ]

    def place(self, vectors: _Floats) -> Placement:
        """Places vectors [N, D] as ScaNN itself does."""
        centres, blocks = self.centres, self.blocks
        halves = 0.5 * np.einsum("ld,ld->l", centres, centres)
        partitions = np.empty(len(vectors), np.int32)
        codes = np.empty((len(vectors), len(blocks)), np.uint8)
        for start in range(0, len(vectors), _BLOCK):
            part = vectors[start : start + _BLOCK]
            nearest = np.argmax(part @ centres.T - halves, axis=1)
            partitions[start : start + _BLOCK] = nearest
            left, first = part - centres[nearest], 0
            for block, book in enumerate(blocks):
                own = left[:, first : first + book.shape[1]]
                apart = own @ book.T - 0.5 * np.einsum("kw,kw->k", book, book)
                codes[start : start + _BLOCK, block] = np.argmax(apart, axis=1)
                first += book.shape[1]
        return Placement(partitions, codes)

    def distortion(self, vectors: _Floats, placement: Placement) -> float:
        """Mean squared distance between items and their reconstruction from partitions and codes, over a sample.

        Args:
            vectors: [N, D].
            placement: Of these vectors.
        """
        rows = np.unique(np.linspace(0, len(vectors) - 1, _SAMPLE).astype(np.int64))
        coded = [book[placement.codes[rows, block]] for block, book in enumerate(self.blocks)]
        rebuilt = self.centres[placement.partitions[rows]] + np.concatenate(coded, axis=1)
        return float(np.square(vectors[rows] - rebuilt).sum(axis=1).mean())
