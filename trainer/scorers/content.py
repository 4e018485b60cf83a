"""Similarity of an item's content to the history's.

For an item not seen in training, the towers and the linear model only have a mean over similar items, and a mean
blurs: the sequel of a film just watched, or the next part of a story, is no longer the nearest one. So item vectors
also include the content itself, sentence vector and category labels, and the request's vector includes that of its
history.
"""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.item_table import ItemFeatures
from trainer.data.user_items import UserItems
from trainer.scorers.base import Scorer
from trainer.scorers.metric import metric_of_users


class ContentSimilarity(Scorer):
    """Items: their content. Requests: a factor times the unit vector of the weighted sum over the history.

    Args:
        width: C, size of the content vectors: T numbers of the text and as many of the categories.
        recency: An item with n newer ones has weight (1 + n)^-recency; 0: equal weights.
        rank: R, size of the texts' part after `fit`; 0: it stays as it is.
    """

    def __init__(self, width: int, recency: float, *, rank: int = 0, name: str) -> None:
        super().__init__(name=name)
        self._text_width = width // 2
        self.width = width - self._text_width + rank if rank else width
        self._recency = recency
        # Saved with the model, so that every later catalogue and the exported graph compare alike.
        self.metric = tf.Variable(tf.eye(self._text_width, rank), trainable=False, name="metric") if rank else None
        self.factor = tf.Variable(0.0, trainable=False, name="factor")

    def items(self, features: ItemFeatures, ids: tf.Tensor) -> tf.Tensor:
        """See `Scorer.items`."""
        content = features["content"]
        if self.metric is None:
            return content
        text, categories = content[:, : self._text_width], content[:, self._text_width :]
        # A blank text is a zero vector and stays one.
        return tf.concat([tf.math.l2_normalize(tf.matmul(text, self.metric), axis=1), categories], axis=1)

    def fit(self, content: npt.NDArray[np.float32], histories: UserItems, *, shrinkage: float) -> None:
        """Learns the metric of the texts; without ``rank`` there is none.

        Args:
            content: Float32 [N, C], of the items.
            histories: Training positives, as rows of ``content``.
            shrinkage: See `metric_of_users`.
        """
        if self.metric is not None:
            texts, rank = content[:, : self._text_width], int(self.metric.shape[1])
            self.metric.assign(metric_of_users(texts, histories, shrinkage=shrinkage, rank=rank))

    def queries(self, towers: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """See `Scorer.queries`; zero without history."""
        there = tf.cast(mask, tf.float32)
        newer = tf.cumsum(there, axis=1, exclusive=True)
        total = tf.einsum("bh,bhc->bc", there * (1.0 + newer) ** -self._recency, history)
        return self.factor * tf.math.l2_normalize(total, axis=1)
