"""A linear item-item model in addition to the towers, in the same vectors.

The towers compress what they learn about items and users into one vector each; a linear model of item co-occurrence
(EASE, Steck, 2019, arXiv 1905.03375) keeps the detail that they blur and has a closed form. Its weights, made
symmetric and truncated to the largest eigenvalues, are dot products of item vectors: these are appended to the items'
vectors, and their sum over the history to the request's, so that a single index serves both models (late fusion).
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse
import tensorflow as tf

from trainer.data.item_table import ItemFeatures, ItemTable
from trainer.data.user_items import UserItems
from trainer.models.settings import LinearConfig
from trainer.scorers.base import Scorer, known_or_means
from trainer.scorers.spectrum import USERS, Spectrum, largest

_Floats = npt.NDArray[np.float32]
# The closed form inverts an items x items matrix, which takes cubic time; a larger one is approximated.
EXACT_ITEMS: Final = 6_000
# With `rank: auto`, larger catalogues do without.
_AUTO_ITEMS: Final = EXACT_ITEMS
# Eigenvalues of the co-occurrences that the approximation takes, for each direction kept.
_COMPONENTS: Final = 2
_AUTO_RANKS: Final = (128, 512)
# Computing all eigenvalues of a matrix of this size is fast.
_SMALL: Final = 500
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
    items is -P_ij / sqrt(P_ii P_jj), their partial correlation; self-similarity is left out. Items without positives
    have none and take no part. From 6,000 items on, the similarity is approximated by the 2 R largest eigenvalues of
    X'X (`trainer.scorers.spectrum`).

    Args:
        histories: Users' items, indices below ``size``.
        size: V.
        rank: R; the largest eigenvalues by magnitude are kept, padded with zeros if V is smaller.
        regularization: Shrinkage, in positives per item.

    Returns:
        Vectors float32 [V, R] and signs float32 [R]. They are scaled so that the scores of the given users, for all
        items, have standard deviation 1.
    """
    matrix = choices(histories, size)
    chosen = np.unique(histories.items)
    table, signs = np.zeros((size, rank)), np.ones(rank)
    kept = min(rank, len(chosen))
    if kept:
        values, vectors = _eigenpairs(matrix[:, chosen], regularization, kept)
        first = np.argsort(-np.abs(values), kind="stable")[:kept]
        table[chosen, :kept] = vectors[:, first] * np.sqrt(np.abs(values[first]))
        signs[:kept] = np.sign(values[first])
    deviation = _Moments.of(matrix, table, signs).deviation(table)
    return (table / np.sqrt(max(deviation, 1e-9))).astype(np.float32), signs.astype(np.float32)


def partial_correlations(matrix: scipy.sparse.csr_array, regularization: float) -> npt.NDArray[np.float64]:
    """Item similarity that `fit_linear` truncates to its rank: users x items [U, V] -> [V, V], 0 on the diagonal."""
    size = matrix.shape[1]
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


def spectrum(matrix: scipy.sparse.csr_array, rank: int) -> Spectrum:
    """What the similarity of more than 6,000 items is approximated by, for a model of this rank."""
    return Spectrum.of(matrix, _COMPONENTS * rank)


def _eigenpairs(
    matrix: scipy.sparse.csr_array, regularization: float, count: int
) -> tuple[npt.NDArray[np.floating], ...]:
    """Eigenvalues and vectors of the items' similarity, at least the ``count`` largest by magnitude."""
    size = matrix.shape[1]
    if size > EXACT_ITEMS:
        return spectrum(matrix, count).partial_correlations(regularization).eigenpairs()
    exact = partial_correlations(matrix, regularization)
    if size < _SMALL or 4 * count > size:
        return tuple(scipy.linalg.eigh(exact))
    return largest(lambda other: exact @ other, size, count, np.float64, spare=count // 2)


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
    users = _Moments.of(choices(histories, len(table)), table, signs)
    own, placed = (users.sum_of_squares(each) for each in (table, means))
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
    return float(np.sqrt(np.sum((histories.T @ histories) * (apart.T @ apart)))) / max(len(vectors), 1)


def choices(histories: UserItems, size: int) -> scipy.sparse.csr_array:
    """User-item matrix [U, V]: 1 if a user has an item."""
    items = histories.items
    return scipy.sparse.csr_array((np.ones(len(items)), items, histories.indptr), shape=(len(histories), size))


class _Moments(NamedTuple):
    """Moments of `LinearScorer.queries` of U users' items with factor 1, for dot products of all without [U, V].

    Attributes:
        users: U.
        sums: Float64 [R].
        squares: Float64 [R, R], sum of the outer products.
    """

    users: int
    sums: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls, choices: scipy.sparse.csr_array, table: npt.NDArray[np.floating], signs: npt.NDArray[np.floating]
    ) -> "_Moments":
        """Of users x items [U, V], for vectors [V, R] and signs [R]."""
        users, rank = choices.shape[0], table.shape[1]
        signed = table * signs
        sums, squares = np.zeros(rank), np.zeros((rank, rank))
        for start in range(0, users, USERS):
            part = choices[start : start + USERS]
            counts = np.maximum(np.diff(part.indptr), 1)
            vectors = (part @ signed) / np.sqrt(counts)[:, np.newaxis]
            sums += vectors.sum(axis=0)
            squares += vectors.T @ vectors
        return cls(users, sums, squares)

    def sum_of_squares(self, vectors: npt.NDArray[np.floating]) -> float:
        """Of all dot products with [V, R]."""
        exact = vectors.astype(np.float64)
        return float(np.sum(self.squares * (exact.T @ exact)))

    def deviation(self, vectors: npt.NDArray[np.floating]) -> float:
        """Standard deviation of all dot products with [V, R]."""
        count = max(self.users * len(vectors), 1)
        mean = float(self.sums @ vectors.sum(axis=0)) / count
        return float(np.sqrt(max(self.sum_of_squares(vectors) / count - mean**2, 0.0)))
