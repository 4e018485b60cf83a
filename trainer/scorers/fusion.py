"""The sum of all parts of the retrieval score as one dot product."""

from collections.abc import Sequence

import tensorflow as tf

from trainer.data.item_table import ItemFeatures
from trainer.scorers.base import Scorer
from trainer.scorers.content import ContentSimilarity
from trainer.scorers.linear import LinearScorer
from trainer.scorers.popularity import Popularity


class Fusion(tf.Module):
    """Concatenates the towers' vectors and those of the other scorers, in one order for items and requests.

    Args:
        dimension: D, size of the towers' vectors.
        linear, content, popularity: Scorers in addition to the towers; None: not used.
    """

    def __init__(
        self,
        dimension: int,
        *,
        linear: LinearScorer | None = None,
        content: ContentSimilarity | None = None,
        popularity: Popularity | None = None,
    ) -> None:
        super().__init__(name="fusion")
        self.dimension = dimension
        self.linear, self.content, self.popularity = linear, content, popularity

    @property
    def width(self) -> int:
        """Size of the served vectors."""
        return self.dimension + sum(scorer.width for scorer in self._scorers(training=False))

    def items(self, towers: tf.Tensor, features: ItemFeatures, ids: tf.Tensor, training: bool) -> tf.Tensor:
        """Vectors of n items, given the candidate tower's [n, D]; the rest as in `Scorer.items`."""
        return _joined([towers, *(scorer.items(features, ids) for scorer in self._scorers(training))])

    def of_towers(self, vectors: tf.Tensor) -> tf.Tensor:
        """The towers' part of vectors [..., width]."""
        return vectors if vectors.shape[-1] == self.dimension else vectors[..., : self.dimension]

    def queries(
        self,
        vectors: tf.Tensor,
        towers: tf.Tensor,
        history: tf.Tensor,
        mask: tf.Tensor,
        training: bool,
        positions: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Vectors of B requests.

        Args:
            vectors: Float32 [B, D], the query tower's.
            towers, mask: See `Scorer.queries`.
            history: Float32 [B, H, width], whole vectors of the history's items.
            training: Leaves out what the towers are not trained with.
            positions: Int32 [B, H], where the histories' items are in ``history``, which is then [n, width].
        """
        parts, start = [vectors], self.dimension
        for scorer in self._scorers(training):
            part = history[..., start : start + scorer.width]
            parts.append(scorer.queries(towers, part if positions is None else tf.gather(part, positions), mask))
            start += scorer.width
        return _joined(parts)

    def _scorers(self, training: bool) -> list[Scorer]:
        scorers: Sequence[Scorer | None] = (self.linear, self.content, self.popularity)
        return [scorer for scorer in scorers if scorer is not None and (scorer.in_training or not training)]


def _joined(parts: list[tf.Tensor]) -> tf.Tensor:
    return tf.concat(parts, axis=1) if len(parts) > 1 else parts[0]
