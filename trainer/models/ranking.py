"""The ranking model: from query and candidate vectors to one prediction per head."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.data.heads import Head
from trainer.models.calibration import IDENTITY, Calibration
from trainer.models.replicas import Replicas
from trainer.models.settings import RankingConfig
from trainer.scorers.fusion import Fusion

RETRIEVAL = "retrieval"


class RankingModel(tf.keras.layers.Layer):
    """DCN-v2 over a query and a candidate, with one logit per head.

    The cross network (Wang et al., 2021, arXiv 2008.13535, low-rank form of eq. 2) takes both
    vectors and their elementwise product, whose sum is the retrieval score.

    Args:
        heads: Outputs, in order; without heads there is no network, and retrieval alone orders the items.
        config: Size of the network.
        fusion: Extracts the towers' part of the two vectors, the network's input.
    """

    def __init__(self, heads: Sequence[Head], config: RankingConfig, fusion: Fusion) -> None:
        super().__init__(name="ranking_model")
        self.heads = list(heads)
        # Not the fusion itself, whose weights don't belong to this layer.
        self._of_towers = fusion.of_towers
        self._cross = [
            tfrs.layers.dcn.Cross(projection_dim=max(1, fusion.dimension // 2), name=f"cross_{layer}")
            for layer in range(config.cross_layers if heads else 0)
        ]
        self._hidden = [
            tf.keras.layers.Dense(units, activation="gelu", name=f"hidden_{layer}")
            for layer, units in enumerate(config.hidden if heads else [])
        ]
        self._logits = tf.keras.layers.Dense(len(self.heads), name="logits") if heads else None
        # Mean and standard deviation of each regression label; (0, 1) for binary heads.
        self.scale = self.add_weight(
            name="label_scale", shape=(len(self.heads), 2), initializer=_unit_scale, trainable=False
        )

    @property
    def of_heads(self) -> list[tf.Variable]:
        """Trained weights that are separate for each head."""
        return [] if self._logits is None else list(self._logits.weights)

    def set_label_scale(self, labels: npt.NDArray[np.float32]) -> None:
        """Sets mean and deviation of the regression heads from labels, float [E, heads]; NaN is ignored."""
        scale = np.tile(np.array([0.0, 1.0], np.float32), (len(self.heads), 1))
        for column, head in enumerate(self.heads):
            known = labels[np.isfinite(labels[:, column]), column]
            if head.kind == "regression" and known.size:
                scale[column] = known.mean(), max(float(known.std()), 1e-3)
        self.scale.assign(scale)

    def call(self, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Queries [B, D] and candidates [B, C, D] -> raw outputs float32 [B, C, heads].

        A binary head's output is a logit; a regression head's is in standard deviations. Only the towers' part of the
        vectors is used; the rest is for retrieval.
        """
        if self._logits is None:
            return tf.zeros([*tf.unstack(tf.shape(candidates)[:2]), 0])
        queries, candidates = self._of_towers(queries), self._of_towers(candidates)
        queries = tf.broadcast_to(queries[:, tf.newaxis, :], tf.shape(candidates))
        inputs = tf.concat([queries, candidates, queries * candidates], axis=-1)
        flat = tf.reshape(inputs, [-1, 3 * candidates.shape[-1]])
        crossed = flat
        for layer in self._cross:
            crossed = layer(flat, crossed)
        for layer in self._hidden:
            crossed = layer(crossed)
        shape = tf.shape(candidates)
        return tf.reshape(self._logits(crossed), [shape[0], shape[1], len(self.heads)])

    def predictions(
        self, outputs: tf.Tensor, calibrations: Mapping[str, Calibration] | None = None
    ) -> dict[str, tf.Tensor]:
        """Raw outputs [B, C, heads] -> output name -> probability or value in label units [B, C].

        Args:
            outputs: From `call`.
            calibrations: Head -> calibration of its probability; a head without one keeps the plain sigmoid.
        """
        calibrations = calibrations or {}
        named = {}
        for column, head in enumerate(self.heads):
            raw = outputs[..., column]
            named[head.output] = (
                tf.sigmoid(calibrations.get(head.name, IDENTITY).logits(raw))
                if head.kind == "binary"
                else raw * self.scale[column, 1] + self.scale[column, 0]
            )
        return named

    def loss(self, outputs: tf.Tensor, labels: tf.Tensor, replicas: Replicas) -> tf.Tensor:
        """Mean loss over known labels: cross-entropy for binary heads, squared error for others.

        Args:
            outputs: Raw outputs [..., heads].
            labels: Same shape, in label units; NaN where unknown.
            replicas: Of the step. The mean is that over the known labels of all of them, and the result what this one
                contributes to it.
        """
        if not self.heads:
            return tf.zeros([])
        known = tf.math.is_finite(labels)
        weights = tf.cast(known, tf.float32)
        labels = tf.where(known, labels, 0.0)
        counts = replicas.total(tf.reduce_sum(weights, axis=list(range(len(labels.shape) - 1))))
        losses = []
        for column, head in enumerate(self.heads):
            label, raw = labels[..., column], outputs[..., column]
            if head.kind == "binary":
                each = tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=raw)
            else:
                each = tf.square(raw - (label - self.scale[column, 0]) / self.scale[column, 1])
            losses.append(tf.math.divide_no_nan(tf.reduce_sum(each * weights[..., column]), counts[column]))
        return tf.add_n(losses)


def blend(
    retrieval_scores: tf.Tensor, outputs: tf.Tensor, signals: Sequence[str], weights: Mapping[str, float]
) -> tf.Tensor:
    """The final score: weighted sum of the retrieval logit and the ranking stage's signals.

    Args:
        retrieval_scores: Float32 [B, C], dot product over temperature.
        outputs: Float32 [B, C, signals].
        signals: Names of the last axis, see `trainer.models.recommender.Recommender.signals`.
        weights: ``retrieval`` and names of signals; a missing name has weight 0.

    Returns:
        Float32 [B, C].
    """
    score = weights.get(RETRIEVAL, 0.0) * retrieval_scores
    for column, name in enumerate(signals):
        weight = weights.get(name, 0.0)
        if weight:
            score += weight * outputs[..., column]
    return score


def _unit_scale(shape: Sequence[int], dtype: tf.DType | None = None) -> tf.Tensor:
    return tf.tile(tf.constant([[0.0, 1.0]], dtype or tf.float32), [shape[0], 1])
