"""The largest eigenvalues of matrices that are only multiplied with: of item similarities too large to be written out.

With G = X'X the items' co-occurrences, V its eigenvectors and s its eigenvalues, (G + r I)^-1 is (I - V F V') / r for
F = s / (s + r). So the partial correlations of items are the off-diagonal entries of B B' for
B = diag(1 - h)^-1/2 V F^1/2, where h_i = (V F V')_ii is an item's leverage. Eigenvalues far below r hardly count: a
part of the spectrum of a sparse matrix, which takes a few passes over the positives, replaces an inverse.
"""

import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse

_LOG = logging.getLogger(__name__)
_Array = npt.NDArray[Any]
# Users at a time.
USERS: Final = 1 << 15
# Further directions of the subspace.
_SPARE: Final = 64
# Power iterations for the co-occurrences, most of whose eigenvalues are close to each other.
_PASSES: Final = 4
# Power iterations on the subspace; each reduces the contribution of the smaller eigenvalues.
_POWER: Final = 8


class LowRank(NamedTuple):
    """A similarity of V items: B B' less a diagonal, by which items are not similar to themselves.

    Attributes:
        factors: B, float32 [V, K].
        diagonal: Float32 [V], of the exact similarity's B B'.
    """

    factors: npt.NDArray[np.float32]
    diagonal: npt.NDArray[np.float32]

    def eigenpairs(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Eigenvalues [K], ascending, and vectors [V, K] among the combinations of B's columns.

        Others would have only the diagonal, without what is left out of B B'.
        """
        basis, _ = np.linalg.qr(self.factors)
        inside = basis.T @ self.factors
        inner = inside @ inside.T - basis.T @ (self.diagonal[:, np.newaxis] * basis)
        values, vectors = scipy.linalg.eigh(inner.astype(np.float64))
        return values, basis @ vectors.astype(np.float32)


class Spectrum(NamedTuple):
    """The largest eigenvalues of the co-occurrences of V items.

    Attributes:
        values: Float64 [K], largest first.
        vectors: Float32 [V, K].
        rest: Float64 [V], the diagonal of what they leave out.
    """

    values: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float32]
    rest: npt.NDArray[np.float64]

    @classmethod
    def of(cls, matrix: scipy.sparse.csr_array, count: int) -> "Spectrum":
        """Of users x items [U, V], 1 if a user has an item: at most ``count`` eigenvalues."""
        users, size = matrix.shape
        single = matrix.astype(np.float32)
        parts = [single[start : start + USERS] for start in range(0, users, USERS)]

        def times(other: _Array) -> _Array:
            product = np.zeros(other.shape, np.float32)
            for part in parts:
                product += part.T @ (part @ other)
            return product

        title, kept = f"Linear model, co-occurrences of {size:,} items", min(count, size)
        values, vectors = largest(
            times, size, kept, np.float32, spare=min(_SPARE, size - kept), title=title, passes=_PASSES
        )
        values, vectors = np.maximum(values[: -kept - 1 : -1], 0.0), vectors[:, : -kept - 1 : -1].astype(np.float32)
        own = np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel()
        return cls(values, vectors, np.maximum(own - np.square(vectors) @ values, 0.0))

    def partial_correlations(self, regularization: float) -> LowRank:
        """Of the items, as of `trainer.scorers.linear.partial_correlations`."""
        shares = self.values / (self.values + regularization)
        # What is left out has eigenvalues up to the smallest of these.
        leverage = np.square(self.vectors) @ shares + self.rest / (self.values[-1] + regularization)
        scale = np.sqrt(np.maximum(1.0 - leverage, 1e-6))
        factors = (self.vectors * np.sqrt(shares) / scale[:, np.newaxis]).astype(np.float32)
        return LowRank(factors, (leverage / np.square(scale)).astype(np.float32))


def largest(
    times: Callable[[_Array], _Array],
    size: int,
    count: int,
    kind: type[np.floating],
    *,
    spare: int,
    title: str | None = None,
    passes: int = _POWER,
) -> tuple[npt.NDArray[np.float64], _Array]:
    """The largest eigenvalues by magnitude of a symmetric matrix, and more.

    They come from a random subspace that is multiplied by it several times (Halko et al., 2011, arXiv 0909.4061,
    algorithm 4.4).

    Args:
        times: Product of the matrix with [V, C].
        size: V.
        count: How many are wanted.
        kind: Type of the numbers.
        spare: Further directions of the subspace, for accuracy.
        title: What to call the work in the log; None: it is short.
        passes: Number of multiplications.

    Returns:
        Values [count + spare], ascending, and vectors [V, count + spare].
    """
    basis = np.random.default_rng(0).normal(size=(size, count + spare)).astype(kind)
    for turn in range(passes):
        basis, _ = np.linalg.qr(times(basis))
        if title is not None:
            _LOG.info("%s: pass %d of %d.", title, turn + 1, passes)
    inner = basis.T @ times(basis)
    values, vectors = scipy.linalg.eigh(0.5 * (inner + inner.T).astype(np.float64))
    return values, basis @ vectors.astype(kind)
