"""The query tower, which maps all known features of a request to a vector in the items' space."""

from typing import NotRequired, TypedDict

import tensorflow as tf

from trainer.data.requests import RequestFeatures
from trainer.data.vocabulary import Vocabulary
from trainer.models.settings import QueryTowerConfig
from trainer.scorers.fusion import Fusion
from trainer.towers.layers import Adapter, HistoryAttention, IdEmbedding, TimeFeatures


class QueryFeatures(TypedDict):
    """Features of B requests; each may be absent.

    ``user``: int32 [B] vocabulary index, 0 absent or unknown. ``features``: name -> the same.
    ``history``: float32 [B, H, D] candidate vectors of the history's items, newest first, and
    ``history_mask``: bool [B, H]; if there are ``history_positions``, int32 [B, H], ``history`` is [n, D] and they
    say where its items are. ``text``: float32 [B, D], the text in the shared space, and
    ``text_mask``: bool [B]. ``timestamp``: int64 [B] unix seconds, 0 absent.
    """

    user: tf.Tensor
    features: dict[str, tf.Tensor]
    history: tf.Tensor
    history_mask: tf.Tensor
    history_positions: NotRequired[tf.Tensor]
    text: tf.Tensor
    text_mask: tf.Tensor
    timestamp: tf.Tensor


def query_features(
    request: RequestFeatures,
    vectors: tf.Tensor,
    text: tf.Tensor,
    text_mask: tf.Tensor,
    positions: tf.Tensor | None = None,
) -> QueryFeatures:
    """Inputs of the query tower, from indices.

    Args:
        request: B requests.
        vectors: Float32 [n, D], candidate vectors.
        text, text_mask: See `QueryFeatures`.
        positions: Int32 [B, H], where each history item is in ``vectors``; None: at its row.
    """
    history = request["history"]
    return QueryFeatures(
        user=request["user"],
        features=request["features"],
        history=tf.gather(vectors, tf.maximum(history, 0) if positions is None else positions),
        history_mask=history >= 0,
        text=text,
        text_mask=text_mask,
        timestamp=request["timestamp"],
    )


class QueryTower(tf.keras.layers.Layer):
    """Query features of B requests -> vectors float32 [B, dimension], and what the fusion appends.

    Each present feature adds its vector, absent ones add nothing; a residual network, which
    also sees which features are present, corrects the sum.

    Args:
        vocabulary: Vocabulary of the training part.
        config: Which features are used and how often they are hidden in training.
        dimension: Size of the shared space.
        fusion: Appends the vectors of the other scorers.
        normalize: Whether the vectors have unit length.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: QueryTowerConfig,
        dimension: int,
        fusion: Fusion,
        *,
        normalize: bool,
    ) -> None:
        super().__init__(name="query_tower")
        self._normalize = normalize
        self._config = config
        self._fusion = fusion
        self._user = (
            IdEmbedding(len(vocabulary.users), dimension, dropout=config.user_dropout, name="user")
            if config.user_id
            else None
        )
        self._features = {
            name: IdEmbedding(len(known), dimension, dropout=config.feature_dropout, name=name, start_at_zero=True)
            for name, known in vocabulary.query_values.items()
        }
        self._attention = HistoryAttention(dimension, name="history_attention")
        identity = tf.keras.initializers.Identity()
        self._history = tf.keras.layers.Dense(dimension, use_bias=False, kernel_initializer=identity, name="history")
        self._text = Adapter(dimension, start_as_identity=True, name="text")
        self._time = TimeFeatures(name="time_features") if config.time else None
        self._time_projection = tf.keras.layers.Dense(dimension, name="time") if config.time else None
        self._residual = tf.keras.Sequential(
            [
                tf.keras.layers.Dense(2 * dimension, activation="gelu"),
                tf.keras.layers.Dense(dimension, kernel_initializer="zeros"),
            ],
            name="residual",
        )

    def call(self, features: QueryFeatures, training: bool = False) -> tf.Tensor:
        """Vectors of B requests; an empty request gets an arbitrary one."""
        mask, positions = features["history_mask"], features.get("history_positions")
        if training and self._config.history_dropout > 0.0:
            mask &= tf.random.uniform(tf.shape(mask)) >= self._config.history_dropout
        has_history = tf.cast(tf.reduce_any(mask, axis=1, keepdims=True), tf.float32)
        has_text = tf.cast(features["text_mask"], tf.float32)[:, tf.newaxis]
        history = self._fusion.of_towers(features["history"])
        total = self._history(self._attention(history, mask=mask, positions=positions))
        if training:
            # Few of a batch's requests have text.
            typed = tf.where(features["text_mask"])
            total = tf.tensor_scatter_nd_add(total, typed, self._text(tf.gather_nd(features["text"], typed)))
        else:
            total += self._text(features["text"]) * has_text
        for name, embedding in self._features.items():
            total += embedding(features["features"][name], training=training)
        if self._user is not None:
            total += self._user(features["user"], training=training)
        if self._time is not None and self._time_projection is not None:
            there = features["timestamp"] > 0
            if training:
                there &= tf.random.uniform(tf.shape(there)) >= self._config.feature_dropout
            total += (
                self._time_projection(self._time(features["timestamp"])) * tf.cast(there, tf.float32)[:, tf.newaxis]
            )
        fused = total + self._residual(tf.concat([total, has_history, has_text], axis=1))
        vector = tf.math.l2_normalize(fused, axis=-1) if self._normalize else fused
        return self._fusion.queries(vector, fused, features["history"], mask, training, positions)
