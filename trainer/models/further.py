"""The interface of additional losses: the part of a training step that they receive."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import tensorflow as tf

from trainer.data.item_table import ItemFeatures


class TrainingStep(NamedTuple):
    """One step of `trainer.models.recommender.Recommender.compute_loss`.

    Attributes:
        features: Features of the n distinct items of the batch, as used in this step.
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
    """Weighted sum of additional losses."""

    def __call__(self, step: TrainingStep) -> tf.Tensor:
        """A scalar that is added to the loss."""
