"""What losses in addition to those of the two tasks see of a training step."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import tensorflow as tf

from trainer.data.item_table import ItemFeatures


class TrainingStep(NamedTuple):
    """One step of `trainer.models.recommender.Recommender.compute_loss`.

    Attributes:
        features: Of the n distinct items of the batch, as they were shown.
        vectors: Their candidate vectors, float32 [n, D].
        queries_and_candidates: (Candidate vectors [n, D], whether to hide features at random) -> query
            vectors [B, D] and the vectors of the C candidates, [C, D].
        retrieval_loss: (Queries, candidates) -> the retrieval task's loss, a scalar.
    """

    features: ItemFeatures
    vectors: tf.Tensor
    queries_and_candidates: Callable[[tf.Tensor, bool], tuple[tf.Tensor, tf.Tensor]]
    retrieval_loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class FurtherTerms(Protocol):
    """Further losses, summed and weighted."""

    def __call__(self, step: TrainingStep) -> tf.Tensor:
        """A scalar that is added to the loss."""
