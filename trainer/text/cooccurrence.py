"""Co-consumption of languages and of items by the same users: counts, PPMI, vectors, maps and a plot.

Everything is computed from the training part. Counts are sparse for items and tiny for languages.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.figure import Figure
from scipy import linalg, sparse
from scipy.sparse.linalg import svds

from trainer.data.catalogue import Catalogue

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CoOccurrence:
    """Items and languages consumed together.

    Attributes:
        languages: L tags, sorted.
        items: Sparse int64 [N, N], the number of users whose sets contain both of two different items;
            symmetric, zero on the diagonal.
        language: int32 [N], index of each item's language in ``languages``.
        counts: Int64 [L, L], ``items`` summed by the languages of the two items: pairs of different
            items consumed by one user, ordered, so that a pair within one language counts twice.
    """

    languages: list[str]
    items: sparse.csr_array
    language: npt.NDArray[np.int32]
    counts: _Ints

    @classmethod
    def from_training(cls, positives: pl.DataFrame, catalogue: Catalogue) -> "CoOccurrence":
        """Counts the positives of a training part (user_id, item_id)."""
        languages = sorted(set(catalogue.languages))
        place = {tag: position for position, tag in enumerate(languages)}
        language = np.array([place[tag] for tag in catalogue.languages], np.int32)
        pairs = positives.select("user_id", "item_id").unique()
        users = pairs["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
        rows = catalogue.rows(pairs["item_id"])
        total = int(users.max()) + 1 if len(users) else 0
        held = sparse.csr_array(
            (np.ones(len(rows), np.int64), (users, rows)), shape=(total, len(catalogue)), dtype=np.int64
        )
        items = (held.T @ held).tocsr()
        items.setdiag(0)
        items.eliminate_zeros()
        by_language = sparse.csr_array(
            (np.ones(len(language), np.int64), (np.arange(len(language)), language)),
            shape=(len(catalogue), len(languages)),
        )
        counts = (by_language.T @ items @ by_language).toarray()
        return cls(languages, items, language, counts)

    def affinities(self) -> _Floats:
        """Float [L, L]: share of the column's language in co-consumption with items of the row's language.

        A language never consumed with anything else has a row of zeros.
        """
        totals = self.counts.sum(axis=1, keepdims=True)
        shares: _Floats = np.divide(self.counts, totals, out=np.zeros(self.counts.shape), where=totals > 0)
        return shares

    def language_vectors(self, dimension: int) -> _Floats:
        """Float [L, dimension]: PPMI of ``counts``, factorised; zero columns beyond the rank."""
        return factorise(ppmi(sparse.csr_array(self.counts)), dimension)

    def item_vectors(self, dimension: int) -> _Floats:
        """Float [N, dimension]: PPMI of ``items``, factorised. A cold item is zero."""
        return factorise(ppmi(self.items), dimension)

    def cross_language_pairs(self, least: int) -> npt.NDArray[np.int64]:
        """Int64 [P, 2] rows of items of two languages that are each other's best partner by PPMI.

        Mutual best partners are few and reliable; a popular item would be the best partner of many
        in one direction only.

        Args:
            least: Minimum number of users who consumed both.
        """
        weights = ppmi(self.items).tocoo()
        own, other = weights.coords
        shared = np.asarray(self.items[own, other]).ravel()
        kept = (self.language[own] != self.language[other]) & (shared >= least)
        own, other, value = own[kept], other[kept], weights.data[kept]
        # The highest PPMI first in each row; ties go to the lower item row.
        order = np.lexsort((other, -value, own))
        rows, first = np.unique(own[order], return_index=True)
        best = np.full(self.items.shape[0], -1, np.int64)
        best[rows] = other[order][first]
        mutual = [(row, best[row]) for row in rows if best[best[row]] == row and row < best[row]]
        return np.array(mutual, np.int64).reshape(-1, 2)


def ppmi(counts: sparse.csr_array) -> sparse.csr_array:
    """Positive pointwise mutual information of symmetric counts (Levy & Goldberg, 2014, eq. 3 and 9).

    ``max(0, log(c_ij c / (c_i c_j)))`` with natural logarithms; a pair that never occurs is 0.
    """
    total = float(counts.sum())
    rows = np.asarray(counts.sum(axis=1), np.float64).ravel()
    found = sparse.coo_array(counts)
    own, other = found.coords
    value = np.log(found.data * total / (rows[own] * rows[other])) if total else np.zeros(0)
    kept = value > 0
    return sparse.csr_array((value[kept], (own[kept], other[kept])), shape=counts.shape)


def factorise(matrix: sparse.csr_array, dimension: int) -> _Floats:
    """Truncated singular value decomposition, ``U sqrt(S)``: float [n, dimension].

    Columns beyond the matrix's size or rank are zero. Signs are fixed (the largest entry of a column
    is positive), so that the result is unique.
    """
    size = min(matrix.shape)
    vectors = np.zeros((matrix.shape[0], dimension))
    if size == 0 or matrix.nnz == 0:
        return vectors
    wanted = min(dimension, size)
    if wanted < size:
        left, values, _ = svds(matrix.astype(np.float64), k=wanted, v0=np.ones(size))
    else:
        left, values, _ = linalg.svd(matrix.toarray(), full_matrices=False)
    order = np.argsort(-values)[:wanted]
    values = np.where(values[order] > 1e-10 * values.max(), values[order], 0.0)
    found = left[:, order] * np.sqrt(values)
    signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
    vectors[:, : len(order)] = found * np.where(signs == 0, 1.0, signs)
    return vectors


def procrustes(source: npt.NDArray[np.floating], target: npt.NDArray[np.floating]) -> _Floats:
    """The rotation Q [T, T] that brings ``source Q`` closest to ``target`` (Schönemann, 1966).

    Args:
        source: [P, T] vectors of one language.
        target: [P, T], row i being the counterpart of row i of ``source``.
    """
    rotation, _ = linalg.orthogonal_procrustes(np.asarray(source, np.float64), np.asarray(target, np.float64))
    return np.asarray(rotation)


def anchored_procrustes(source: npt.NDArray[np.floating], target: npt.NDArray[np.floating], anchor: float) -> _Floats:
    """`procrustes`, regularised towards the identity where the pairs give no information.

    With P pairs in T > P dimensions, the rotation of the rest is arbitrary, which would scramble every
    text outside their span. So the problem gets T additional pairs, the unit vectors mapped to themselves:
    it minimises ``|S Q - T|^2 + anchor |Q - I|^2``, whose solution is the polar factor of
    ``S' T + anchor I``.

    Args:
        source: [P, T].
        target: [P, T].
        anchor: Weight of the identity, in units of the pairs' squared lengths; above 0.
    """
    width = source.shape[1]
    identity = np.sqrt(anchor) * np.eye(width)
    return procrustes(np.concatenate([source, identity]), np.concatenate([target, identity]))


def affinity_plot(languages: Sequence[str], affinities: _Floats, counts: _Ints) -> bytes:
    """A heat map (PNG) of `CoOccurrence.affinities`, annotated with the shares."""
    size = len(languages)
    figure = Figure(figsize=(3.0 + 0.55 * size, 2.4 + 0.5 * size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(affinities, vmin=0.0, vmax=1.0, cmap="Blues")
    names = [f"{tag} ({total:,})" for tag, total in zip(languages, counts.sum(axis=1), strict=True)]
    axes.set_xticks(range(size), list(languages))
    axes.set_yticks(range(size), names)
    axes.set_xlabel("consumed with it")
    axes.set_ylabel("an item in (pairs)")
    axes.set_title("Share of languages consumed with each language", fontsize=10)
    for row in range(size if size <= 25 else 0):
        for column in range(size):
            share = affinities[row, column]
            axes.text(
                column,
                row,
                f"{share:.2f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share > 0.5 else "black",
            )
    figure.colorbar(image, ax=axes, label="share")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
