"""The recommender: two towers, a retrieval task and a ranking task in one `tfrs.Model`."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.data.heads import Head
from trainer.data.item_table import ItemTable
from trainer.data.pipeline import Batch, TrainingBatch
from trainer.data.requests import RequestBatch
from trainer.data.vocabulary import Vocabulary
from trainer.models.further import FurtherTerms, TrainingStep
from trainer.models.ranking import RankingModel
from trainer.models.settings import ModelConfig
from trainer.scorers.content import ContentSimilarity
from trainer.scorers.fusion import Fusion
from trainer.scorers.linear import LinearScorer, linear_rank
from trainer.scorers.popularity import Popularity
from trainer.towers.candidate import CandidateTower
from trainer.towers.layers import IdEmbedding
from trainer.towers.query import QueryTower, query_features

_Value = TypeVar("_Value")


class Recommender(tfrs.Model):
    """Retrieval and ranking, trained jointly.

    Args:
        vocabulary: The training part's vocabulary.
        config: Towers, tasks and their weights.
        heads: Heads of the ranking model.
        items: Features of the catalogue that training batches refer to.
        item_counts: Float32 [N], training positives of each item: they determine the sampling
            probabilities of in-batch negatives, and which items may be drawn as negatives.
        encoder: The text encoder's trained part, if any.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: ModelConfig,
        heads: Sequence[Head],
        items: ItemTable,
        item_counts: npt.NDArray[np.float32],
        encoder: tf.keras.layers.Layer | None = None,
    ) -> None:
        super().__init__(name="recommender")
        self.config = config
        self.heads = list(heads)
        # Hidden from Keras, which would checkpoint the catalogue and count it among the weights.
        self._tables = _Untracked(items)
        cosine = config.retrieval.similarity == "cosine"
        self.fusion = make_fusion(config, vocabulary, items)
        self.candidate_tower = CandidateTower(
            vocabulary,
            config.candidate,
            config.dimension,
            self.fusion,
            normalize=cosine,
            encoder=encoder,
            conversion=config.conversion,
        )
        self.query_tower = QueryTower(vocabulary, config.query, config.dimension, self.fusion, normalize=cosine)
        self.ranking_model = RankingModel(heads, config.ranking, self.fusion)
        self.retrieval_task = tfrs.tasks.Retrieval(
            loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
            temperature=config.retrieval.temperature,
            num_hard_negatives=config.retrieval.hard_negatives,
            remove_accidental_hits=True,
        )
        self._retrieval_loss = tf.keras.metrics.Mean(name="retrieval_loss")
        self._ranking_loss = tf.keras.metrics.Mean(name="ranking_loss")
        self._terms: _Untracked[FurtherTerms | None] = _Untracked(None)
        self._item_counts = _Untracked(tf.constant(item_counts))
        trained = item_counts > 0
        self._trained_rows = _Untracked(tf.constant(np.flatnonzero(trained), tf.int32))
        # Position of each row among them.
        self._trained_places = _Untracked(tf.constant(np.cumsum(trained) - 1, tf.int32))

    @property
    def items(self) -> ItemTable:
        """The catalogue that item rows refer to."""
        return self._tables.value

    @property
    def tables(self) -> list[tf.Variable]:
        """Vectors of ids, [values + 1, D] each: a step reads and changes a few of their rows."""
        return [layer.table for layer in self.submodules if isinstance(layer, IdEmbedding)]

    def add_terms(self, terms: FurtherTerms) -> None:
        """Adds losses to those of the two tasks, in training only."""
        self._terms.value = terms
        self._further_loss = tf.keras.metrics.Mean(name="further_loss")

    def candidate_vectors(self, items: ItemTable, *, batch_size: int = 4096) -> tf.Tensor:
        """Vectors of a whole catalogue, float32 [N, D], as served."""
        parts = [
            self.candidate_tower(items(tf.range(start, min(start + batch_size, items.size))))
            for start in range(0, items.size, batch_size)
        ]
        return tf.concat(parts, axis=0)

    def query_vectors(
        self,
        batch: RequestBatch,
        items: ItemTable,
        vectors: tf.Tensor,
        positions: tf.Tensor | None = None,
        training: bool = False,
        *,
        text: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Vectors of B requests, float32 [B, D].

        Args:
            batch: The requests; their history and text refer to ``items``.
            items: The catalogue.
            vectors: Candidate vectors float32 [n, D].
            positions: Int32 [B, H], where each history item is in ``vectors``; None when ``vectors`` holds the whole
                catalogue.
            training: Whether features are hidden at random.
            text: Float32 [B, D], text queries to use instead of the batch's.
        """
        typed = batch["text"]
        features = query_features(
            batch,
            vectors,
            text=self._typed_text(typed, items, training) if text is None else text,
            text_mask=typed >= 0 if text is None else tf.ones_like(typed, tf.bool),
        )
        if positions is not None:
            features["history"], features["history_positions"] = vectors, positions
        return self.query_tower(features, training=training)

    def compute_loss(self, inputs: TrainingBatch, training: bool = False) -> tf.Tensor:
        """Weighted sum of the retrieval and the ranking loss of one training batch."""
        positives, observed = inputs["positives"], inputs["observed"]
        negatives = self._negatives()
        histories = tf.concat([positives["history"], observed["history"]], axis=0)
        wanted = [tf.reshape(tf.maximum(histories, 0), [-1]), positives["item"], observed["item"], negatives]
        # Each distinct item passes through its tower once.
        rows, places = tf.unique(tf.concat(wanted, axis=0))
        features = self.items(rows, training)
        in_history, positive, seen, negative = tf.split(places, [tf.size(part) for part in wanted])
        in_history = tf.reshape(in_history, tf.shape(histories))
        size = tf.shape(positives["item"])[0]
        full = self.config.retrieval.softmax == "full"
        # Position of each request's own item among the candidates: its index in the batch, or its position among all.
        own = tf.gather(self._trained_places.value, positives["item"]) if full else tf.range(size)
        candidate_rows = negatives if full else tf.concat([positives["item"], negatives], axis=0)

        def queries_and_candidates(vectors: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
            queries = self.query_vectors(positives, self.items, vectors, in_history[:size], training)
            return queries, tf.gather(vectors, negative if full else tf.concat([positive, negative], axis=0))

        def retrieval_loss(queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
            if full:
                logits = tf.matmul(queries, candidates, transpose_b=True) / self.config.retrieval.temperature
                return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=own, logits=logits))
            return self.retrieval_task(
                queries,
                candidates,
                candidate_sampling_probability=self._expected_counts(candidate_rows, size),
                candidate_ids=candidate_rows,
                compute_metrics=False,
            )

        vectors = self.candidate_tower(features, training=training)
        if self.heads:
            # Both in one pass: each operation has a cost of its own.
            both = tf.nest.map_structure(
                lambda *parts: tf.concat(parts, axis=0), _request(positives), _request(observed)
            )
            queries = self.query_vectors(both, self.items, vectors, in_history, training)
            queries, of_observed = queries[:size], queries[size:]
            candidates = tf.gather(vectors, negative if full else tf.concat([positive, negative], axis=0))
            sampled = self._sampled_ranking_loss(positives, queries, candidates, candidate_rows, own)
            outputs = self.ranking_model(of_observed, tf.gather(vectors, seen)[:, tf.newaxis, :])
            ranking = sampled + self.ranking_model.loss(outputs[:, 0], observed["labels"])
        else:
            queries, candidates = queries_and_candidates(vectors, training)
            ranking = tf.zeros([])
        retrieval = retrieval_loss(queries, candidates)
        self._retrieval_loss.update_state(retrieval)
        self._ranking_loss.update_state(ranking)
        total = self.config.retrieval.loss_weight * retrieval + self.config.ranking.loss_weight * ranking
        terms = self._terms.value
        if training and terms is not None:
            further = terms(TrainingStep(features, vectors, queries_and_candidates, retrieval_loss))
            self._further_loss.update_state(further)
            total += further
        return total

    def train_step(self, inputs: TrainingBatch) -> dict[str, tf.Tensor]:
        """TFRS's step; reports the loss and its two parts."""
        metrics = super().train_step(inputs)
        names = ("loss", "retrieval_loss", "ranking_loss", "further_loss")
        return {name: metrics[name] for name in names if name in metrics}

    def _typed_text(self, typed: tf.Tensor, items: ItemTable, training: bool) -> tf.Tensor:
        """Vectors of the text queries, float32 [B, D]; zero without one."""
        by_item, by_label = tf.where((typed >= 0) & (typed < items.size)), tf.where(typed >= items.size)
        texts, languages = items.text(tf.gather_nd(typed, by_item), training)
        labels = items.label(tf.gather_nd(typed, by_label) - items.size, training)
        # Separately: texts may be strings or other inputs of the encoder's trained part.
        tower = self.candidate_tower
        vectors = [tower.read(texts, languages, training), tower.embed_text(labels, training)]
        shape = tf.stack([tf.size(typed), self.config.dimension])
        places = tf.cast(tf.concat([by_item, by_label], axis=0), tf.int32)
        return tf.scatter_nd(places, tf.concat(vectors, axis=0), shape)

    def _negatives(self) -> tf.Tensor:
        """Rows of the items shared as negatives by a batch's requests, int32 [U]; all training items for `full`."""
        trained = self._trained_rows.value
        if self.config.retrieval.softmax == "full":
            return trained
        draws = tf.random.uniform([self.config.retrieval.uniform_negatives], 0, tf.size(trained), tf.int32)
        return tf.gather(trained, draws)

    def _expected_counts(self, rows: tf.Tensor, batch_size: tf.Tensor) -> tf.Tensor | None:
        """Expected count of each candidate among a batch's candidates, relative to the most frequent one.

        The Q of the logQ correction for a mixture: B draws by popularity and U uniform ones (Yang
        et al., 2020, doi 10.1145/3366424.3386195). TFRS clips Q to [1e-6, 1], which would leave
        every item that is expected more than once uncorrected; a common factor doesn't change the softmax,
        so the largest is scaled to 1.
        """
        if not self.config.retrieval.log_q_correction:
            return None
        counts = self._item_counts.value
        popularity = tf.gather(counts, rows) / tf.reduce_sum(counts)
        by_batch = tf.cast(batch_size, tf.float32) * popularity
        uniform = self.config.retrieval.uniform_negatives / tf.size(self._trained_rows.value)
        expected = by_batch + tf.cast(uniform, tf.float32)
        return expected / tf.reduce_max(expected)

    def _sampled_ranking_loss(
        self, positives: Batch, queries: tf.Tensor, candidates: tf.Tensor, rows: tf.Tensor, own: tf.Tensor
    ) -> tf.Tensor:
        """Ranking loss of each positive against a few of the batch's candidates, for every binary head."""
        size = tf.shape(queries)[0]
        count = self.config.ranking.negatives
        picked = tf.random.uniform([size, count], 0, tf.size(rows), tf.int32)
        places = tf.concat([own[:, tf.newaxis], picked], axis=1)
        outputs = self.ranking_model(queries, tf.gather(candidates, places))
        accidental = tf.gather(rows, picked) == positives["item"][:, tf.newaxis]
        binary = tf.constant([head.kind == "binary" for head in self.heads])
        zeros = tf.where(binary & ~accidental[..., tf.newaxis], 0.0, np.nan)
        labels = tf.concat([positives["labels"][:, tf.newaxis, :], zeros], axis=1)
        return self.ranking_model.loss(outputs, labels)


def _request(batch: Batch) -> RequestBatch:
    """The request alone, which all batches of a step have."""
    return RequestBatch(
        user=batch["user"],
        features=batch["features"],
        history=batch["history"],
        timestamp=batch["timestamp"],
        text=batch["text"],
    )


def make_fusion(config: ModelConfig, vocabulary: Vocabulary, items: ItemTable) -> Fusion:
    """The scorers that a config adds to the towers."""
    known = len(vocabulary.items)
    rank = linear_rank(config.linear, len(vocabulary.users), known)
    content = config.content
    return Fusion(
        config.dimension,
        linear=LinearScorer(known, rank, name="linear") if rank else None,
        content=ContentSimilarity(
            items.content.shape[1],
            content.recency,
            rank=content.metric_rank if content.metric == "users" else 0,
            name="content",
        )
        if content.enabled
        else None,
        popularity=Popularity(known, name="popularity") if config.candidate.popularity else None,
    )


class _Untracked(Generic[_Value]):
    """Wraps a value that belongs to the catalogue instead of the model's weights."""

    def __init__(self, value: _Value) -> None:
        self.value = value
