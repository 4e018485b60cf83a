"""Teaches a finished model to read typed wishes; the towers stay as they are.

Nothing that a request without text is answered by changes, so collaborative quality is the same to the last digit.
"""

import logging

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config import WishesConfig
from trainer.errors import BabelrecError
from trainer.models.recommender import Recommender
from trainer.models.requests import typed_queries
from trainer.towers.items import ItemTable

_LOG = logging.getLogger(__name__)


def tune_wishes(
    model: Recommender, items: ItemTable, item_counts: npt.NDArray[np.float32], config: WishesConfig, seed: int
) -> float:
    """Trains `trainer.towers.wishes.WishReader` of a model whose other weights are final.

    Examples are names of categories, blurred by noise and by some item's text, and items' own texts. A name is
    answered by the items of its category in proportion to their training positives, a text by its item; the loss is
    the cross-entropy of the softmax over the whole catalogue.

    Args:
        model: With ``model.wishes.enabled`` and a frozen encoder.
        items: The catalogue that was trained on, N items.
        item_counts: Float32 [N], training positives of each item.
        config: Steps, rate and noise.
        seed: Of everything that is drawn.

    Returns:
        The last step's loss.

    Raises:
        BabelrecError: the model has no reader, or no category has a training positive.
    """
    reader = model.query_tower.wishes
    if reader is None:
        raise BabelrecError("The model reads no wishes. Set model.wishes.enabled: true.")
    examples = _Examples(items, item_counts, config, seed)
    vectors = tf.transpose(model.candidate_vectors(items))
    # Not `trainable_weights`: the reader is frozen for everybody else.
    weights = reader.learned
    rate = tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    optimizer = tf.keras.optimizers.Adam(rate)
    temperature = model.config.retrieval.temperature

    @tf.function
    def step(sentences: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            queries = typed_queries(model, sentences, training=True)
            logits = tf.matmul(queries, vectors) / temperature
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(answers, logits))
            total = loss + config.l2 * reader.penalty()
        optimizer.apply_gradients(zip(tape.gradient(total, weights), weights, strict=True))
        return loss

    loss = np.nan
    for _ in range(config.steps):
        sentences, answers = examples.draw()
        loss = float(step(tf.constant(sentences), tf.constant(answers)))
    if not np.isfinite(loss):
        raise BabelrecError("The loss of the wishes is not finite. Lower model.wishes.learning_rate.")
    titles = reader.title_logits(items.texts)[:, 0].numpy()
    reader.shift.assign(np.quantile(titles, 1.0 - config.titles_kept))
    _LOG.info("Wishes: %d steps, loss %.3f.", config.steps, loss)
    return loss


class _Examples:
    """Draws typed texts with the distribution over items that answers each."""

    def __init__(self, items: ItemTable, item_counts: npt.NDArray[np.float32], config: WishesConfig, seed: int) -> None:
        self._config = config
        self._draws = np.random.default_rng(seed)
        self._texts = items.texts.numpy()
        self._names, self._splits = items.names
        rows = items.catalogue.categories
        has = np.zeros((len(self._splits) - 1, items.size), np.float32)
        where = np.nonzero(rows >= 0)
        has[rows[where], where[0]] = 1.0
        likely = has * item_counts
        self._labels = np.flatnonzero(likely.sum(axis=1) > 0)
        self._trained = np.flatnonzero(item_counts > 0)
        if not len(self._labels):
            raise BabelrecError("No category has a training positive. Set model.wishes.enabled: false.")
        self._answers = likely / np.maximum(likely.sum(axis=1, keepdims=True), 1e-9)

    def draw(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Sentence vectors [B, T] and answers [B, N]."""
        config, draws = self._config, self._draws
        titles = draws.choice(self._trained, round(config.batch_size * config.titles))
        labels = draws.choice(self._labels, config.batch_size - len(titles))
        first, end = self._splits[labels], self._splits[labels + 1]
        names = self._names[draws.integers(first, end)]
        others = self._texts[draws.integers(0, len(self._texts), len(names))]
        names = names + draws.uniform(0.0, config.mixing, (len(names), 1)) * others
        names /= np.maximum(np.linalg.norm(names, axis=1, keepdims=True), 1e-9)
        sentences = np.concatenate([self._texts[titles], names])
        sentences += draws.normal(0.0, config.noise / np.sqrt(sentences.shape[1]), sentences.shape)
        answers = np.concatenate([np.zeros((len(titles), len(self._texts)), np.float32), self._answers[labels]])
        answers[np.arange(len(titles)), titles] = 1.0
        return sentences.astype(np.float32), answers.astype(np.float32)
