"""A metric of content in closed form: what a person's items have in common counts, what tells them apart doesn't.

All directions of a sentence vector count alike in a cosine, though some separate what different people choose and
others only one title from the next. With C the covariance of two different items of one user and T that of an item with
itself, T - C is the scatter within users' sets; the generalised eigenvectors C v = l (T - C) v are the directions in
which sets differ most in relation to it (Fisher's discriminants, as in within-class covariance normalisation: Hatch et
al., 2006, Interspeech, section 3). It takes one eigenproblem of the vectors' size, whatever the number of items.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse

from trainer.data.user_items import UserItems

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]
# Users at a time: sums of their items' vectors take 64 MiB for vectors of 512 numbers.
_USERS: Final = 1 << 15
# Power of the eigenvalues in the similarity; 1 lets few directions decide, 0 whitens without any preference.
_POWER: Final = 0.5


def metric_of_users(vectors: _Floats, histories: UserItems, *, shrinkage: float, rank: int) -> _Floats:
    """Projection after which a cosine compares items as their users do.

    Users count alike, however many items they have.

    Args:
        vectors: Float32 [N, T], centred sentence vectors of the items.
        histories: Users' items, as rows of ``vectors``.
        shrinkage: Added to the scatter within sets in every direction, in units of the items' mean variance.
        rank: R, number of directions kept.

    Returns:
        Float32 [T, R]. Without users of several items, or when their items have nothing in common, the principal
        directions of ``vectors``, which preserve the cosine as well as R directions can.
    """
    total, between = _covariances(vectors, histories)
    width = len(total)
    found = np.zeros((width, rank), np.float32)
    kept = min(rank, width)
    scale = np.trace(total) / width
    if scale > 0.0:
        within = total - between + shrinkage * scale * np.eye(width)
        values, directions = _largest(between, within, kept)
        if values[0] > 0.0:
            found[:, :kept] = directions * (np.maximum(values, 0.0) / values[0]) ** (_POWER / 2)
            return found
    gram = (vectors.T @ vectors).astype(np.float64)
    found[:, :kept] = _largest(gram, np.eye(width), kept)[1]
    return found


def _largest(matrix: _Doubles, other: _Doubles, count: int) -> tuple[_Doubles, _Doubles]:
    """Generalised eigenvalues [R], largest first, and vectors [T, R] of symmetric matrices."""
    values, vectors = scipy.linalg.eigh(matrix, other, subset_by_index=[len(matrix) - count, len(matrix) - 1])
    return values[::-1], vectors[:, ::-1]


def _covariances(vectors: _Floats, histories: UserItems) -> tuple[_Doubles, _Doubles]:
    """Covariance [T, T] of an item with itself, and of two different items of one user; zero if there are none.

    Both are averages over users of several items, about the mean of their items.
    """
    sizes = histories.sizes()
    several = histories.at(np.flatnonzero(sizes > 1))
    width = vectors.shape[1]
    if not len(several):
        return np.zeros((width, width)), np.zeros((width, width))
    sizes = several.sizes()
    shares = np.bincount(several.items, np.repeat(1.0 / sizes, sizes), len(vectors)) / len(several)
    mean = shares @ vectors
    apart = (vectors - mean).astype(np.float32)
    total = (apart.T @ (apart * shares[:, np.newaxis].astype(np.float32))).astype(np.float64)
    sums = np.zeros((width, width))
    for start in range(0, len(several), _USERS):
        part = several[start : start + _USERS]
        weights = np.repeat(part.sizes() ** -0.5, part.sizes()).astype(np.float32)
        # All pairs of a user's items at once, each with itself as well.
        joint = scipy.sparse.csr_array((weights, part.items, part.indptr), shape=(len(part), len(vectors))) @ apart
        sums += joint.T @ joint
    # A user of n items, who has weight 1 / n for each, has n (n - 1) pairs of different ones.
    pairs = float((sizes - 1).sum())
    return total, (sums - total * len(several)) / pairs
