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
from trainer.models.fusion import make_fusion
from trainer.models.ranking import RankingModel
from trainer.models.replicas import Replicas, StepMean
from trainer.models.settings import ModelConfig
from trainer.models.transitions import TRANSITIONS, Transitions
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
        followed = config.ranking.transitions
        self.transitions = Transitions(len(vocabulary.items), followed) if followed.successors else None
        self.retrieval_task = tfrs.tasks.Retrieval(
            loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.SUM),
            temperature=config.retrieval.temperature,
            num_hard_negatives=config.retrieval.hard_negatives,
            remove_accidental_hits=True,
        )
        self._retrieval_loss = StepMean(name="retrieval_loss")
        self._ranking_loss = StepMean(name="ranking_loss")
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
    def signals(self) -> list[str]:
        """Names of what the ranking stage adds to the retrieval score: the heads, and further signals."""
        return [*(head.name for head in self.heads), *([TRANSITIONS] if self.transitions is not None else [])]

    @property
    def tables(self) -> list[tf.Variable]:
        """Vectors of ids, [values + 1, D] each: a step reads and changes a few of their rows."""
        return [layer.table for layer in self.submodules if isinstance(layer, IdEmbedding)]

    def add_terms(self, terms: FurtherTerms) -> None:
        """Adds losses to those of the two tasks, in training only."""
        self._terms.value = terms
        self._further_loss = StepMean(name="further_loss")

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
        """Weighted sum of the retrieval and the ranking loss of one training batch.

        With several replicas (`trainer.models.replicas`) each is given its share of the batch, and returns what that
        contributes: the sum over the replicas is the loss that one replica has on the whole batch.
        """
        positives, observed = inputs["positives"], inputs["observed"]
        replicas = Replicas.here()
        full = self.config.retrieval.softmax == "full"
        negatives = self._trained_rows.value if full else inputs["negatives"]
        histories = tf.concat([positives["history"], observed["history"]], axis=0)
        share = replicas.share(negatives)
        wanted = [tf.reshape(tf.maximum(histories, 0), [-1]), positives["item"], observed["item"], share]
        # Each distinct item passes through its tower once.
        rows, places = tf.unique(tf.concat(wanted, axis=0))
        features = self.items(rows, training)
        in_history, positive, seen, negative = tf.split(places, [tf.size(part) for part in wanted])
        in_history = tf.reshape(in_history, tf.shape(histories))
        size = tf.shape(positives["item"])[0]
        # Place of each request's own item among the candidates: as in the whole batch, or among all.
        first = replicas.index * size
        own = tf.gather(self._trained_places.value, positives["item"]) if full else first + tf.range(size)
        candidate_rows = negatives if full else tf.concat([inputs["items"], negatives], axis=0)

        def candidates_of(vectors: tf.Tensor) -> tf.Tensor:
            parts, totals = [tf.gather(vectors, negative)], [tf.size(negatives)]
            if not full:
                parts, totals = [tf.gather(vectors, positive), *parts], [tf.size(inputs["items"]), *totals]
            return tf.concat(replicas.gather(parts, totals), axis=0)

        def queries_and_candidates(vectors: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
            queries = self.query_vectors(positives, self.items, vectors, in_history[:size], training)
            return queries, candidates_of(vectors)

        def retrieval_loss(queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
            if full:
                logits = tf.matmul(queries, candidates, transpose_b=True) / self.config.retrieval.temperature
                return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=own, logits=logits))
            rows = candidate_rows
            if replicas.count > 1:
                # The task takes the first candidates for the requests' own.
                rows, candidates = (tf.roll(each, -first, axis=0) for each in (rows, candidates))
            total = self.retrieval_task(
                queries,
                candidates,
                candidate_sampling_probability=self._expected_counts(rows, tf.size(inputs["items"])),
                candidate_ids=rows,
                compute_metrics=False,
            )
            return total / tf.cast(size, total.dtype)

        vectors = self.candidate_tower(features, training=training)
        if self.heads:
            # Both in one pass: each operation has a cost of its own.
            both = tf.nest.map_structure(
                lambda *parts: tf.concat(parts, axis=0), _request(positives), _request(observed)
            )
            queries = self.query_vectors(both, self.items, vectors, in_history, training)
            queries, of_observed = queries[:size], queries[size:]
            candidates = candidates_of(vectors)
            picked = tf.concat([own[:, tf.newaxis], inputs["picked"]], axis=1)
            sampled = self._sampled_ranking_loss(positives, queries, candidates, candidate_rows, picked, replicas)
            outputs = self.ranking_model(of_observed, tf.gather(vectors, seen)[:, tf.newaxis, :])
            ranking = sampled + self.ranking_model.loss(outputs[:, 0], observed["labels"], replicas)
        else:
            queries, candidates = queries_and_candidates(vectors, training)
            ranking = tf.zeros([])
        retrieval = replicas.part_of_mean(retrieval_loss(queries, candidates))
        losses = {self._retrieval_loss: retrieval, self._ranking_loss: ranking}
        total = self.config.retrieval.loss_weight * retrieval + self.config.ranking.loss_weight * ranking
        terms = self._terms.value
        if training and terms is not None:
            further = terms(TrainingStep(features, vectors, queries_and_candidates, retrieval_loss))
            losses[self._further_loss] = replicas.part_of_mean(further)
            total += losses[self._further_loss]
        for metric, value in zip(losses, tf.unstack(replicas.total(tf.stack(list(losses.values())))), strict=True):
            metric.update_state(value)
        return total

    def train_step(self, inputs: TrainingBatch) -> dict[str, tf.Tensor]:
        """TFRS's step; reports the loss and its two parts, of the whole batch."""
        metrics = super().train_step(inputs)
        metrics["loss"] = Replicas.here().total(metrics["loss"])
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
        self,
        positives: Batch,
        queries: tf.Tensor,
        candidates: tf.Tensor,
        rows: tf.Tensor,
        places: tf.Tensor,
        replicas: Replicas,
    ) -> tf.Tensor:
        """Ranking loss of each positive against a few of the step's candidates, for every binary head.

        ``places``: int32 [B, 1 + negatives] among the candidates, a request's own item first.
        """
        outputs = self.ranking_model(queries, tf.gather(candidates, places))
        accidental = tf.gather(rows, places[:, 1:]) == positives["item"][:, tf.newaxis]
        binary = tf.constant([head.kind == "binary" for head in self.heads])
        zeros = tf.where(binary & ~accidental[..., tf.newaxis], 0.0, np.nan)
        labels = tf.concat([positives["labels"][:, tf.newaxis, :], zeros], axis=1)
        return self.ranking_model.loss(outputs, labels, replicas)


def _request(batch: Batch) -> RequestBatch:
    """The request alone, which all batches of a step have."""
    return RequestBatch(
        user=batch["user"],
        features=batch["features"],
        history=batch["history"],
        timestamp=batch["timestamp"],
        text=batch["text"],
    )


class _Untracked(Generic[_Value]):
    """Wraps a value that belongs to the catalogue instead of the model's weights."""

    def __init__(self, value: _Value) -> None:
        self.value = value
