"""Baselines that read a history in its order: item-kNN that counts the newest items most, and GRU4Rec."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from benchmarks.baselines.neighbours import KnnSettings, similarity
from benchmarks.baselines.problem import Histories, Problem
from benchmarks.baselines.settings import Baseline
from trainer.config.base import Settings
from trainer.evaluation.metrics.ranking import BlockScorer

_BLOCK = 512


class RecentKnnSettings(KnnSettings):
    """Settings of item-kNN, and the decay: an item followed by n newer ones counts (1 + n)^-decay."""

    decay: float


class Gru4RecSettings(Settings):
    """Settings of GRU4Rec (Hidasi et al., 2016, arXiv 1511.06939), with a sampled softmax and tied item vectors."""

    dimension: int = 64
    epochs: int
    dropout: float = 0.2
    learning_rate: float = 3e-3
    max_len: int = 20
    batch_size: int = 256
    samples: int = 1024


def _recent_knn(problem: Problem, settings: RecentKnnSettings, seed: int) -> BlockScorer:
    neighbours = similarity(problem, settings)
    histories = problem.evaluated
    ends = np.repeat(histories.indptr[1:], np.diff(histories.indptr))
    newer = ends - 1 - np.arange(len(histories.items))
    weights = (1.0 + newer) ** -settings.decay
    weighted = sparse.csr_matrix(
        (weights, histories.items, histories.indptr), shape=(len(histories), histories.num_items)
    )
    return lambda block: (weighted[block] @ neighbours).toarray()


def _newest(histories: Histories, users: npt.NDArray[np.int64] | range, length: int) -> npt.NDArray[np.int64]:
    """The newest items, [users, length], numbered from 1, zeros before them."""
    rows = np.zeros((len(users), length), np.int64)
    for row, user in zip(rows, users, strict=True):
        items = histories.of_user(int(user))[-length:]
        row[length - len(items) :] = items + 1
    return rows


def _gru4rec(problem: Problem, settings: Gru4RecSettings, seed: int) -> BlockScorer:
    import tensorflow as tf

    keras = tf.keras
    keras.utils.set_random_seed(seed)
    items, size = problem.learners.num_items, settings.dimension
    table = keras.layers.Embedding(items + 1, size, mask_zero=True)
    inputs = keras.Input((None,), dtype=tf.int64)
    states = keras.layers.Dropout(settings.dropout)(table(inputs))
    states = keras.layers.GRU(size, return_sequences=True)(states)
    network = keras.Model(inputs, keras.layers.Dense(size)(states))
    bias = tf.Variable(tf.zeros([items + 1]))
    # Sampling without replacement needs a chance for every item.
    chances = ((np.bincount(problem.learners.items + 1, minlength=items + 1) + 1.0) ** 0.75).tolist()
    samples = min(settings.samples, items // 2)
    optimizer = keras.optimizers.Adam(settings.learning_rate)
    weights = [*network.trainable_variables, bias]

    @tf.function(reduce_retracing=True)
    def step(rows: tf.Tensor) -> None:
        given, wanted = rows[:, :-1], rows[:, 1:]
        with tf.GradientTape() as tape:
            there = (given > 0) & (wanted > 0)
            labels = tf.boolean_mask(wanted, there)[:, tf.newaxis]
            drawn = tf.random.fixed_unigram_candidate_sampler(labels, 1, samples, True, items + 1, unigrams=chances)
            states = tf.boolean_mask(network(given, training=True), there)
            losses = tf.nn.sampled_softmax_loss(
                table.embeddings, bias, labels, states, samples, items + 1, sampled_values=drawn
            )
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    lengths = np.diff(problem.learners.indptr)
    users = np.flatnonzero(lengths > 1)
    rows = _newest(problem.learners, users, settings.max_len + 1)
    order = np.random.default_rng(seed)
    for _ in range(settings.epochs):
        shuffled = rows[order.permutation(len(rows))]
        for start in range(0, len(rows), settings.batch_size):
            step(tf.constant(shuffled[start : start + settings.batch_size]))
    vectors, biases = table.embeddings.numpy()[1:], bias.numpy()[1:]
    histories = problem.evaluated
    states = np.concatenate(
        [
            network(_newest(histories, range(start, min(start + _BLOCK, len(histories))), settings.max_len)).numpy()[
                :, -1
            ]
            for start in range(0, len(histories), _BLOCK)
        ]
    )
    return lambda block: states[block] @ vectors.T + biases


RECENT_KNN = Baseline("item-kNN, newest first", RecentKnnSettings, _recent_knn, seeded=False)
GRU4REC = Baseline("GRU4Rec", Gru4RecSettings, _gru4rec)
