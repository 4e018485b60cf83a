"""A linear item-item model in addition to the towers, in the same vectors.

The towers compress what they learn about items and users into one vector each; a linear model of item co-occurrence
(EASE, Steck, 2019, arXiv 1905.03375) keeps the detail that they blur and has a closed form. Its weights, made
symmetric and truncated to the largest eigenvalues, are dot products of item vectors: these are appended to the items'
vectors, and their sum over the history to the request's, so that a single index serves both models (late fusion).
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse
import tensorflow as tf

from trainer.data.item_table import ItemFeatures, ItemTable
from trainer.data.user_items import UserItems
from trainer.errors import BabelrecError
from trainer.models.settings import LinearConfig
from trainer.scorers.base import Scorer, known_or_means

_Floats = npt.NDArray[np.float32]
# The closed form inverts an items x items matrix; beyond this it takes many minutes and gigabytes.
_LARGEST: Final = 20_000
# With `rank: auto`, larger catalogues do without: the inverse takes cubic time in the number of items.
_AUTO_ITEMS: Final = 6_000
_AUTO_RANKS: Final = (128, 512)
# Computing all eigenvalues of a matrix of this size is fast.
_SMALL: Final = 500
# Power iterations on the subspace; each reduces the contribution of the smaller eigenvalues.
_POWER: Final = 8
# Used if nothing could be measured: the best or second best on each data set tried.
DEFAULT_REGULARIZATION: Final = 300.0


def linear_rank(config: LinearConfig, users: int, items: int) -> int:
    """Rank of the linear model for this many known users and items; 0: no model.

    ``auto`` uses an eighth of the smaller of the two: data from few users has few independent directions, while
    many users and items lose quality at a low rank.
    """
    if config.rank != "auto":
        return config.rank
    if items > _AUTO_ITEMS:
        return 0
    least, most = _AUTO_RANKS
    return min(items, most, max(least, min(users, items) // 8))


class LinearScorer(Scorer):
    """Items: vectors of the linear model. Requests: the signed sum of the history's n vectors, divided by sqrt(n).

    An unknown item has its neighbours' mean, or zero if the model doesn't use neighbours.

    Args:
        size: Number of known items V.
        rank: R, the size of the vectors.
    """

    def __init__(self, size: int, rank: int, *, name: str) -> None:
        super().__init__(name=name)
        self.width = rank
        # Saved with the model, so that they need not be solved for again; index 0 is "unknown".
        self.table = tf.Variable(tf.zeros([size + 1, rank]), trainable=False, name="table")
        # Compensates for means of neighbours being shorter than what they replace.
        self.stretch = tf.Variable(1.0, trainable=False, name="stretch")
        # Signs of the eigenvalues: one side of the dot product must apply them.
        self.signs = tf.Variable(tf.ones([rank]), trainable=False, name="signs")
        self.factor = tf.Variable(0.0, trainable=False, name="factor")

    def items(self, features: ItemFeatures, ids: tf.Tensor) -> tf.Tensor:
        """See `Scorer.items`."""
        return known_or_means(self.table, features, ids, self.stretch)

    def queries(self, towers: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """See `Scorer.queries`."""
        there = tf.cast(mask, tf.float32)
        total = tf.einsum("bh,bhr->br", there, history)
        count = tf.maximum(tf.reduce_sum(there, axis=1, keepdims=True), 1.0)
        return self.factor * self.signs * total / tf.sqrt(count)

    def fit(self, histories: UserItems, items: ItemTable, *, regularization: float, new_items: float) -> None:
        """Solves for the vectors.

        Args:
            histories: Training positives, as indices of the known items from 0.
            items: The catalogue that they are of.
            regularization: See `fit_linear`.
            new_items: Scale of unknown items' scores relative to known items'.
        """
        known = int(self.table.shape[0]) - 1
        table, signs = fit_linear(histories, known, rank=self.width, regularization=regularization)
        self.table.assign(np.concatenate([np.zeros((1, self.width), np.float32), table]))
        self.signs.assign(signs)
        ids = items.ids.numpy()
        if items.neighbours.items.shape[1]:
            means = np.zeros_like(table)
            means[ids[ids > 0] - 1] = items.neighbours.at(ids > 0).matrix(known) @ table
            self.stretch.assign(new_items * stretch_of_means(table, signs, histories, means))

    def adapt_to(self, items: ItemTable) -> None:
        """For a catalogue without known items, whose items compete with no known one: `new_items` does not apply."""
        if np.any(items.ids.numpy()) or not items.neighbours.items.shape[1]:
            return
        known = self.table.numpy()[1:]
        means = items.neighbours.matrix(len(known)) @ known
        self.stretch.assign(stretch_of_unknown_items(known, self.signs.numpy(), means))


def fit_linear(histories: UserItems, size: int, *, rank: int, regularization: float) -> tuple[_Floats, _Floats]:
    """Solves for the vectors.

    With X the users x items matrix and P = (X'X + regularization I)^-1 (Steck, 2019, eq. 8), the similarity of two
    items is -P_ij / sqrt(P_ii P_jj), their partial correlation; self-similarity is left out.

    Args:
        histories: Users' items, indices below ``size``.
        size: V.
        rank: R; the largest eigenvalues by magnitude are kept, padded with zeros if V is smaller.
        regularization: Shrinkage, in positives per item.

    Returns:
        Vectors float32 [V, R] and signs float32 [R]. They are scaled so that the scores of the given users, for all
        items, have standard deviation 1.

    Raises:
        BabelrecError: more than 20,000 items.
    """
    kept = min(rank, size)
    matrix = choices(histories, size)
    similarity = partial_correlations(matrix, regularization)
    values, vectors = _largest(similarity, kept)
    largest = np.argsort(-np.abs(values), kind="stable")[:kept]
    found = vectors[:, largest] * np.sqrt(np.abs(values[largest]))
    signs = np.sign(values[largest])
    deviation = _deviation(_histories(matrix, found, signs), found)
    table = np.zeros((size, rank), np.float32)
    table[:, :kept] = found / np.sqrt(max(deviation, 1e-9))
    return table, np.concatenate([signs, np.ones(rank - kept)]).astype(np.float32)


def partial_correlations(matrix: scipy.sparse.csr_array, regularization: float) -> npt.NDArray[np.float64]:
    """Item similarity that `fit_linear` truncates to its rank: users x items [U, V] -> [V, V], 0 on the diagonal.

    Raises:
        BabelrecError: more than 20,000 items.
    """
    size = matrix.shape[1]
    if size > _LARGEST:
        raise BabelrecError(
            f"model.linear solves for {size:,} x {size:,} weights; it supports up to {_LARGEST:,} items. "
            "Disable it with model.linear.rank=0."
        )
    gram = (matrix.T @ matrix).toarray()
    gram[np.diag_indices(size)] += regularization
    # By Cholesky, at half the cost of a general inverse.
    factor = scipy.linalg.cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    lower, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    scale = np.sqrt(np.diag(inverse))
    similarity: npt.NDArray[np.float64] = -inverse / np.outer(scale, scale)
    np.fill_diagonal(similarity, 0.0)
    return similarity


def _largest(similarity: npt.NDArray[np.float64], count: int) -> tuple[npt.NDArray[np.float64], ...]:
    """Eigenvalues and vectors of a symmetric matrix, at least the ``count`` largest by magnitude.

    For a large matrix they come from a random subspace that is multiplied by it several times (Halko et al., 2011,
    arXiv 0909.4061, algorithm 4.4): a few matrix products instead of a decomposition that takes minutes for some
    thousand items.
    """
    size = len(similarity)
    if size < _SMALL or 4 * count > size:
        return tuple(scipy.linalg.eigh(similarity))
    basis = np.random.default_rng(0).normal(size=(size, count + count // 2))
    for _ in range(_POWER):
        basis, _ = np.linalg.qr(similarity @ basis)
    values, inner = scipy.linalg.eigh(basis.T @ similarity @ basis)
    return values, basis @ inner


def stretch_of_means(
    table: _Floats,
    signs: _Floats,
    histories: UserItems,
    means: _Floats,
) -> float:
    """Average ratio of known items' scores to those that their neighbours would give them.

    An item not seen in training has the mean of its neighbours' vectors. Means are short, so next to known items
    it would never be recommended. Placing each known item by its neighbours, as if unknown, gives the factor.

    Args:
        table, signs: Vectors float32 [V, R] and signs float32 [R], from `fit_linear`.
        histories: Users' items, as passed to it.
        means: Float32 [V, R], what each known item would have from the others.

    Returns:
        Ratio of the two root mean squares of the users' scores; 1 if there are no scores.
    """
    vectors = _histories(choices(histories, len(table)), table, signs)
    own, placed = (_sum_of_squares(vectors, each) for each in (table, means))
    return float(np.sqrt(own / placed)) if own > 0.0 and placed > 0.0 else 1.0


def stretch_of_unknown_items(table: _Floats, signs: _Floats, means: _Floats) -> float:
    """Scale of the vectors of an unknown catalogue's items that gives scores as large as known items'.

    The less similar its items are to the known ones (another language, another market), the more their neighbours'
    means are blurred. Without the factor, the weight of the linear model relative to the towers and the content would
    depend on that. A catalogue has no users yet, so each item alone is a history, weighted by how much it separates
    the items: the standard deviation of its scores.

    Args:
        table, signs: Vectors float32 [V, R] and signs float32 [R], from `fit_linear`.
        means: Float32 [N, R], the neighbours' means for the catalogue's items.

    Returns:
        The factor for ``means``; 1 if they or the known items have no spread.
    """
    known, strange = (_spread(np.asarray(each, np.float64), signs) for each in (table, means))
    # Both sides of a dot product are scaled.
    return float(np.sqrt(known / strange)) if known > 0.0 and strange > 0.0 else 1.0


def _spread(vectors: npt.NDArray[np.float64], signs: _Floats) -> float:
    """Root mean square, over histories of one item, of the standard deviation of all items' scores."""
    histories = vectors * signs
    apart = vectors - vectors.mean(axis=0)
    return float(np.sqrt(_sum_of_squares(histories, apart))) / max(len(vectors), 1)


def choices(histories: UserItems, size: int) -> scipy.sparse.csr_array:
    """User-item matrix [U, V]: 1 if a user has an item."""
    items = histories.items
    return scipy.sparse.csr_array((np.ones(len(items)), items, histories.indptr), shape=(len(histories), size))


def _histories(
    choices: scipy.sparse.csr_array, table: npt.NDArray[np.floating], signs: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """[U, R]: `LinearScorer.queries` of each user's items, with factor 1."""
    counts = np.maximum(np.diff(choices.indptr), 1)
    means: npt.NDArray[np.float64] = (choices @ (table * signs)) / np.sqrt(counts)[:, np.newaxis]
    return means


def _deviation(histories: npt.NDArray[np.float64], vectors: npt.NDArray[np.float64]) -> float:
    """Standard deviation of all dot products of [U, R] and [V, R]."""
    count = len(histories) * len(vectors)
    mean = float(histories.sum(axis=0) @ vectors.sum(axis=0)) / count
    return float(np.sqrt(max(_sum_of_squares(histories, vectors) / count - mean**2, 0.0)))


def _sum_of_squares(histories: npt.NDArray[np.floating], vectors: npt.NDArray[np.floating]) -> float:
    """Sum of squares of all dot products of [U, R] and [V, R], from their moments, without [U, V] in memory."""
    first, second = (each.astype(np.float64) for each in (histories, vectors))
    return float(np.sum((first.T @ first) * (second.T @ second)))
