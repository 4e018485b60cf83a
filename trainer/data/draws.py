"""The random choices of a training step that all its examples share: a pure function of (seed, step)."""

from typing import Self

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config.settings import Config


class Draws:
    """Draws the items that a step adds to its own as negatives.

    Args:
        trained: Int32 [T], catalogue rows of the items to draw from.
        negatives: U, items of a step.
        picked: Shape [G, negatives of ranking]: for each of a step's positives, of so many candidates.
        candidates: Candidates of a step.
        seed: Of all draws.
    """

    def __init__(
        self, trained: npt.NDArray[np.int32], negatives: int, picked: tuple[int, int], candidates: int, seed: int
    ) -> None:
        self._trained = tf.constant(trained)
        self._negatives = negatives
        self._picked = picked
        self._candidates = candidates
        self._seed = seed

    @classmethod
    def of(cls, config: Config, item_counts: npt.NDArray[np.float32], size: int) -> Self:
        """As configured, for steps of ``size`` positives over items with ``item_counts`` [N] positives in all."""
        trained = np.flatnonzero(item_counts > 0).astype(np.int32)
        full = config.model.retrieval.softmax == "full"
        negatives = 0 if full else config.model.retrieval.uniform_negatives
        candidates = len(trained) if full else size + negatives
        return cls(trained, negatives, (size, config.model.ranking.negatives), candidates, config.seed)

    def negatives(self, step: tf.Tensor) -> tf.Tensor:
        """Catalogue rows of a step's negatives, int32 [U]; they may repeat."""
        seed = tf.stack([step, self._seed + 15_485_863])
        places = tf.random.stateless_uniform([self._negatives], seed, 0, len(self._trained), tf.int32)
        return tf.gather(self._trained, places)

    def picked(self, step: tf.Tensor) -> tf.Tensor:
        """For each of a step's positives the places of a few of its candidates, int32 [G, negatives of ranking]."""
        seed = tf.stack([step, self._seed + 32_452_843])
        return tf.random.stateless_uniform(self._picked, seed, 0, self._candidates, tf.int32)
